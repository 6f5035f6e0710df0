"""The plan with clients and a server in time that passes by itself: no loop, no clock."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from math import inf
from typing import Any

from middleware.core.batch.plan import Plan
from middleware.core.batch.queue import Batch, Job
from proxy.apis.items import Item

_names = itertools.count()


def item(size: int = 10, key: bytes | None = None) -> Item:
    """An item like no other, unless it has a key."""
    key = key if key is not None else b"%d" % next(_names)
    return Item(key, key, size, size)


class Simulation:
    """Closed-loop clients. seconds: what a batch takes of (items, longest). side_by_side: how many
    batches the server computes at once; further ones wait there.
    """

    def __init__(
        self,
        plan: Plan,
        seconds: Callable[[int, int], float],
        side_by_side: int = 1,
        think: Callable[[], float] = lambda: 0.001,
        sizes: Callable[[], int] = lambda: 10,
    ) -> None:
        self.plan = plan
        self.now = 0.0
        self.answered = 0
        self.waits: list[float] = []
        self.latencies: list[float] = []
        self.batches: list[Batch] = []
        self._seconds = seconds
        self._free = side_by_side
        self._at_server: list[Batch] = []
        self._think = think
        self._sizes = sizes
        self._events: list[tuple[float, int, Callable[..., None], Any]] = []
        self._number = itertools.count()
        self._asked: dict[Job, float] = {}
        self._alarm = inf

    def at(self, time: float, what: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self._events, (time, next(self._number), what, args))

    def clients(self, number: int, tenant: str = "t", key: str = "g") -> None:
        for _ in range(number):
            self.at(self.now, self.ask, tenant, key)

    def ask(self, tenant: str, key: str) -> None:
        plan = self.plan
        group = plan.group(key)
        items = [item(self._sizes())]
        if plan.free(group, items, self.now):
            batch = Batch(group, ())
            batch.sent = 1
            batch.task = (tenant, key, self.now)
            plan.began(batch, self.now)
            self._send(batch)
            return
        job = Job(group, tenant, items, True)
        self._asked[job] = self.now
        assert plan.arrive(job, self.now)
        self.pump()

    def pump(self) -> None:
        while (batch := self.plan.next(self.now)) is not None:
            self._send(batch)
        wake = self.plan.wake(self.now)
        if wake is not None and (at := max(wake, self.now + 1e-4)) < self._alarm:
            self._alarm = at
            self.at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = inf
        self.pump()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, what, args = heapq.heappop(self._events)
            what(*args)
        self.now = end

    def _send(self, batch: Batch) -> None:
        self.batches.append(batch)
        for job in batch.jobs:
            self.waits.append(self.now - job.arrived)
        self._at_server.append(batch)
        self._compute()

    def _compute(self) -> None:
        while self._free and self._at_server:
            self._free -= 1
            batch = self._at_server.pop(0)
            longest = max([entry.item.size for entry in batch.entries], default=10)
            self.at(self.now + self._seconds(batch.sent, longest), self._done, batch)

    def _done(self, batch: Batch) -> None:
        self._free += 1
        self._compute()
        jobs = list(batch.jobs)
        self.plan.ended(batch, self.now, True)
        self.answered += batch.sent
        if batch.task is not None:
            tenant, key, began = batch.task
            self.latencies.append(self.now - began)
            self.at(self.now + self._think(), self.ask, tenant, key)
        for job in jobs:
            self.latencies.append(self.now - self._asked.pop(job))
            self.at(self.now + self._think(), self.ask, job.tenant, job.group.key)
        self.pump()
