"""One upstream call for all replicas: whoever holds the lease of a key makes it, others wait.

A replica that waits gets the answer from the store when all of it is there; within one process
a stream is followed as it comes (see `flight`). Without the store each replica goes on alone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from proxy.chain import Env, Handler, Store
from proxy.errors import StoreDown
from proxy.exchange import Request, Response

from ..core.entry import Entry

LEASE = 5.0
"""Seconds that a lease lasts unless renewed: how long others wait for a replica that died."""
NOTHING_FOR = 2.0
"""Seconds for which others need not wait: the answer was nothing to keep."""
FIRST_LOOK = 0.01
LAST_LOOK = 0.1
"""Seconds between two looks of a replica that waits: at first, and at most."""

_PREFIX = b"lease:"
_NOTHING = b"nothing"

Find = Callable[[], Awaitable[Entry | None]]
"""Looks for the stored answer that the call would bring."""


class Leases:
    """The leases of one process."""

    def __init__(self, store: Store, env: Env) -> None:
        self.store = store
        self.env = env
        self.held: set[Lease] = set()

    def of(self, key: bytes, next: Handler, find: Find) -> Lease:
        return Lease(self, key, next, find)

    async def close(self) -> None:
        """Gives all back, so that nobody waits for a process that stops."""
        for lease in list(self.held):
            await lease.release()


class Lease:
    """The place of one flight among the replicas. `call` is the handler that it flies by."""

    def __init__(self, leases: Leases, key: bytes, next: Handler, find: Find) -> None:
        self.found: Entry | None = None
        """The answer that another replica's call brought; the upstream was not asked."""
        self.worth_waiting: Callable[[], bool] = lambda: True
        """Whether the answer under way may still become one to keep."""
        self._leases = leases
        self._key = _PREFIX + key
        self._next = next
        self._find = find
        self._token = os.urandom(16)
        self._renewing: asyncio.Task[None] | None = None

    async def call(self, request: Request) -> Response:
        """The upstream's answer, or the one that another replica has got from it."""
        if await self._lead():
            return await self._next(request)
        entry = self.found
        assert entry is not None
        response = Response(entry.status, list(entry.headers), entry.body, entry.reason)
        response.trailers = list(entry.trailers)
        return response

    async def release(self, *, nothing: bool = False) -> None:
        """Gives the lease back, if it is held. nothing: no answer will come of this call."""
        if self not in self._leases.held:
            return
        if self._renewing is not None and self._renewing is not asyncio.current_task():
            self._renewing.cancel()
        if await self._leases.store.compare_delete(self._key, self._token) and nothing:
            await self._leases.store.set(self._key, _NOTHING, NOTHING_FOR)
        self._leases.held.discard(self)  # not before: `close` sees to what was cancelled here

    async def _lead(self) -> bool:
        """Whether to ask the upstream; False when `found` is set instead."""
        store = self._leases.store
        wait = FIRST_LOOK
        while True:
            # Before it is: whoever is cancelled here does not know, and gives it back unseen.
            self._leases.held.add(self)
            leads = False
            try:
                leads = await store.add(self._key, self._token, LEASE)
            except StoreDown:
                return True
            except asyncio.CancelledError:
                leads = True
                raise
            finally:
                if not leads:
                    self._leases.held.discard(self)
            if leads:
                self._renewing = self._leases.env.background(self._renew(), "cache lease")
            # Whoever led before may have stored it since this was found to be a miss.
            self.found = await self._find()
            if self.found is not None:
                await self.release()
                return False
            if leads:
                return True
            holder = await store.get(self._key)
            if holder == _NOTHING or (holder is None and not store.up):
                return True
            if holder is not None:
                await asyncio.sleep(wait)
                wait = min(2 * wait, LAST_LOOK)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LEASE / 3)
            if not self.worth_waiting():
                await self.release(nothing=True)
                return
            try:
                if not await self._leases.store.extend(self._key, self._token, LEASE):
                    self._leases.held.discard(self)  # another leads by now
                    return
            except StoreDown:
                pass  # it may be back before the lease has run out
