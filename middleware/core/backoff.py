"""How long to wait before the next try. No I/O, and no randomness of its own."""

from __future__ import annotations


class Backoff:
    """Waits that grow by `factor` from `first` up to `cap`, in seconds.

    jitter: the share of each that is left to chance, so that those who failed together do not
    come back together. 0: none, 1: all of it.
    """

    __slots__ = ("_cap", "_factor", "_first", "_jitter")

    def __init__(self, first: float, factor: float, cap: float, jitter: float) -> None:
        self._first = first
        self._factor = factor
        self._cap = cap
        self._jitter = jitter

    def wait(self, failures: int, chance: float) -> float:
        """Seconds to wait behind that many failures, 1 or more. chance: from 0 up to 1."""
        try:
            grown = min(self._cap, self._first * self._factor ** (failures - 1))
        except OverflowError:
            grown = self._cap
        return grown * (1 - self._jitter * chance)
