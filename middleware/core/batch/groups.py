"""The groups that there are, by what their requests have in common."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from .queue import Group

MAX_GROUPS = 1024
"""Groups without a batch or an item that are remembered, for when their clients come back."""


class Groups:
    __slots__ = ("_all", "_room")

    def __init__(self) -> None:
        self._all: dict[Hashable, Group] = {}
        self._room = MAX_GROUPS

    def of(self, key: Hashable, told: object) -> Group:
        """The group of this key, made where there is none."""
        group = self._all.get(key)
        if group is None:
            if len(self._all) >= self._room:
                self._forget()
            group = self._all[key] = Group(key, told)
        return group

    def drop(self, group: Group) -> None:
        if self._all.get(group.key) is group:
            del self._all[group.key]

    def _forget(self) -> None:
        self._all = {group.key: group for group in self._all.values() if not group.idle}
        # Where most are in use, looking for others each time would cost as much each time.
        self._room = max(MAX_GROUPS, 2 * len(self._all))

    def __iter__(self) -> Iterator[Group]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)
