"""How large a batch may be: by the file, by what pays, and by what the server was seen to take."""

from __future__ import annotations

from .pace import Pace
from .queue import Bounds, Group

CEILING_FOR = 60.0
"""Seconds for which batches are kept as small as those that a server took after a larger one."""


class Sizes:
    """`now` is passed in, in seconds."""

    __slots__ = ("_bounds", "_ceiling", "_given", "_pace", "_until")

    def __init__(self, bounds: Bounds, pace: Pace) -> None:
        self._given = self._bounds = bounds
        self._pace = pace
        self._ceiling = bounds.size
        """The smallest of any group's, until `_until`."""
        self._until = 0.0

    @property
    def most(self) -> int:
        """Items that a batch of whatever group may have now."""
        return self._pace.size

    def at(self, now: float, group: Group | None = None) -> Bounds:
        """Of a batch of the group made now; of any group's where it is not known."""
        size = self._pace.size
        if now < self._until:
            if group is None:
                size = min(size, self._ceiling)
            elif now < group.ceiling_until:
                size = min(size, group.ceiling)
        if size != self._bounds.size:  # a tuple for each request costs: bench `aggregate`
            self._bounds = self._given._replace(size=size)
        return self._bounds

    def learn(self, group: Group, size: int, now: float) -> None:
        """So many items of the group the server takes, and no more."""
        others = self._ceiling if now < self._until else size
        self._ceiling = min(size, others)
        group.ceiling = size
        group.ceiling_until = self._until = now + CEILING_FOR
