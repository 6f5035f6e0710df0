"""Slow start: how much of its share an endpoint gets that came back. No I/O; `now` in seconds."""

from __future__ import annotations

LEAST = 0.1
"""Share of its share that an endpoint gets at once."""


class Ramp:
    """From LEAST to all of it over `length` seconds, in a straight line.

    Of the requests for which it could be chosen it takes that share, spread evenly; and its
    requests in flight stay under that share of the mean, one always allowed.
    """

    __slots__ = ("_began", "_credit", "length")

    def __init__(self, length: float) -> None:
        self.length = length
        self._began: float | None = None
        self._credit = 0.0

    def begin(self, now: float) -> None:
        self._began = now
        self._credit = 1.0

    def share(self, now: float) -> float:
        """Between LEAST and 1; 1 where it never began or is over."""
        if self._began is None:
            return 1.0
        elapsed = now - self._began
        if elapsed >= self.length:
            self._began = None
            return 1.0
        return max(LEAST, elapsed / self.length)

    def takes(self, now: float, busy: int, mean: float) -> bool:
        """Whether it may be chosen for this request. busy: its requests in flight; mean: of all."""
        share = self.share(now)
        if share >= 1.0:
            return True
        self._credit = min(self._credit + share, 2.0)
        if self._credit < 1.0 or busy + 1 > max(1.0, share * (mean + 1)):
            return False
        self._credit -= 1.0
        return True
