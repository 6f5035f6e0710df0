"""A plan, its clients and a server that a test tells what to do, with time that it turns."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from middleware.core.batch.pace import Pace
from middleware.core.batch.plan import Plan, Rules
from middleware.core.batch.queue import Batch, Bounds, Entry, Job
from middleware.core.batch.trial import speaks_of_items
from proxy.apis.items import Item

from .simulation import item as item


def rules(
    size: int = 4,
    tokens: int | None = None,
    weight: int | None = None,
    delay: float = 0.1,
    timeout: float = 30.0,
    queue: int = 1000,
    waste: float = 1.0,
    splits: int = 31,
) -> Rules:
    return Rules(Bounds(size, tokens, weight), delay, timeout, queue, waste, splits)


class Asking(Job):
    """A client's request. fate: "" while it waits; "own" when every item has its answer, "alone"
    when its own request was sent, "error" when it got a batch's, "left", "refused" or "late".
    """

    __slots__ = ("answers", "fate", "status")

    answers: dict[int, bytes]
    fate: str
    status: int


class World:
    """bad: keys of items that the server refuses. most: items of a call that it takes."""

    def __init__(
        self, rules: Rules, limit: int | None = 1, bad: Sequence[bytes] = (), most: int = 9999
    ):
        self.plan = Plan(rules, Pace(rules.bounds.size, limit, None))
        self.limit = limit or 0
        self.now = 0.0
        self.bad = set(bad)
        self.most = most
        self.status = 422
        self.jobs: list[Asking] = []
        self.running: list[Batch] = []
        self.calls: list[Batch] = []

    def ask(
        self, *items: Item, tenant: Hashable = "t", group: str = "g", patience: float | None = None
    ) -> Asking:
        """As the layer does it: at once where that may be, else into the queue."""
        plan = self.plan
        where = plan.group(group)
        job = Asking(where, tenant, items, plan.whole(items))
        job.answers, job.fate, job.status = {}, "", 0
        self.jobs.append(job)
        if plan.free(where, items, self.now):
            batch = Batch(where, ())
            batch.sent = len(items)
            batch.task = job
            plan.began(batch, self.now)
            self._sent(batch)
        elif plan.arrive(job, self.now, patience):
            self.pump()
        else:
            job.fate = "refused"
        return job

    def leave(self, job: Asking, fate: str = "left") -> None:
        if not job.fate:
            job.fate = fate
        for batch in self.plan.depart(job):
            self.end(batch, False)
        for batch in [one for one in self.running if one.task is job]:
            self.end(batch, False)

    def end(self, batch: Batch, ok: bool) -> None:
        if batch in self.running:
            self.running.remove(batch)
            self.plan.ended(batch, self.now, ok)
            self.pump()

    def answer(self, batch: Batch, status: int | None = None) -> None:
        """The server answers: what its items deserve, or with this status."""
        direct: Asking | None = batch.task or batch.alone
        items = direct.items if direct is not None else [entry.item for entry in batch.entries]
        if status is None:
            refused = any(item.key in self.bad for item in items) or batch.sent > self.most
            status = self.status if refused else 200
        if direct is not None:
            direct.fate, direct.status = "alone", status
            if speaks_of_items(status):
                self.plan.blame(batch, items, self.now)
            self.end(batch, status == 200)
        elif status == 200:
            for entry in batch.entries:
                self._answered(batch, entry)
            self.end(batch, True)
        else:
            if not (speaks_of_items(status) and self.plan.divide(batch, status)):
                for part in [*self.plan.given_up(batch), batch]:
                    for job in list(part.jobs):
                        assert isinstance(job, Asking)
                        job.status = status
                        job.batches.pop(part, None)
                        self.leave(job, "error")
            self.end(batch, False)

    def _answered(self, batch: Batch, entry: Entry) -> None:
        job = entry.job
        if job not in batch.jobs:
            return
        assert isinstance(job, Asking)
        assert not job.fate, "it was answered before"
        assert entry.index not in job.answers, "an item was answered twice"
        job.answers[entry.index] = entry.item.key
        if len(job.answers) == len(job.items):
            assert [job.answers[n] for n in range(len(job.items))] == [i.key for i in job.items]
            job.fate = "own"

    def pump(self) -> None:
        while (batch := self.plan.next(self.now)) is not None:
            self._sent(batch)

    def _sent(self, batch: Batch) -> None:
        self.running.append(batch)
        self.calls.append(batch)

    def advance(self, seconds: float) -> None:
        """Time passes; the timer is heard whenever it is due."""
        end = self.now + seconds
        while (wake := self.plan.wake(self.now)) is not None and wake <= end:
            self.now = max(self.now + 1e-6, wake)
            self.tick()
            if self.now > end:
                return
        self.now = end

    def tick(self) -> None:
        for job in self.plan.expired(self.now):
            assert isinstance(job, Asking)
            self.leave(job, "late")
        self.pump()

    @property
    def sizes(self) -> list[int]:
        return [batch.sent for batch in self.calls]


def keys(*names: str) -> list[Item]:
    return [item(10, name.encode()) for name in names]
