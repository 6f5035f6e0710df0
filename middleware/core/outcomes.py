"""How calls ended of late, and whether that is reason to make no more of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

BUCKETS = 10
"""Pieces of a window: a call counts in it for nine to ten tenths of its length."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When a circuit opens, and how it is tried again. Times in seconds; None: not looked at."""

    window: float = 10.0
    min_calls: int = 10
    error_ratio: float | None = 0.5
    slow_ratio: float | None = 0.9
    slow_after: float = 1.0
    consecutive: int | None = 5
    open_for: float = 5.0
    max_open_for: float = 60.0
    probes: int = 3

    def reason(self, window: Window, in_a_row: int) -> str | None:
        """Why to open, in words; None: there is no reason. in_a_row: calls that failed so."""
        if self.consecutive is not None and in_a_row >= self.consecutive:
            return f"{in_a_row} calls in a row failed"
        calls = window.calls
        if calls < self.min_calls:
            return None
        if self.error_ratio is not None and window.failures / calls >= self.error_ratio:
            return f"{window.failures} of {calls} calls failed"
        if self.slow_ratio is not None and window.slow / calls >= self.slow_ratio:
            return f"{window.slow} of {calls} calls took over {self.slow_after:g} s to answer"
        return None


class Bucket:
    """The calls of one piece of a window. live: they still count."""

    __slots__ = ("calls", "failures", "index", "live", "slow")

    def __init__(self, index: int) -> None:
        self.index = index
        self.calls = 0
        self.failures = 0
        self.slow = 0
        self.live = True


class Window:
    """Sums over the last `seconds`. `now` never goes back."""

    __slots__ = ("_buckets", "_newest", "_piece", "calls", "failures", "slow")

    def __init__(self, seconds: float) -> None:
        self._piece = seconds / BUCKETS
        self._buckets: deque[Bucket] = deque()
        self._newest: Bucket | None = None
        self.calls = 0
        self.failures = 0
        self.slow = 0

    def add(self, now: float, failed: bool = False, slow: bool = False) -> Bucket:
        """Counts one call; the bucket is what `take_back` needs to undo it."""
        index = int(now / self._piece)
        bucket = self._newest
        if bucket is None or bucket.index != index:
            bucket = self._turn(index)
        bucket.calls += 1
        self.calls += 1
        if failed:
            bucket.failures += 1
            self.failures += 1
        if slow:
            bucket.slow += 1
            self.slow += 1
        return bucket

    def take_back(self, bucket: Bucket, slow: bool) -> None:
        """Undoes what was counted as one call that did not fail."""
        if not bucket.live:
            return
        bucket.calls -= 1
        self.calls -= 1
        if slow:
            bucket.slow -= 1
            self.slow -= 1

    def advance(self, now: float) -> None:
        """Forgets what is too old by now."""
        oldest = int(now / self._piece) - BUCKETS
        buckets = self._buckets
        while buckets and buckets[0].index <= oldest:
            self._forget(buckets.popleft())
        if not buckets:
            self._newest = None

    def clear(self) -> None:
        while self._buckets:
            self._forget(self._buckets.popleft())
        self._newest = None

    def _turn(self, index: int) -> Bucket:
        buckets = self._buckets
        while buckets and buckets[0].index <= index - BUCKETS:
            self._forget(buckets.popleft())
        self._newest = bucket = Bucket(index)
        buckets.append(bucket)
        return bucket

    def _forget(self, bucket: Bucket) -> None:
        bucket.live = False
        self.calls -= bucket.calls
        self.failures -= bucket.failures
        self.slow -= bucket.slow
