"""Groups in the order of a number, from which any may be taken out."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from .queue import Group

SLACK = 64
"""Entries of the heap that may be out of date besides as many as are not."""


class Ranking:
    """The group with the smallest rank is first, of equal ones the older. A step costs the
    logarithm of their number: what is out of date stays in the heap until it would be first.
    """

    __slots__ = ("_heap", "_ranks")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Group]] = []
        self._ranks: dict[Group, float] = {}

    def put(self, group: Group, rank: float) -> None:
        """Puts it in, or in another place."""
        ranks = self._ranks
        if ranks.get(group) == rank:
            return
        ranks[group] = rank
        heappush(self._heap, (rank, group.number, group))
        if len(self._heap) > 2 * len(ranks) + SLACK:
            self._heap = [(rank, group.number, group) for group, rank in ranks.items()]
            heapify(self._heap)

    def take(self, group: Group) -> None:
        """Takes it out, if it is there."""
        ranks = self._ranks
        if group in ranks:
            del ranks[group]
            if not ranks:
                self._heap.clear()

    def first(self) -> tuple[float, Group] | None:
        """Rank and group; None where there is none."""
        heap, ranks = self._heap, self._ranks
        while heap:
            rank, _, group = heap[0]
            if ranks.get(group) == rank:
                return rank, group
            heappop(heap)
        return None

    def __iter__(self) -> Iterator[Group]:
        return iter(self._ranks)
