"""Whose turn it is: of the groups that wait, which may go, and when another may."""

from __future__ import annotations

from math import inf

from .holds import Holds
from .queue import Group
from .ranking import Ranking
from .sizes import Sizes


class Turns:
    """A group may go when none of its batches is under way and nobody is waited for, or when
    enough of it waits to fill one, or one item has waited for long enough.

    It is looked at when something has happened to it (`changed`), when its time has come, and when
    it is first: not whenever another is chosen.
    """

    __slots__ = ("_changed", "_later", "_ready", "_size", "_sizes")

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._size = 0
        self._changed: dict[Group, None] = {}
        self._ready = Ranking()
        """Those that may go, by the tag of their first item in the fair order."""
        self._later = Ranking()
        """Those that may not yet, by the time when they may."""

    def changed(self, group: Group) -> None:
        """Items of it came or went, a batch of it has ended, or a hold."""
        if group.waiting:
            self._changed[group] = None
        else:
            self._changed.pop(group, None)
            self._ready.take(group)
            self._later.take(group)

    def ready(self, group: Group, now: float) -> bool:
        """Whether a batch of the group goes now, were there a place for it."""
        if not group.waiting:
            return False
        if not group.running and not Holds.held(group, now):
            return True
        if len(group.waiting) >= self._sizes.at(now, group).size:
            return True
        if now >= group.soonest:
            group.soonest = min([entry.due for entry in group.waiting])
        return now >= group.soonest

    @staticmethod
    def when(group: Group) -> float:
        """When one that is not ready will be, if nothing happens until then."""
        return group.soonest if group.running else min(group.soonest, group.hold_until)

    def first(self, now: float) -> Group | None:
        """Of the groups that may go the one whose item is first in the fair order."""
        self._look(now)
        ready = self._ready
        while (found := ready.first()) is not None:
            group = found[1]
            if self.ready(group, now):
                return group
            self._file(group, now)  # one of its batches went, or larger ones are allowed by now
        return None

    def wake(self, now: float) -> float:
        """When `first` will have something; `inf`: not by time alone."""
        if self.first(now) is not None:
            return now
        found = self._later.first()
        return inf if found is None else found[0]

    def _look(self, now: float) -> None:
        changed, later = self._changed, self._later
        size = self._sizes.most
        if size < self._size:
            # What waits may fill a smaller one. Those that are not ready have calls under way, or
            # had a moment ago: they are few.
            changed.update(dict.fromkeys(later))
        self._size = size
        while (found := later.first()) is not None and found[0] <= now:
            later.take(found[1])
            changed[found[1]] = None
        for group in changed:
            self._file(group, now)
        changed.clear()

    def _file(self, group: Group, now: float) -> None:
        if self.ready(group, now):
            self._later.take(group)
            self._ready.put(group, min([entry.tag for entry in group.waiting]))
        else:
            self._ready.take(group)
            self._later.put(group, self.when(group))
