"""The batches that a server has: how many, since when, and whether there is a place for another."""

from __future__ import annotations

from math import inf

from .pace import Pace
from .queue import Batch


class UnderWay:
    """`now` is passed in, in seconds, and never goes back."""

    def __init__(self, pace: Pace) -> None:
        self.running = 0
        self.items = 0
        self._pace = pace
        self._batches: dict[Batch, None] = {}
        self._area = self._since = 0.0
        # Whoever comes while all places are taken asks; only a change has the batches looked at.
        self._first_stuck: float | None = None

    def began(self, batch: Batch, now: float) -> None:
        self._tick(now)
        batch.began = now
        batch.area = self._area
        batch.group.running += 1
        self.running += 1
        self.items += batch.sent
        self._batches[batch] = None
        self._first_stuck = None

    def resized(self, batch: Batch, items: int) -> None:
        """What was under way turns out to have so many items."""
        self.items += items - batch.sent
        batch.sent = items
        self._first_stuck = None

    def ended(self, batch: Batch, now: float) -> float:
        """The mean number of batches that were under way meanwhile, this one included."""
        self._tick(now)
        self.running -= 1
        self.items -= batch.sent
        batch.group.running -= 1
        del self._batches[batch]
        self._first_stuck = None
        took = now - batch.began
        return (self._area - batch.area) / took if took > 0 else 0.0

    def place(self, now: float) -> bool:
        """Whether another may be under way: those that are stuck keep nobody from it."""
        limit = self._pace.limit
        if self.running < limit:
            return True
        if self._first_stuck is None:
            self._first_stuck = min(map(self._stuck_at, self._batches))
        if now < self._first_stuck:
            return False
        return self.running - sum(self._stuck_at(one) <= now for one in self._batches) < limit

    def next_stuck(self, now: float) -> float:
        """When another of them will be stuck; `inf`: never."""
        return min([at for one in self._batches if (at := self._stuck_at(one)) > now], default=inf)

    def _stuck_at(self, batch: Batch) -> float:
        patience = self._pace.patience(batch.sent)
        return inf if patience is None else batch.began + patience

    def _tick(self, now: float) -> None:
        self._area += self.running * (now - self._since)
        self._since = now
