"""A map bounded by bytes: what was used longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

V = TypeVar("V")

OVERHEAD = 512
"""Bytes counted for each item besides key and value: dict entry, object headers, bookkeeping."""


class LRU(Generic[V]):
    """key -> value. `size_of` says how many bytes a value takes; the sum, with each key and
    OVERHEAD, never exceeds `max_bytes`, not even between two calls.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[V], int]) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.evicted = 0
        self._size_of = size_of
        self._items: OrderedDict[bytes, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: bytes) -> V | None:
        """The value, now the most recently used, or None."""
        item = self._items.get(key)
        if item is None:
            return None
        self._items.move_to_end(key)
        return item[0]

    def put(self, key: bytes, value: V) -> bool:
        """Stores `value`, making room first. False, and nothing evicted, where it cannot fit."""
        size = len(key) + self._size_of(value) + OVERHEAD
        self.pop(key)
        if size > self.max_bytes:
            return False
        while self.bytes + size > self.max_bytes:
            _, (_, freed) = self._items.popitem(last=False)
            self.bytes -= freed
            self.evicted += 1
        self._items[key] = (value, size)
        self.bytes += size
        return True

    def pop(self, key: bytes) -> V | None:
        item = self._items.pop(key, None)
        if item is None:
            return None
        self.bytes -= item[1]
        return item[0]

    def clear(self) -> None:
        self._items.clear()
        self.bytes = 0

    def items(self) -> Iterator[tuple[bytes, V, int]]:
        """(key, value, bytes), the most recently used first; of a copy."""
        for key, (value, size) in reversed(list(self._items.items())):
            yield key, value, size
