"""What is counted: an addition on the way, read when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Upper ends of the batch sizes told apart."""
WAITS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Upper ends, in seconds, of the waits told apart."""

KINDS = ("alone", "merged", "passed", "full", "late", "left")


class Tally:
    """One route. alone: requests sent as they are, with nobody else's items. merged: answered from
    a shared call, or from several. passed: none of the layer's business. full: refused, the queue
    being full. late: 504, having waited too long. left: their clients left before an answer.
    """

    __slots__ = (*KINDS, "duplicates", "items", "seconds", "sizes", "waits")

    def __init__(self) -> None:
        self.alone = self.merged = self.passed = self.full = self.late = self.left = 0
        self.items = 0
        """Sent to the server, in calls of any size."""
        self.duplicates = 0
        """Asked for and not sent, another in the call being the same."""
        self.sizes = [0] * (len(SIZES) + 1)
        self.waits = [0] * (len(WAITS) + 1)
        self.seconds = 0.0
        """That requests waited before they were sent."""

    def call(self, items: int) -> None:
        self.items += items
        self.sizes[bisect_left(SIZES, items)] += 1

    def waited(self, seconds: float) -> None:
        self.seconds += seconds
        self.waits[bisect_left(WAITS, seconds)] += 1


class Stats:
    """All routes of one layer."""

    def __init__(self) -> None:
        self.routes: dict[str, Tally] = {}

    def route(self, name: str) -> Tally:
        return self.routes.setdefault(name, Tally())

    def requests(self) -> Iterator[tuple[tuple[str, str], float]]:
        for name, tally in self.routes.items():
            for kind in KINDS:
                yield (name, kind), getattr(tally, kind)

    def items(self) -> Iterator[tuple[tuple[str], float]]:
        for name, tally in self.routes.items():
            yield (name,), tally.items

    def duplicates(self) -> Iterator[tuple[tuple[str], float]]:
        for name, tally in self.routes.items():
            yield (name,), tally.duplicates

    def calls(self) -> Iterator[tuple[tuple[str, str], float]]:
        """By the smallest of SIZES that holds them; `+Inf`: larger."""
        for name, tally in self.routes.items():
            for end, number in zip((*map(str, SIZES), "+Inf"), tally.sizes, strict=True):
                yield (name, end), number

    def waits(self) -> Iterator[tuple[tuple[str, str], float]]:
        """By the smallest of WAITS that holds them; `+Inf`: longer."""
        for name, tally in self.routes.items():
            for end, number in zip((*map(str, WAITS), "+Inf"), tally.waits, strict=True):
                yield (name, end), number

    def seconds(self) -> Iterator[tuple[tuple[str], float]]:
        for name, tally in self.routes.items():
            yield (name,), tally.seconds
