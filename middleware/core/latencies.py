"""Quantiles of the last few latencies, exact. No I/O."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from math import ceil

KEPT = 512
"""Latencies that a quantile is taken of: the last so many."""


class Latencies:
    """The last KEPT of them, in the order they came and in order of size."""

    __slots__ = ("_came", "_sorted")

    def __init__(self) -> None:
        self._came: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._came)

    def add(self, seconds: float) -> None:
        if len(self._came) == KEPT:
            oldest = self._came.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._came.append(seconds)
        insort(self._sorted, seconds)

    def quantile(self, share: float) -> float:
        """The smallest that `share` of them, 0 to 1, do not exceed. Raises IndexError for none."""
        return self._sorted[max(0, ceil(share * len(self._sorted)) - 1)]
