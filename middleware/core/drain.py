"""How fast a queue gets shorter, and so when it pays to come again."""

from __future__ import annotations

REMEMBERED = 64
"""Requests after which older ones count half."""


class Drain:
    """The pace at which requests leave a queue, measured while something waits. Times in seconds.

    An idle hour does not make the pace slow: it does not count.
    """

    __slots__ = ("_busy", "_served", "_since")

    def __init__(self) -> None:
        self._served = 0.0
        self._busy = 0.0
        self._since: float | None = None

    def filled(self, now: float) -> None:
        """Something waits from here on."""
        self._since = now

    def served(self, now: float, waiting: int) -> None:
        """One left the queue; so many are still in it."""
        if self._since is not None:
            self._busy += now - self._since
        self._since = now if waiting else None
        self._served += 1
        if self._served >= REMEMBERED:
            self._served /= 2
            self._busy /= 2

    def emptied(self) -> None:
        """The last one left without being served: the time it waited tells nothing."""
        self._since = None

    def seconds(self, count: int, now: float) -> float:
        """In which so many will have left. Where none ever did, each takes all the time so far."""
        busy = self._busy + (now - self._since if self._since is not None else 0.0)
        return count * busy / max(self._served, 1.0)
