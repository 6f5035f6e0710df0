"""Model servers of known capacity, as arithmetic: time is passed in, nothing waits.

Both tell when the next answer is due, and are then asked whose it is.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Hashable


class SharedSlots:
    """Computes `slots` requests side by side at full speed; more share that speed evenly.

    penalty: what each request beyond `slots` costs of the whole speed, as memory that is swapped
    or a cache that is recomputed does. With n on it, each runs at
    min(1, slots / n) / (1 + penalty * max(0, n - slots)).
    """

    def __init__(self, slots: int, penalty: float = 0.0) -> None:
        self.slots = slots
        self.penalty = penalty
        self._numbers = itertools.count()
        self._ends: list[tuple[float, int, Hashable]] = []
        self._under_way: dict[Hashable, int] = {}
        self._done = 0.0  # work that a request present from the beginning would have behind it
        self._at = 0.0

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def speed(self) -> float:
        """Of each request: seconds of work in a second."""
        number = max(len(self), 1)
        return min(1, self.slots / number) / (1 + self.penalty * max(0, number - self.slots))

    def start(self, job: Hashable, work: float, now: float) -> None:
        """work: seconds that it takes alone."""
        self._go_on(now)
        number = self._under_way[job] = next(self._numbers)
        heapq.heappush(self._ends, (self._done + work, number, job))

    def leave(self, job: Hashable, now: float) -> None:
        """Its client has left: the work ends here."""
        self._go_on(now)
        del self._under_way[job]

    def due(self) -> float | None:
        """When the next answer comes if nothing changes; None where nothing is computed."""
        while self._ends and self._under_way.get(self._ends[0][2]) != self._ends[0][1]:
            heapq.heappop(self._ends)
        if not self._ends:
            return None
        return self._at + max(0.0, self._ends[0][0] - self._done) / self.speed

    def answer(self, now: float) -> Hashable:
        """Whose answer is due."""
        self._go_on(now)
        _, _, job = heapq.heappop(self._ends)
        del self._under_way[job]
        return job

    def _go_on(self, now: float) -> None:
        self._done += max(0.0, now - self._at) * self.speed
        self._at = max(self._at, now)


class Batching(SharedSlots):
    """Computes all it has at once, each slower by `slower` for every other one: an LLM server that
    batches. It has no number of slots; its throughput nears 1 / (slower * work).
    """

    def __init__(self, slower: float) -> None:
        super().__init__(1)
        self.slower = slower

    @property
    def speed(self) -> float:
        return 1 / (1 + self.slower * (max(len(self), 1) - 1))


class Fifo:
    """Computes `slots` requests side by side; the others wait in the order they came."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._numbers = itertools.count()
        self._running: list[tuple[float, int, Hashable]] = []
        self._waiting: deque[tuple[Hashable, float]] = deque()

    def start(self, job: Hashable, work: float, now: float) -> None:
        self._waiting.append((job, work))
        self._fill(now)

    def due(self) -> float | None:
        return self._running[0][0] if self._running else None

    def answer(self, now: float) -> Hashable:
        _, _, job = heapq.heappop(self._running)
        self._fill(now)
        return job

    def _fill(self, now: float) -> None:
        while self._waiting and len(self._running) < self.slots:
            job, work = self._waiting.popleft()
            heapq.heappush(self._running, (now + work, next(self._numbers), job))
