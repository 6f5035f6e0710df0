"""Policies that choose by load or by turn. No I/O, and nothing that is remembered of a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import random
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """An endpoint that may be chosen. busy: its requests in flight and those that wait."""

    @property
    def busy(self) -> int: ...


C = TypeVar("C", bound=Candidate)


class Policy(Protocol[C]):
    """Chooses one of `among`, which is never empty. key: what the request has to be near to, a
    64-bit number; None where it has nothing of the kind.
    """

    def members(self, members: Sequence[C]) -> None:
        """All there are from now on, whether they may be chosen or not."""
        return

    def pick(self, among: Sequence[C], key: int | None) -> C: ...


class LeastOutstanding(Policy[C]):
    """The one with the fewest requests in flight. Equals take turns, else the first endpoint would
    get all of a light load.
    """

    def __init__(self) -> None:
        self._turn = 0

    def pick(self, among: Sequence[C], key: int | None) -> C:
        count = len(among)
        turn = self._turn = (self._turn + 1) % count
        best = among[turn]
        least = best.busy
        # An idle one cannot be beaten. (tests/bench: pass)
        for step in range(1, count):
            if not least:
                break
            one = among[turn - step]
            if (busy := one.busy) < least:
                best, least = one, busy
        return best


class RoundRobin(Policy[C]):
    """One after the other, whatever they have to do."""

    def __init__(self) -> None:
        self._turn = -1

    def pick(self, among: Sequence[C], key: int | None) -> C:
        self._turn = (self._turn + 1) % len(among)
        return among[self._turn]


class PowerOfTwo(Policy[C]):
    """Two at random, of these the one with fewer requests in flight (Mitzenmacher, "The power of
    two choices in randomized load balancing", 2001). draw: numbers in [0, 1).
    """

    def __init__(self, draw: Callable[[], float] = random) -> None:
        self._draw = draw

    def pick(self, among: Sequence[C], key: int | None) -> C:
        count = len(among)
        first = int(self._draw() * count)
        one = among[first]
        if count == 1:
            return one
        # One of the others: the offset is never 0.
        other = among[(first + 1 + int(self._draw() * (count - 1))) % count]
        return other if other.busy < one.busy else one
