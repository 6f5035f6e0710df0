"""What goes to the server next, and when. No tasks, no clock: `now` is passed in, in seconds."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import inf
from typing import NamedTuple

from proxy.apis.items import Item

from .dividing import Dividing
from .fair import FairOrder
from .groups import Groups
from .holds import Holds
from .pace import Pace
from .padding import Padding, choose
from .queue import Batch, Bounds, Entry, Group, Job, by_tag
from .sizes import Sizes
from .trial import Suspects
from .turns import Turns
from .under_way import UnderWay


class Rules(NamedTuple):
    """delay: seconds for which an item is held for others at most. timeout: seconds in the queue.
    waste: the largest share of a batch that may be padding. splits: divisions of a failed batch.
    """

    bounds: Bounds
    delay: float
    timeout: float
    queue: int
    waste: float
    splits: int


class Plan:
    """The queue before one upstream.

    A batch goes when fewer than `pace.limit` are under way and its group has none under way, or
    has enough waiting to fill it, or one item has waited for `delay`. After a batch of a group
    ended, its clients are given a moment to ask again where that pays: see `Holds`.
    """

    def __init__(self, rules: Rules, pace: Pace) -> None:
        self.rules = rules
        self.pace = pace
        self.padding = Padding()
        self.queued = 0
        """Items in the queue."""
        self._under_way = UnderWay(pace)
        self._groups = Groups()
        self._waiting: dict[Job, None] = {}
        self._fair = FairOrder()
        self._suspects = Suspects()
        self._holds = Holds()
        self._sizes = Sizes(rules.bounds, pace)
        self._turns = Turns(self._sizes)
        self._dividing = Dividing(rules.splits, self._sizes, self._suspects, self._alone)
        self._parts = self._dividing.parts
        self.bounds = self._sizes.at

    @property
    def running(self) -> int:
        """Batches under way."""
        return self._under_way.running

    @property
    def divided(self) -> int:
        """Batches ever divided."""
        return self._dividing.divided

    # -- clients come and go

    def group(self, key: Hashable, told: object = None) -> Group:
        """The group of this key, made where there is none."""
        return self._groups.of(key, told)

    def quiet(self, now: float) -> bool:
        """Whether nothing is under way, nothing waits, and nobody is waited for."""
        busy = self._under_way.running or self.queued or self._parts
        return not busy and now >= self._holds.until

    def free(self, group: Group, items: Sequence[Item], now: float) -> bool:
        """Whether a request with these goes at once, as it is."""
        return (
            not group.running
            and not group.waiting
            and self._under_way.place(now)
            and not self._parts
            and (group.expected <= 1 or now >= group.hold_until)
            and not (self._suspects and self._suspects.among(group, items, now))
            and self.bounds(now, group).hold(items)
            and (len(items) == 1 or len({item.key for item in items}) == len(items))
        )

    def whole(self, items: Sequence[Item]) -> bool:
        """Whether a request with these may be sent as it is: an item cannot be made smaller."""
        return len(items) == 1 or self.rules.bounds.hold(items)

    def arrive(self, job: Job, now: float, patience: float | None = None) -> bool:
        """Queues a job's items; False where there is no room. patience: seconds that its client
        has left; at most half of them are spent on waiting for others.
        """
        rules = self.rules
        if self.queued + len(job.items) > rules.queue:
            return False
        if job.whole and self._suspects and self._suspects.among(job.group, job.items, now):
            job.apart()
        group = job.group
        job.arrived = now
        self._waiting[job] = None
        delay = rules.delay if patience is None else min(rules.delay, patience / 2)
        # One that is for several batches does not wait for others to fill the last of them.
        due = now + delay if self.bounds(now, group).hold(job.items) else now
        tag, tenant = self._fair.tag, job.tenant
        for index in range(len(job.items)):
            entry = Entry(job, index, tag(tenant), due)
            group.waiting[entry] = job.waiting[entry] = None
            self.padding.arrived(entry.item.size)
        self.queued += len(job.items)
        group.jobs += 1
        if not group.hold_from and now < group.hold_until:
            group.hold_from = group.jobs
        if due < group.soonest or len(group.waiting) == len(job.items):
            group.soonest = due
        self._turns.changed(group)
        return True

    def depart(self, job: Job) -> list[Batch]:
        """Nobody wants the job's answer any more. The batches under way that nobody wants now."""
        self._withdraw(job)
        deserted = []
        for batch in job.batches:
            batch.jobs.pop(job, None)
            if not batch.jobs:
                if batch in self._parts:
                    self._parts.remove(batch)
                else:
                    deserted.append(batch)
        job.batches.clear()
        return deserted

    def expired(self, now: float) -> list[Job]:
        """Jobs that have waited for longer than `timeout`; they are in the queue still."""
        found = []
        for job in self._waiting:
            if now - job.arrived < self.rules.timeout:
                break
            found.append(job)
        return found

    # -- batches come and go

    def next(self, now: float) -> Batch | None:
        """The batch that goes now, under way from here on; None where none may."""
        if not self._under_way.place(now):
            return None
        dividing = self._dividing
        group = self._turns.first(now) if self.queued and not dividing.go_first else None
        batch = dividing.next(group)
        if batch is None:
            if group is None:
                return None
            batch = self._take(group, now)
        for job in batch.jobs:
            if not job.waiting:
                self._waiting.pop(job, None)
        self.began(batch, now)
        return batch

    def began(self, batch: Batch, now: float) -> None:
        """The batch is under way; called for one that did not come from `next`, too."""
        self._under_way.began(batch, now)

    def resized(self, batch: Batch, items: int) -> None:
        """A batch under way turns out to have so many items."""
        self._under_way.resized(batch, items)

    def settle(self, batch: Batch, group: Group) -> None:
        """A batch under way that was in no group is of this one."""
        batch.group.running -= 1
        batch.group = group
        group.running += 1

    def ended(self, batch: Batch, now: float, ok: bool) -> None:
        """The batch is over. ok: the server has answered it well."""
        group = batch.group
        demand = self._under_way.items + self.queued
        side_by_side = self._under_way.ended(batch, now)
        for job in batch.jobs:
            job.batches.pop(batch, None)
        if ok:
            if side_by_side:
                self.pace.seen(batch.sent, side_by_side, demand, now - batch.began)
            self._dividing.went_well(batch, now)
        if not group.running:
            seconds = min(self.pace.fixed, self.rules.delay) if ok else 0.0
            self._holds.begin(group, batch.clients + group.jobs, seconds, now)
        if group.waiting:
            self._turns.changed(group)
        if group.idle and group.expected <= 1 and now >= group.ceiling_until:
            divided = self._parts and any(part.group is group for part in self._parts)
            if not divided:
                self._groups.drop(group)
        if not self.queued:
            self._fair.clear()

    def divide(self, batch: Batch, status: int) -> bool:
        """Sends a failed batch's clients' items anew, in two halves; False where that is not worth
        it, and all get what the batch got. To be called before `ended`.
        """
        return self._dividing.divide(batch, status)

    def given_up(self, batch: Batch) -> list[Batch]:
        """After `divide` has said no: the parts that are never to be sent, and share its fate."""
        return self._dividing.given_up(batch)

    def blame(self, batch: Batch, items: Sequence[Item], now: float) -> None:
        """A request that was sent alone was refused for what it asks."""
        if len(items) == 1:
            proven = batch.trial is not None and batch.trial.ok
            self._suspects.add(batch.group, items[0], now, proven)

    def on_trial(self, batch: Batch) -> bool:
        """Whether the server's failing it would be put down to an item: to find whose it is is why
        the batch was made, or it is known.
        """
        if batch.trial is not None:
            return True
        group, job = batch.group, batch.alone
        return group.of_one and job is not None and self._suspects.proven(group, job.items[0])

    # -- time

    @property
    def waits(self) -> bool:
        """Whether a batch is made that has not gone yet."""
        return bool(self._parts)

    def wake(self, now: float) -> float | None:
        """When `next` or `expired` will have something that they do not have now."""
        times = []
        if self._waiting:
            times.append(next(iter(self._waiting)).arrived + self.rules.timeout)
        if not self.queued and not self._parts:
            pass
        elif not self._under_way.place(now):
            times.append(self._under_way.next_stuck(now))
        else:
            times.append(self._turns.wake(now))
        at = min(times, default=inf)
        return at if at < inf else None

    def due(self, group: Group, now: float) -> float:
        """When a batch goes because of who has just come to this group: `now` where one goes at
        once, `inf` where another has to end first. Looks at no other group: each has its own.
        """
        if not self._under_way.place(now):
            return inf
        if self._parts or self._turns.ready(group, now):
            return now
        return self._turns.when(group)

    # -- inside

    def _take(self, group: Group, now: float) -> Batch:
        rules = self.rules
        self._holds.over(group)
        waiting = sorted(group.waiting, key=by_tag)
        self._fair.served(waiting[0].tag)
        if group.of_one:
            return self._alone(waiting[0].job, None)
        entries = choose(waiting, self.bounds(now, group), rules.waste, rules.delay, now)
        batch = Batch(group, entries)
        for entry in entries:
            self._remove(entry)
        self._turns.changed(group)
        self.padding.batch([entry.item.size for entry in entries])
        job = entries[0].job
        if len(batch.jobs) == 1 and batch.sent == len(job.items):
            batch.alone = job
        for job in batch.jobs:
            job.batches[batch] = None
        return batch

    def _remove(self, entry: Entry) -> None:
        job = entry.job
        del entry.job.waiting[entry]
        del job.group.waiting[entry]
        self.queued -= 1
        if not job.waiting:
            job.group.jobs -= 1

    def _withdraw(self, job: Job) -> None:
        for entry in list(job.waiting):
            self._remove(entry)
            self.padding.left(entry.item.size)
        self._turns.changed(job.group)
        self._waiting.pop(job, None)
        if not self.queued:
            self._fair.clear()

    def _alone(self, job: Job, batch: Batch | None) -> Batch:
        """The job is to be sent as it is, its items in other batches notwithstanding."""
        self._withdraw(job)
        for other in job.batches:
            other.jobs.pop(job, None)
        batch = batch or Batch(job.group, [], alone=job)
        job.batches = {batch: None}
        return batch
