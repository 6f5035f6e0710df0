"""What goes to the server next, and when. No tasks, no clock: `now` is passed in, in seconds."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from math import inf
from typing import NamedTuple

from proxy.apis.items import Item

from .fair import FairOrder
from .holds import Holds
from .pace import Pace
from .padding import Padding, choose
from .queue import Batch, Bounds, Entry, Group, Job
from .trial import CEILING_FOR, Division, Suspects, Trial, halves
from .under_way import UnderWay

MAX_GROUPS = 1024
"""Groups without a batch or an item that are remembered, for when their clients come back."""


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
        self.divided = 0
        """Batches ever divided."""
        self._under_way = UnderWay(pace)
        self._groups: OrderedDict[Hashable, Group] = OrderedDict()
        self._waiting: dict[Job, None] = {}
        self._ready: deque[Batch] = deque()
        self._fair = FairOrder()
        self._suspects = Suspects()
        self._bounds = rules.bounds
        self._ceiling = rules.bounds.size
        self._ceiling_until = 0.0
        self._holds = Holds()

    @property
    def running(self) -> int:
        """Batches under way."""
        return self._under_way.running

    # -- clients come and go

    def group(self, key: Hashable, told: object = None) -> Group:
        """The group of this key, made where there is none."""
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key, told)
            if len(self._groups) > MAX_GROUPS:
                for old in [one for one in self._groups.values() if one.idle and one is not group]:
                    del self._groups[old.key]
        return group

    def quiet(self, now: float) -> bool:
        """Whether nothing is under way, nothing waits, and nobody is waited for."""
        busy = self._under_way.running or self.queued or self._ready
        return not busy and now >= self._holds.until

    def free(self, group: Group, items: Sequence[Item], now: float) -> bool:
        """Whether a request with these goes at once, as it is."""
        return (
            not group.running
            and not group.waiting
            and self._under_way.place(now)
            and not self._ready
            and (group.expected <= 1 or now >= group.hold_until)
            and not (self._suspects and self._suspected(group, items, now))
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
        rules, group = self.rules, job.group
        if self.queued + len(job.items) > rules.queue:
            return False
        job.arrived = now
        self._waiting[job] = None
        if job.whole and self._suspects and self._suspected(group, job.items, now):
            self._isolate(job)
            self._waiting[job] = None
            return True
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
        return True

    def depart(self, job: Job) -> list[Batch]:
        """Nobody wants the job's answer any more. The batches under way that nobody wants now."""
        self._withdraw(job)
        deserted = []
        for batch in job.batches:
            batch.jobs.pop(job, None)
            if not batch.jobs:
                if batch in self._ready:
                    self._ready.remove(batch)
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
        if self._ready:
            batch = self._ready.popleft()
        elif self.queued:
            group = self._ripe(now)
            if group is None:
                return None
            batch = self._take(group, now)
        else:
            return None
        for job in batch.jobs:
            if not job.waiting:
                self._waiting.pop(job, None)
        self.began(batch, now)
        return batch

    def began(self, batch: Batch, now: float) -> None:
        """The batch is under way; called for one that did not come from `next`, too."""
        self._under_way.began(batch, now)

    def settle(self, batch: Batch, group: Group, items: int) -> None:
        """A batch under way that was in no group is of this one, and has so many items."""
        batch.group.running -= 1
        batch.group = group
        group.running += 1
        self._under_way.resized(batch, items)

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
            self._went_well(batch, now)
        if not group.running:
            seconds = min(self.pace.fixed, self.rules.delay) if ok else 0.0
            self._holds.begin(group, batch.clients + group.jobs, seconds, now)
        if group.idle and group.expected <= 1 and now >= group.ceiling_until:
            divided = any(part.group is group for part in self._ready)
            if not divided and self._groups.get(group.key) is group:
                del self._groups[group.key]
        if not self.queued:
            self._fair.clear()

    def divide(self, batch: Batch, status: int, now: float) -> bool:
        """Sends a failed batch's clients' items anew, in two halves; False where that is not worth
        it, and all get what the batch got. To be called before `ended`.
        """
        trial = batch.trial = batch.trial or Trial(self.rules.splits)
        trial.failed += status >= 500
        if not batch.jobs or batch.alone or not trial.splits or trial.hopeless:
            return False
        if len(batch.jobs) == 1:
            (job,) = batch.jobs
            if not job.whole:
                return False
            trial.splits -= 1
            self._isolate(job)  # what was refused is not quite what it asked
            next(iter(job.batches)).trial = trial
            return True
        trial.splits -= 1
        self.divided += 1
        parts = halves(batch)
        # Only a refusal tells of a batch's size: a 500 may have passed meanwhile.
        division = Division(max(part.sent for part in parts)) if status < 500 else None
        for job in batch.jobs:
            job.batches.pop(batch, None)
        for part in parts:
            part.trial, part.division = trial, division
            if part.alone is not None:
                self._isolate(part.alone, part)
            else:
                for job in part.jobs:
                    job.batches[part] = None
                self._ready.append(part)
        batch.jobs.clear()
        return True

    def given_up(self, batch: Batch) -> list[Batch]:
        """After `divide` has said no: the parts, not sent yet and never to be, that share the fate
        of this one, because the server fails whatever it is sent.
        """
        trial = batch.trial
        if trial is None or not trial.hopeless:
            return []
        parts = [part for part in self._ready if part.trial is trial]
        for part in parts:
            self._ready.remove(part)
        return parts

    def blame(self, group: Group, items: Sequence[Item], now: float) -> None:
        """A request that was sent alone was refused for what it asks."""
        if len(items) == 1:
            self._suspects.add(self._suspect(group, items[0]), now)

    # -- time

    @property
    def waits(self) -> bool:
        """Whether a batch is made that has not gone yet."""
        return bool(self._ready)

    def wake(self, now: float) -> float | None:
        """When `next` or `expired` will have something that they do not have now."""
        times = []
        if self._waiting:
            times.append(next(iter(self._waiting)).arrived + self.rules.timeout)
        if not self.queued and not self._ready:
            pass
        elif not self._under_way.place(now):
            times.append(self._under_way.next_stuck(now))
        else:
            for group in self._groups.values():
                if group.waiting:
                    times.append(group.soonest)
                    if not group.running:
                        times.append(group.hold_until)
        at = min(times, default=inf)
        return at if at < inf else None

    def bounds(self, now: float, group: Group | None = None) -> Bounds:
        """Of a batch of the group made now; of any group's where it is not known."""
        size = self.pace.size
        if now < self._ceiling_until:
            if group is None:
                size = min(size, self._ceiling)
            elif now < group.ceiling_until:
                size = min(size, group.ceiling)
        if size != self._bounds.size:  # a tuple for each request costs: bench `aggregate`
            self._bounds = self.rules.bounds._replace(size=size)
        return self._bounds

    def ready(self, group: Group, now: float) -> bool:
        """Whether a batch of the group goes now, were there a place for it."""
        if not group.waiting:
            return False
        if not group.running and not self._holds.held(group, now):
            return True
        if len(group.waiting) >= self.bounds(now, group).size:
            return True
        if now >= group.soonest:
            group.soonest = min([entry.due for entry in group.waiting])
        return now >= group.soonest

    def due(self, group: Group, now: float) -> float:
        """When a batch goes because of who has just come to this group: `now` where one goes at
        once, `inf` where another has to end first. Looks at no other group: each has its own.
        """
        if not self._under_way.place(now):
            return inf
        if self._ready or self.ready(group, now):
            return now
        return group.soonest if group.running else min(group.soonest, group.hold_until)

    # -- inside

    def _ripe(self, now: float) -> Group | None:
        """Of the groups that may go the one whose item is first in the fair order."""
        found, first = None, 0.0
        for group in self._groups.values():
            if self.ready(group, now):
                tag = min([entry.tag for entry in group.waiting])
                if found is None or tag < first:
                    found, first = group, tag
        return found

    def _take(self, group: Group, now: float) -> Batch:
        rules = self.rules
        self._holds.over(group)
        waiting = sorted(group.waiting, key=_tag)
        self._fair.served(waiting[0].tag)
        entries = choose(waiting, self.bounds(now, group), rules.waste, rules.delay, now)
        batch = Batch(group, entries)
        for entry in entries:
            self._remove(entry)
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
        self._waiting.pop(job, None)
        if not self.queued:
            self._fair.clear()

    def _isolate(self, job: Job, batch: Batch | None = None) -> None:
        """The job is to be sent as it is, its items in other batches notwithstanding."""
        self._withdraw(job)
        for other in job.batches:
            other.jobs.pop(job, None)
        batch = batch or Batch(job.group, [], alone=job)
        job.alone = True
        job.batches = {batch: None}
        self._ready.append(batch)

    def _went_well(self, batch: Batch, now: float) -> None:
        if batch.trial is not None:
            batch.trial.ok = True
        division = batch.division
        if division is not None:
            division.left -= 1
            if not division.left:  # both halves were well: it was their number
                self._learn(batch.group, division.larger, now)
        if batch.alone is not None and self._suspects:
            for item in batch.alone.items:
                self._suspects.clear(self._suspect(batch.group, item))

    def _learn(self, group: Group, size: int, now: float) -> None:
        """So many items of the group the server takes, and no more."""
        others = self._ceiling if now < self._ceiling_until else size
        self._ceiling = min(size, others)
        group.ceiling = size
        group.ceiling_until = self._ceiling_until = now + CEILING_FOR

    def _suspected(self, group: Group, items: Sequence[Item], now: float) -> bool:
        has = self._suspects.has
        return any(has(self._suspect(group, item), now) for item in items)

    @staticmethod
    def _suspect(group: Group, item: Item) -> Hashable:
        return hash((group.key, item.data))


def _tag(entry: Entry) -> float:
    return entry.tag
