"""Several limits on one client at once: all of them let a request in, or none counts it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from limits import parse_many

from .window import WINDOWS, State, Window

_EXACT = 2**53


class Limit(NamedTuple):
    """text: as the file has it. amount: of requests or tokens, in `seconds`."""

    text: str
    amount: int
    seconds: int


def parse_limits(text: str) -> list[Limit]:
    """Reads `20/second`, `1000 per hour`, `500/2 minutes`, or several with `;` between them, as
    the library `limits` writes them. Raises ValueError.
    """
    try:
        items = parse_many(text)
    except ValueError:
        raise ValueError(
            f"`{text[:40]}` is not a limit; write 20/second, 1000/hour or 500/2 minutes"
        ) from None
    found = []
    for item in items:
        every = item.GRANULARITY.name
        if item.multiples > 1:
            every = f"{item.multiples} {every}s"
        limit = Limit(f"{item.amount}/{every}", item.amount, item.get_expiry())
        if limit.amount < 1:
            raise ValueError(f"`{limit.text[:40]}` lets nothing through; 1 is the least")
        if limit.amount * limit.seconds * 1000 > _EXACT:
            raise ValueError(f"`{limit.text[:40]}` is more than can be counted exactly")
        found.append(limit)
    return found


class Verdict(NamedTuple):
    """What became of a request, with one number a limit in each list.

    left: how much may still be taken. reset: milliseconds until all of it may. wait: milliseconds
    until this request fits. marks: where it was counted; empty where it was not.
    """

    admitted: bool
    left: Sequence[int]
    reset: Sequence[int]
    wait: Sequence[int]
    marks: Sequence[int]


class Quota:
    """Limits that are counted together, and what one client's account of them holds: a state for
    each. Times in milliseconds. `id` differs where accounts must not be mixed up.
    """

    __slots__ = ("id", "keep", "limits", "most", "strategy", "windows")

    def __init__(self, strategy: str, limits: Sequence[Limit], label: str = "") -> None:
        self.strategy = strategy
        self.limits = tuple(limits)
        self.windows: tuple[Window, ...] = tuple(
            WINDOWS[strategy](limit.amount, limit.seconds * 1000) for limit in limits
        )
        self.most = min(limit.amount for limit in limits)
        """The largest cost that can ever fit."""
        self.keep = 2 * max(window.span for window in self.windows)
        """Milliseconds after which an account that nobody touched says nothing any more."""
        told = repr((strategy, label, [(one.amount, one.seconds) for one in limits]))
        self.id = blake2b(told.encode(), digest_size=8).digest()

    def fresh(self) -> list[State]:
        return [[] for _ in self.windows]

    def take(self, states: list[State], cost: int, now: int) -> Verdict:
        """Counts `cost`, at most `most`, under every limit, or under none."""
        waits = []
        for window, state in zip(self.windows, states, strict=True):
            window.roll(state, now)
            waits.append(window.wait(state, cost, now))
        admitted = not any(waits)
        left, reset, marks = [], [], []
        for window, state in zip(self.windows, states, strict=True):
            if admitted:
                marks.append(window.take(state, cost, now))
            left.append(max(0, window.amount - window.used(state, now)))
            reset.append(window.reset(state, now))
        return Verdict(admitted, left, reset, waits, marks)

    def settle(self, states: list[State], marks: Sequence[int], delta: int, now: int) -> None:
        """Corrects what `take` counted at `marks` by `delta`."""
        for window, state, mark in zip(self.windows, states, marks, strict=True):
            window.roll(state, now)
            window.settle(state, mark, delta, now)
