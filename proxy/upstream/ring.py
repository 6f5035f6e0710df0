"""Consistent hashing: a key keeps its endpoint while others come and go. No I/O.

Bounded loads are those of Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded
loads" (2016): an endpoint over its bound passes a key on to the next one on the ring.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from math import ceil
from struct import unpack
from typing import Generic, TypeVar

from .choice import C, LeastOutstanding, Policy

T = TypeVar("T")

POINTS = 256
"""Points of an endpoint on the ring: their shares then differ by about 6 %."""
LOWEST_BOUND = 4
"""Requests in flight that every endpoint may have, however few the others have."""


def hashed(*parts: bytes) -> int:
    """64 bits; the same in every process."""
    digest = blake2b(digest_size=8)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return int.from_bytes(digest.digest(), "big")


class Ring(Generic[T]):
    """Owners on a circle of 64-bit numbers, each at POINTS places that its name alone decides."""

    __slots__ = ("_owners", "_points", "count")

    def __init__(self, owners: Sequence[tuple[str, T]]) -> None:
        placed = {point: owner for name, owner in owners for point in _points(name)}
        self._points = sorted(placed)
        self._owners = [placed[point] for point in self._points]
        self.count = len(owners)

    def walk(self, key: int) -> Iterator[T]:
        """Every owner once, the one whose key it is first."""
        owners = self._owners
        size = len(owners)
        start = bisect_right(self._points, key)
        seen: list[T] = []
        for step in range(size):
            owner = owners[(start + step) % size]
            if owner not in seen:
                yield owner
                seen.append(owner)
                if len(seen) == self.count:
                    return


def _points(name: str) -> Iterator[int]:
    for number in range(POINTS // 8):
        yield from unpack(">8Q", blake2b(b"%d:%b" % (number, name.encode())).digest())


class Consistent(Policy[C]):
    """The key's own endpoint, or the next on the ring that is in `among` and under its bound.

    name: an endpoint's, which must not change. load: the bound, as a multiple of the mean of
    requests in flight, 1 or more; None: no bound. Without a key: the least outstanding.
    """

    def __init__(self, name: Callable[[C], str], load: float | None) -> None:
        self._name = name
        self._load = load
        self._ring: Ring[C] = Ring([])
        self._without_key: Policy[C] = LeastOutstanding()

    def members(self, members: Sequence[C]) -> None:
        self._ring = Ring([(self._name(one), one) for one in members])

    def pick(self, among: Sequence[C], key: int | None) -> C:
        if key is None:
            return self._without_key.pick(among, None)
        load = self._load
        bound = 0
        if load is not None:
            total = sum(one.busy for one in among)
            bound = max(LOWEST_BOUND, ceil(load * (total + 1) / len(among)))
        whole = len(among) == self._ring.count
        for one in self._ring.walk(key):
            if (whole or one in among) and (not bound or one.busy < bound):
                return one
        return self._without_key.pick(among, None)
