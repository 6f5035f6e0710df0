"""What was worked out once, remembered within a bound."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")

OVERHEAD = 1024
"""Bytes counted for each item besides what its key holds: tuples, dict entry, the value."""


class Memo(Generic[V]):
    """key -> value, of `max_bytes` at most: one more, and all is forgotten.

    Cheaper to look into than an LRU, which it need not be: what is forgotten is worked out anew.
    """

    __slots__ = ("_items", "bytes", "get", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._items: dict[Hashable, V] = {}
        self.get = self._items.get

    def __len__(self) -> int:
        return len(self._items)

    def put(self, key: Hashable, value: V, size: int) -> None:
        """size: bytes that the key holds. What is over the bound by itself is not remembered."""
        size += OVERHEAD
        if size > self.max_bytes:
            return
        if self.bytes + size > self.max_bytes:
            self._items.clear()
            self.bytes = 0
        if key not in self._items:
            self.bytes += size
        self._items[key] = value
