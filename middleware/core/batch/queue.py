"""What waits to be computed together: clients' requests, their items, and groups of what fits."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import count
from typing import Any, NamedTuple

from proxy.apis.items import Item


class Bounds(NamedTuple):
    """Of one batch. tokens: of the longest item times their number. None: no bound."""

    size: int
    tokens: int | None = None
    bytes: int | None = None

    def hold(self, items: Sequence[Item]) -> bool:
        """Whether all of these may be in one batch."""
        if len(items) == 1:
            return (self.bytes is None or items[0].weight <= self.bytes) and (
                self.tokens is None or items[0].size <= self.tokens
            )
        if len(items) > self.size:
            return False
        if self.bytes is not None and sum([item.weight for item in items]) > self.bytes:
            return False
        return self.tokens is None or max([item.size for item in items]) * len(items) <= self.tokens


class Job:
    """One client's request: all of its items. whole: it may be sent as it is, in one batch."""

    __slots__ = ("arrived", "batches", "group", "items", "tenant", "waiting", "whole")

    def __init__(self, group: Group, tenant: Hashable, items: Sequence[Item], whole: bool) -> None:
        self.group = group
        self.tenant = tenant
        self.items = items
        self.whole = whole
        self.arrived = 0.0
        self.waiting: dict[Entry, None] = {}
        """Its items in the queue."""
        self.batches: dict[Batch, None] = {}
        """Those under way, or about to be, that have items of it."""

    def apart(self) -> None:
        """It waits as others do, and is then sent as it is, with nobody else's items."""
        self.group = Group(self.group.key, self.group.told, of_one=True)


class Entry:
    """One item of a job, in the queue. tag: its place in the fair order. due: when its time to
    wait for others is over. passed: when others of like length were first preferred to it.
    """

    __slots__ = ("due", "index", "item", "job", "passed", "tag")

    def __init__(self, job: Job, index: int, tag: float, due: float) -> None:
        self.job = job
        self.index = index
        self.item = job.items[index]
        self.tag = tag
        self.due = due
        self.passed: float | None = None


def by_tag(entry: Entry) -> float:
    """To sort by: the fair order."""
    return entry.tag


_numbers = count()


class Group:
    """Requests that could have sent each other's items. told: whatever the caller wants to know
    of them. of_one: of a client that is to be sent alone. number: the later it was made the
    higher. waiting: in the order of their arrival.
    """

    # fmt: off
    __slots__ = (
        "ceiling", "ceiling_until", "expected", "hold_from", "hold_until", "jobs", "key", "number",
        "of_one", "running", "soonest", "told", "waiting",
    )
    # fmt: on

    def __init__(self, key: Hashable, told: Any = None, of_one: bool = False) -> None:
        self.key = key
        self.told = told
        self.of_one = of_one
        self.number = next(_numbers)
        self.waiting: dict[Entry, None] = {}
        self.jobs = 0
        """Clients with an item in `waiting`."""
        self.running = 0
        """Batches under way."""
        self.expected = 0
        """Clients that will probably be waiting at `hold_until`."""
        self.hold_until = 0.0
        self.hold_from = 0
        """Clients that waited when the hold began to delay them; 0: it delays nobody yet."""
        self.soonest = 0.0
        """No entry is due before that."""
        self.ceiling = 0
        """Items that a batch of it may have, until `ceiling_until`."""
        self.ceiling_until = 0.0

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting


class Batch:
    """Items of one group that are computed together. alone: a job that is sent as it is instead."""

    # fmt: off
    __slots__ = (
        "alone", "area", "began", "clients", "division", "entries", "group", "jobs", "sent",
        "task", "trial",
    )
    # fmt: on

    def __init__(self, group: Group, entries: Sequence[Entry], alone: Job | None = None) -> None:
        self.group = group
        self.entries = entries
        self.alone = alone
        self.jobs: dict[Job, None] = {}
        """Whoever still wants an answer of it."""
        self.clients = 1
        """For how many it was made."""
        self.sent = 0
        """Items that are sent."""
        if alone is not None:
            self.jobs[alone] = None
            self.sent = len(alone.items)
        elif entries:
            self.jobs = dict.fromkeys([entry.job for entry in entries])
            self.clients = len(self.jobs)
            self.sent = len(unlike(entries))
        self.began = 0.0
        self.area = 0.0
        self.trial: Any = None
        self.division: Any = None
        self.task: Any = None
        """Whatever the caller wants to know of it while it is under way."""


def unlike(entries: Iterable[Entry]) -> list[Item]:
    """The items of these, each once."""
    return list({entry.item.key: entry.item for entry in entries}.values())
