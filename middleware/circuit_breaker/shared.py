"""What replicas on one store tell each other: which circuits are open, and who may try one.

A request never waits for the store. It reads the circuit in this process; a task in the
background tells the others what changed here, and looks every `POLL` for what they have changed.
No clock is compared: a circuit that another replica opened is open here for as long, from when
this one has heard of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from math import inf, isfinite
from typing import Any

import orjson
from pybreaker import STATE_CLOSED, STATE_OPEN

from proxy.chain import Store
from proxy.errors import StoreDown

from ..core.circuit import PATIENCE, Circuit
from ..core.key import digest
from .circuits import Circuits

POLL = 0.5
"""Seconds between two looks at what other replicas have told."""
LEASE = 5.0
"""Seconds for which one replica alone may try a circuit that is due, unless it tells before."""
MAX_TOLD = 256
"""Bytes of what is told of a circuit; more than that was not told by remora."""

_STATE, _LEASE = b"circuit:1:", b"circuit-probe:1:"


class Shared:
    """now: seconds, monotonic."""

    def __init__(self, store: Store, now: Callable[[], float], circuits: Circuits) -> None:
        self._store = store
        self._now = now
        self._circuits = circuits
        self._me = os.urandom(8).hex()
        self._number = 0
        self._unsaid: dict[Circuit, tuple[bytes, float]] = {}
        """What is to be told of each, and when that is over."""
        self._heard: dict[bytes, bytes] = {}
        self._leases: set[bytes] = set()
        self._news = asyncio.Event()

    def changed(self, circuit: Circuit, new: str) -> None:
        """A circuit has changed here. What a hand holds open is this remora's own affair."""
        if circuit.held or new not in (STATE_OPEN, STATE_CLOSED):
            return
        self._number += 1
        told = {"state": new, "by": self._me, "n": self._number}
        # A closing must be known until all that was told before it is over; an opening for as long
        # as it lasts, and not to whoever comes when those who knew it are gone.
        over = self._now() + 2 * circuit.rules.max_open_for
        if new == STATE_OPEN:
            told["for"] = circuit.until - self._now()
            told["delay"] = circuit.delay
            over = circuit.until + PATIENCE
        self._unsaid[circuit] = orjson.dumps(told), over
        self._news.set()

    async def keep_in_step(self) -> None:
        """Until cancelled."""
        while True:
            self._news.clear()
            await self.sync()
            try:
                async with asyncio.timeout(self._pause()):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def sync(self) -> None:
        """Tells what is new here, hears what is new elsewhere, asks for leave where it is due."""
        keys = {
            circuit: digest((place.route.encode(), place.upstream.encode(), endpoint.encode()))
            for place, endpoint, circuit in self._circuits
        }
        await self._tell(keys)
        await self._hear(keys)
        await self._ask(keys)

    async def _tell(self, keys: Mapping[Circuit, bytes]) -> None:
        for circuit, news in list(self._unsaid.items()):
            key, (data, over) = keys.get(circuit), news
            left = over - self._now()
            if key is not None and left > 0:
                await self._store.set(_STATE + key, data, left)
                if not self._store.up:
                    return
                if key in self._leases:
                    self._leases.discard(key)
                    await self._store.compare_delete(_LEASE + key, self._me.encode())
            if self._unsaid.get(circuit) is news:
                del self._unsaid[circuit]

    async def _hear(self, keys: Mapping[Circuit, bytes]) -> None:
        if not keys:
            return
        found = await self._store.get_many([_STATE + key for key in keys.values()])
        heard: dict[bytes, bytes] = {}
        for (circuit, key), data in zip(keys.items(), found, strict=True):
            if data is None:
                continue
            heard[key] = data
            # What has changed here since is told next, and is newer.
            if data != self._heard.get(key) and circuit not in self._unsaid:
                self._take_over(circuit, read(data))
        self._heard = heard

    def _take_over(self, circuit: Circuit, told: dict[str, Any] | None) -> None:
        if told is None or told["by"] == self._me:
            return
        if told["state"] == STATE_CLOSED:
            circuit.close("another replica closed it", told=True)
        else:
            circuit.adopt(self._now(), told["for"], told["delay"])

    async def _ask(self, keys: Mapping[Circuit, bytes]) -> None:
        for circuit, key in keys.items():
            if not _waits(circuit, self._now()):
                continue
            until, now = circuit.until, self._now()
            try:
                granted = await self._store.add(_LEASE + key, self._me.encode(), LEASE)
            except StoreDown:
                if circuit.until == until:
                    circuit.granted = inf
                continue
            if granted:
                self._leases.add(key)
                if circuit.until == until:
                    circuit.granted = now + LEASE

    def _pause(self) -> float:
        """Seconds to the next look: at once where a circuit becomes due before."""
        now = self._now()
        due = [
            circuit.until - now
            for _, _, circuit in self._circuits
            if circuit.state == STATE_OPEN and circuit.until > now
        ]
        return min([POLL, *due])


def _waits(circuit: Circuit, now: float) -> bool:
    """Whether the circuit may be tried again, but for leave."""
    return circuit.state == STATE_OPEN and circuit.until <= now and circuit.granted <= now


def read(data: bytes) -> dict[str, Any] | None:
    """What a replica has told; None for anything else that a store may hold."""
    if len(data) > MAX_TOLD:
        return None
    try:
        told = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if type(told) is not dict or type(told.get("by")) is not str:
        return None
    if told.get("state") == STATE_CLOSED:
        return told
    if told.get("state") != STATE_OPEN:
        return None
    for part in ("for", "delay"):
        if type(told.get(part)) not in (int, float) or not isfinite(told[part]) or told[part] < 0:
            return None
    return told
