"""Where entries are: in this process, and behind it in a store that replicas share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..core.entry import Entry
from ..core.lru import LRU


class Tier(Protocol):
    """A place for entries. Never raises: what cannot be had is not there."""

    name: str

    async def get(self, key: bytes) -> Entry | None: ...
    async def set(self, key: bytes, entry: Entry) -> None: ...
    async def delete(self, key: bytes) -> None: ...


def size_of(entry: Entry) -> int:
    """Bytes that an entry takes, as counted against a bound."""
    fields = (*entry.headers, *entry.trailers, *entry.vary)
    return (
        len(entry.body)
        + sum(len(name) + len(value) + 128 for name, value in fields)
        + 8 * len(entry.pieces)
        + len(entry.route)
        + len(entry.model)
    )


class Tiers:
    """Memory first, then the stores behind it. What a store gives is kept in memory, too."""

    def __init__(self, memory: LRU[Entry] | None, stores: Sequence[Tier]) -> None:
        self.memory = memory
        self.stores = stores

    def near(self, key: bytes) -> Entry | None:
        """What memory has: no await on the way of a hit."""
        return self.memory.get(key) if self.memory is not None else None

    async def far(self, key: bytes) -> Entry | None:
        """What the stores have."""
        for store in self.stores:
            entry = await store.get(key)
            if entry is not None:
                if self.memory is not None:
                    self.memory.put(key, entry)
                return entry
        return None

    def keep(self, key: bytes, entry: Entry) -> None:
        """Into memory."""
        if self.memory is not None:
            self.memory.put(key, entry)

    async def share(self, key: bytes, entry: Entry) -> None:
        """Into the stores."""
        for store in self.stores:
            await store.set(key, entry)

    async def delete(self, key: bytes) -> None:
        if self.memory is not None:
            self.memory.pop(key)
        for store in self.stores:
            await store.delete(key)
