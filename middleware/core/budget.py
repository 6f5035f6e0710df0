"""How many retries there may be: a share of the requests of a sliding window, and a floor. No I/O.

Where every call fails, a policy without such a bound sends each of them as often as it may, and
multiplies the outage (Site Reliability Engineering, 2016, chapter 21).
"""

from __future__ import annotations

SLOTS = 10
"""Parts of the window: it slides by one of them at a time."""


class RetryBudget:
    """Retries may be `ratio` of the requests in the last `window` seconds, and `floor` besides.

    Since it was made, retries are at most `ratio` times the requests plus `floor` for each SLOTS
    slots begun: none earns twice, for a retry is counted at least as long as what earned it.
    now: seconds, never going back.
    """

    __slots__ = ("_ends", "_floor", "_number", "_ratio", "_requests", "_retries", "_slot_s")

    def __init__(self, ratio: float, window: float, floor: int) -> None:
        self._ratio = ratio
        self._floor = floor
        self._slot_s = window / SLOTS
        self._number = -1  # of the slot under way, counted from time 0
        self._ends = 0.0
        self._requests = [0] * SLOTS
        self._retries = [0] * SLOTS

    def offered(self, now: float) -> None:
        """A request came: it earns its share of a retry."""
        if now >= self._ends:
            self._slide(now)
        self._requests[self._number % SLOTS] += 1

    def take(self, now: float) -> bool:
        """Whether one more retry may be; it is then spent."""
        if now >= self._ends:
            self._slide(now)
        if sum(self._retries) + 1 > self._floor + self._ratio * sum(self._requests):
            return False
        self._retries[self._number % SLOTS] += 1
        return True

    def _slide(self, now: float) -> None:
        """Empties the slots that have left the window."""
        number = int(now / self._slot_s)
        for passed in range(max(self._number + 1, number - SLOTS + 1), number + 1):
            self._requests[passed % SLOTS] = 0
            self._retries[passed % SLOTS] = 0
        self._number = max(self._number, number)
        self._ends = (self._number + 1) * self._slot_s
