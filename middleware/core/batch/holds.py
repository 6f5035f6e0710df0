"""Whether it pays to wait for clients who were just answered."""

from __future__ import annotations

from .queue import Group

EVERY = 16
"""Of so many chances one is taken although it has not paid: the clients may be others by now."""


class Holds:
    """Groups whose clients are given a moment to ask again, while that has paid of late."""

    __slots__ = ("_asked", "_paid", "until")

    def __init__(self) -> None:
        self.until = 0.0
        """When the last of them ends."""
        self._paid = 1.0
        self._asked = 0

    @staticmethod
    def held(group: Group, now: float) -> bool:
        """Whether those of the group who wait are to wait for others."""
        return group.jobs < group.expected and now < group.hold_until

    def begin(self, group: Group, clients: int, seconds: float, now: float) -> None:
        """Clients that were answered ask again soon: for as long as a batch costs whatever its
        size, it pays to wait for them. A lone client is never waited for.
        """
        self.over(group)
        group.hold_from = group.jobs
        if clients > 1 and seconds > 0 and self._worth:
            group.expected, group.hold_until = clients, now + seconds
            self.until = max(self.until, group.hold_until)

    @property
    def _worth(self) -> bool:
        if self._paid >= 0.5:
            return True
        self._asked += 1
        return self._asked % EVERY == 0

    def over(self, group: Group) -> None:
        """A hold of the group has ended; it paid where clients came who had not been there."""
        if group.expected > 1 and group.hold_from and group.jobs:
            self._paid += 0.125 * ((group.jobs > group.hold_from) - self._paid)
        group.hold_from = group.expected = 0
