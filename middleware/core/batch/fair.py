"""A fair order: start-time fair queueing (Goyal, Vin, Cheng 1996), every item of equal cost."""

from __future__ import annotations

from collections.abc import Hashable

MAX_TENANTS = 4096
"""Tenants whose last item is remembered; beyond, only of those who have not been served."""


class FairOrder:
    """Tags by which items of several tenants take turns, each tenant's in the order they came.

    A tenant that was away gains nothing by it, and one with a thousand items keeps nobody waiting
    for more than one of them.
    """

    __slots__ = ("_last", "_now", "_room")

    def __init__(self) -> None:
        self._now = 0.0
        self._last: dict[Hashable, float] = {}
        self._room = MAX_TENANTS

    def tag(self, tenant: Hashable) -> float:
        """The place of the tenant's next item: the smaller the sooner."""
        tag = max(self._now, self._last.get(tenant, 0.0))
        self._last[tenant] = tag + 1
        if len(self._last) > self._room:
            now = self._now
            self._last = {tenant: last for tenant, last in self._last.items() if last > now}
            # Where so many wait, looking for others at each item would cost as much at each.
            self._room = max(MAX_TENANTS, 2 * len(self._last))
        return tag

    def served(self, tag: float) -> None:
        """The item with this tag was the first of all that wait."""
        self._now = max(self._now, tag)

    def clear(self) -> None:
        """Nobody waits."""
        self._now = 0.0
        self._last.clear()

    def __len__(self) -> int:
        return len(self._last)
