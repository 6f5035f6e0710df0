"""When an endpoint whose requests fail is left alone, and how long. No I/O; `now` in seconds."""

from __future__ import annotations


class Ejection:
    """One endpoint's record.

    Faults in a row make it due. Each ejection is twice as long as the last one, up to a bound,
    unless the endpoint stayed in for as long as its last ejection took: then the first length
    again. On its return one fault is enough, until a request succeeds.

    era: grows with each change. What a request brings that was sent in another era says nothing
    about this one, however late it comes.
    """

    __slots__ = ("_consecutive", "_faults", "_length", "_max_time", "_returned", "_time", "era",
                 "out")  # fmt: skip

    def __init__(self, consecutive: int, time: float, max_time: float) -> None:
        self._consecutive = consecutive
        self._time = time
        self._max_time = max_time
        self._faults = 0
        self._length = 0.0
        self._returned = 0.0
        self.out = False
        self.era = 0

    def fault(self, era: int) -> bool:
        """A request of `era` failed; whether the endpoint is due to be ejected."""
        if self.out or era != self.era:
            return False
        self._faults += 1
        return self._faults >= self._consecutive

    def success(self, era: int) -> None:
        """A request of `era` succeeded."""
        if era == self.era:
            self._faults = 0

    def eject(self, now: float) -> float:
        """Out from `now`; for how many seconds."""
        if not self._length or now - self._returned >= self._length:
            self._length = min(self._time, self._max_time)
        else:
            self._length = min(2 * self._length, self._max_time)
        self.out = True
        self.era += 1
        return self._length

    def back(self, now: float) -> None:
        """In again."""
        self.out = False
        self.era += 1
        self._returned = now
        self._faults = self._consecutive - 1


def may_leave(out: int, members: int) -> bool:
    """Whether one more may be ejected where `out` of `members` are out already: at most half are,
    those counted that checks found unhealthy.
    """
    return out + 1 <= members // 2
