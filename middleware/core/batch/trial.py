"""Whose fault it was: a batch that failed is divided until whoever made it fail is alone."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import chain

from proxy.apis.items import Item

from .queue import Batch, Group, Job

SICK = 7
"""Batches of a trial that a server answers with 5xx, and none otherwise, before it is taken for
ill: the whole, its halves and its quarters.
"""
MAX_SUSPECTS = 1024
"""Items remembered that made a batch fail."""
SUSPECT_FOR = 60.0
"""Seconds for which such an item is sent alone from the beginning."""

SAYS_NOTHING = frozenset(
    (401, 402, 403, 404, 405, 406, 407, 408, 410, 411, 412, 414, 415, 417, 421, 426, 428, 429, 431,
     451, 501, 502, 503, 504, 505, 507, 508, 511)
)  # fmt: skip
"""Statuses that speak of the credential, the target, the framing or the server's state. Smaller
batches would get the same, and a server that has too much to do more of it.
"""


def speaks_of_items(status: int) -> bool:
    """Whether an error may be that of one item among others."""
    return 400 <= status < 600 and status not in SAYS_NOTHING


class Trial:
    """What became of a failed batch's parts. splits: divisions that are left."""

    __slots__ = ("failed", "ok", "splits")

    def __init__(self, splits: int) -> None:
        self.splits = splits
        self.failed = 0
        self.ok = False

    @property
    def hopeless(self) -> bool:
        return not self.ok and self.failed >= SICK


class Division:
    """A batch that was divided in two, of which so many have not been answered well."""

    __slots__ = ("larger", "left")

    def __init__(self, larger: int) -> None:
        self.larger = larger
        self.left = 2


class Suspects:
    """Items that made a batch fail, by hash: a client that sends one again and again is not to
    have each batch divided.
    """

    def __init__(self) -> None:
        self._until: dict[Hashable, float] = {}
        self._proven: set[Hashable] = set()

    def add(self, group: Group, item: Item, now: float, proven: bool) -> None:
        """proven: others of its call were answered well, so it was not the server's fault."""
        until, key = self._until, _name(group, item)
        last = until.pop(key, 0.0)
        until[key] = now + SUSPECT_FOR
        if proven:
            self._proven.add(key)
        elif last <= now:
            self._proven.discard(key)  # that was another time
        if len(until) > MAX_SUSPECTS:
            self._drop(next(iter(until)))

    def among(self, group: Group, items: Iterable[Item], now: float) -> bool:
        """Whether one of these is."""
        until = self._until
        return any(until.get(_name(group, item), 0.0) > now for item in items)

    def proven(self, group: Group, item: Item) -> bool:
        """Whether it made a call fail whose others were answered well."""
        return _name(group, item) in self._proven

    def clear(self, group: Group, item: Item) -> None:
        self._drop(_name(group, item))

    def _drop(self, key: Hashable) -> None:
        self._until.pop(key, None)
        self._proven.discard(key)

    def __len__(self) -> int:
        return len(self._until)


def _name(group: Group, item: Item) -> Hashable:
    return hash((group.key, item.data))


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """Its clients' items in two batches; of at least two clients."""
    # Who asks the same stays together: where that is bad, they are found as one.
    alike: dict[bytes, list[Job]] = {}
    for job in batch.jobs:
        alike.setdefault(job.items[0].key, []).append(job)
    jobs = list(chain.from_iterable(alike.values()))
    middle = len(jobs) // 2
    parts = []
    for some in (jobs[:middle], jobs[middle:]):
        if len(some) == 1 and some[0].whole:
            parts.append(Batch(batch.group, [], alone=some[0]))
        else:
            chosen = set(some)
            entries = [entry for entry in batch.entries if entry.job in chosen]
            parts.append(Batch(batch.group, entries))
    return parts[0], parts[1]
