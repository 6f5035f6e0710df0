"""Whether it pays to wait for clients who were just answered."""

from __future__ import annotations

from .queue import Group

EVERY = 16
"""Of so many chances one is taken although it has not paid: the clients may be others by now."""


class Holds:
    """Whether giving clients a moment to come back has paid of late."""

    __slots__ = ("_asked", "_paid")

    def __init__(self) -> None:
        self._paid = 1.0
        self._asked = 0

    @property
    def worth(self) -> bool:
        if self._paid >= 0.5:
            return True
        self._asked += 1
        return self._asked % EVERY == 0

    def over(self, group: Group) -> None:
        """A hold of the group has ended; it paid where clients came who had not been there."""
        if group.expected > 1 and group.hold_from and group.jobs:
            self._paid += 0.125 * ((group.jobs > group.hold_from) - self._paid)
        group.hold_from = 0
