"""When to leave a store alone: pure, the time is passed in as `now` (seconds, monotonic)."""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """closed: calls pass. open: they are skipped. half-open: one trial is under way."""

    CLOSED = auto()
    OPEN = auto()
    HALF_OPEN = auto()


class Breaker:
    """Opens after `failures` in a row or one told as `at_once`, then allows one trial at a time.

    first: seconds until the first trial. Each failed trial doubles them, up to `most`; so does
    opening again before it has been closed for `most`, or a store that answers only trials would
    cost its callers a timeout every `first`. Verdicts carry the `turn` that their call began in;
    one of an earlier turn says nothing of this state and is ignored.
    """

    # fmt: off
    __slots__ = (
        "_closed_at", "_delay", "_failed", "_failures", "_first", "_most", "_until", "opened_at",
        "state", "turn",
    )
    # fmt: on

    def __init__(self, failures: int = 3, first: float = 0.1, most: float = 5.0) -> None:
        self._failures = failures
        self._first = first
        self._most = most
        self._failed = 0
        self._delay = 0.0
        self._until = 0.0
        self._closed_at: float | None = None
        self.opened_at = 0.0
        self.state = State.CLOSED
        self.turn = 0

    def due(self, now: float) -> bool:
        """Whether whoever asks is to make a trial; told to one only."""
        if self.state is not State.OPEN or now < self._until:
            return False
        self._turn(State.HALF_OPEN)
        return True

    def succeeded(self, turn: int, now: float) -> bool:
        """True when this closed it."""
        if turn != self.turn:
            return False
        self._failed = 0
        if self.state is State.CLOSED:
            return False
        self._closed_at = now
        self._turn(State.CLOSED)
        return True

    def failed(self, turn: int, now: float, at_once: bool = False) -> bool:
        """True when this opened it; not where it only failed a trial."""
        if turn != self.turn:
            return False
        self._failed += 1
        trial = self.state is State.HALF_OPEN
        if not trial and not at_once and self._failed < self._failures:
            return False
        again = self._closed_at is not None and now - self._closed_at < self._most
        self._delay = min(self._delay * 2, self._most) if trial or again else self._first
        self._until = now + self._delay
        self._failed = 0
        if not trial:
            self.opened_at = now
        self._turn(State.OPEN)
        return not trial

    def abandoned(self, turn: int) -> None:
        """A call ended without a verdict; if it was the trial, the next one may be."""
        if turn == self.turn and self.state is State.HALF_OPEN:
            self._turn(State.OPEN)

    def _turn(self, state: State) -> None:
        self.state = state
        self.turn += 1
