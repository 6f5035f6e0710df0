"""Where entries are: in this process, and behind it in a store that replicas share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from proxy.chain import Store

from ..core.entry import Entry
from ..core.envelope import VERSION, BadEnvelope, pack, unpack
from ..core.lru import LRU
from .purges import Purges

MAX_SHARING = 256
"""Entries on their way into the stores at once; what comes on top is kept in memory alone."""
MAX_SHARING_BYTES = 64 * 1024 * 1024
"""Their bytes, all together."""
MAX_SKEW = 5.0
"""Seconds by which another replica's clock may be ahead; what seems newer still is not used."""


class Tier(Protocol):
    """A place for entries. Never raises: what cannot be had is not there."""

    name: str

    async def get(self, key: bytes) -> Entry | None: ...
    async def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]: ...
    async def set(self, key: bytes, entry: Entry) -> None: ...
    async def delete(self, key: bytes) -> None: ...


def size_of(entry: Entry) -> int:
    """Bytes that an entry takes, as counted against a bound."""
    fields = (*entry.headers, *entry.trailers, *entry.vary)
    return (
        len(entry.body)
        + sum(len(name) + len(value) + 128 for name, value in fields)
        + sum(len(tag) + 64 for tag in entry.tags)
        + 8 * len(entry.pieces)
        + len(entry.route)
        + len(entry.model)
    )


class RedisTier:
    """Entries in a store of bytes, each under a key that tells the version of its form.

    most: bytes of the largest one. now: wall-clock seconds.
    """

    # Replicas of two versions each keep their own: neither would take the other's for damaged.
    _PREFIX = b"entry:%d:" % VERSION

    def __init__(self, store: Store, most: int, now: Callable[[], float]) -> None:
        self.name = store.name
        self.poisoned = 0
        """Values that were no entry, and were deleted."""
        self._store = store
        self._most = most
        self._now = now

    @property
    def up(self) -> bool:
        return self._store.up

    async def get(self, key: bytes) -> Entry | None:
        return await self._read(key, await self._store.get(self._PREFIX + key))

    async def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """In one call to the store."""
        found = await self._store.get_many([self._PREFIX + key for key in keys])
        return [await self._read(key, data) for key, data in zip(keys, found, strict=True)]

    async def _read(self, key: bytes, data: bytes | None) -> Entry | None:
        if data is None:
            return None
        try:
            entry = unpack(data, self._store.decompress, self._most)
        except BadEnvelope:
            self.poisoned += 1
            await self._store.delete(self._PREFIX + key)
            return None
        age = self._now() - entry.stored_at
        return entry if -MAX_SKEW <= age <= entry.keep else None

    async def set(self, key: bytes, entry: Entry) -> None:
        left = entry.stored_at + entry.keep - self._now()
        if left <= 0:
            return
        data = pack(entry, self._store.compress)
        if len(data) <= self._most:
            await self._store.set(self._PREFIX + key, data, left)

    async def delete(self, key: bytes) -> None:
        await self._store.delete(self._PREFIX + key)


class Tiers:
    """Memory first, then the stores behind it. What a store gives is kept in memory, too.

    What a purge covers is in neither.
    """

    def __init__(self, memory: LRU[Entry] | None, stores: Sequence[Tier], purges: Purges) -> None:
        self.memory = memory
        self.stores = stores
        self.purges = purges
        self.dropped = 0
        """Entries that did not get into the stores because too many were on their way."""
        self._looking: dict[bytes, asyncio.Future[Entry | None]] = {}
        self._sharing = 0
        self._sharing_bytes = 0

    def near(self, key: bytes) -> Entry | None:
        """What memory has: no await on the way of a hit."""
        entry = self.memory.get(key) if self.memory is not None else None
        if entry is not None and self.purges.marks and self.purges.covers(key, entry):
            assert self.memory is not None
            self.memory.pop(key)
            return None
        return entry

    async def far(self, key: bytes) -> Entry | None:
        """What the stores have; one look at a time, however many ask for it."""
        if not self.stores:
            return None
        while (looking := self._looking.get(key)) is not None:
            try:
                return await asyncio.shield(looking)
            except _GivenUp:
                continue  # whoever looked has left
        looking = self._looking[key] = asyncio.get_running_loop().create_future()
        try:
            entry = await self._far(key)
            looking.set_result(entry)
            return entry
        finally:
            del self._looking[key]
            if not looking.done():
                looking.set_exception(_GivenUp())
                looking.exception()  # that nobody asked for it is no mistake

    async def _far(self, key: bytes) -> Entry | None:
        if not self.purges.known:
            return None
        for store in self.stores:
            entry = await self._taken(store, key, await store.get(key))
            if entry is not None:
                return entry
        return None

    async def far_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """What the stores have of these, in their order."""
        found: dict[bytes, Entry] = {}
        for store in self.stores if self.purges.known else ():
            left = [key for key in keys if key not in found]
            if left:
                for key, entry in zip(left, await store.get_many(left), strict=True):
                    if (taken := await self._taken(store, key, entry)) is not None:
                        found[key] = taken
        return [found.get(key) for key in keys]

    async def _taken(self, store: Tier, key: bytes, entry: Entry | None) -> Entry | None:
        """The entry that a store gave, into memory, unless it is purged or a newer one is there."""
        if entry is None:
            return None
        if self.purges.marks and self.purges.covers(key, entry):
            await store.delete(key)
            return None
        newest = self.near(key)
        if newest is not None and newest.stored_at > entry.stored_at:
            return newest
        self.keep(key, entry)
        return entry

    def keep(self, key: bytes, entry: Entry) -> None:
        """Into memory."""
        if self.memory is not None and not (self.purges.marks and self.purges.covers(key, entry)):
            self.memory.put(key, entry)

    async def share(self, key: bytes, entry: Entry) -> bool:
        """Into the stores. False where the entry is not let in: too many are, or it is purged."""
        if self.purges.marks and self.purges.covers(key, entry):
            return False
        size = size_of(entry)
        if self._sharing >= MAX_SHARING or self._sharing_bytes + size > MAX_SHARING_BYTES:
            self.dropped += 1
            return False
        self._sharing += 1
        self._sharing_bytes += size
        try:
            for store in self.stores:
                await store.set(key, entry)
        finally:
            self._sharing -= 1
            self._sharing_bytes -= size
        return True

    async def delete(self, key: bytes) -> None:
        if self.memory is not None:
            self.memory.pop(key)
        for store in self.stores:
            await store.delete(key)


class _GivenUp(Exception):
    """A look at the stores ended with the client it was for."""
