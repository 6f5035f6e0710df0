"""Who is next, and who gives way: a queue that is fair between tenants, and knows priorities.

Of several priorities the higher goes first, but lets a share of the permits pass to those below
it, and leaves them the same share of the places: nothing that waits can be starved. Inside a
priority the tenant is next who holds the fewest permits; equals take turns (max-min fairness).
Where there is no room, the tenant who has most waiting gives way (as in FQ-CoDel, RFC 8290 section
4.1, but with its newest request): whoever floods the queue competes with himself.
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from collections.abc import Mapping

_WHOLE = 1 - 1e-9
"""Ten times a tenth is a little less than one."""


class Place:
    """One request that waits. priority: the higher first."""

    __slots__ = ("priority", "tenant")

    def __init__(self, tenant: str, priority: int) -> None:
        self.tenant = tenant
        self.priority = priority


class _Level:
    """One priority: a line for each tenant, first come first served.

    Lines stand in the order in which their tenants take turns, and by length in `_by_length`: the
    longest is known without a look at each.
    """

    __slots__ = ("_by_length", "_lines", "_longest", "count", "credit")

    def __init__(self) -> None:
        self.count = 0
        self.credit = 0.0
        """What it owes to those below, in permits."""
        self._lines: OrderedDict[str, OrderedDict[Place, None]] = OrderedDict()
        self._by_length: dict[int, dict[str, None]] = {}
        self._longest = 0

    def add(self, place: Place) -> None:
        line = self._lines.setdefault(place.tenant, OrderedDict())
        line[place] = None
        self._changed(place.tenant, len(line) - 1, len(line))

    def remove(self, place: Place) -> bool:
        line = self._lines.get(place.tenant)
        if line is None or place not in line:
            return False
        del line[place]
        self._changed(place.tenant, len(line) + 1, len(line))
        return True

    def next(self, held: Mapping[str, int]) -> Place:
        """Takes the next one out. held: permits of each tenant that has any.

        Looks at no more lines than there are permits: the first whose tenant holds none is it.
        """
        chosen, fewest = "", -1
        for tenant in self._lines:
            holds = held.get(tenant, 0)
            if fewest < 0 or holds < fewest:
                chosen, fewest = tenant, holds
                if not holds:
                    break
        line = self._lines[chosen]
        self._lines.move_to_end(chosen)
        place, _ = line.popitem(last=False)
        self._changed(chosen, len(line) + 1, len(line))
        return place

    def newest(self) -> Place:
        """Takes the newest of the longest line out; of equal lines the one that grew last."""
        tenant = next(reversed(self._by_length[self._longest]))
        line = self._lines[tenant]
        place, _ = line.popitem()
        self._changed(tenant, len(line) + 1, len(line))
        return place

    def _changed(self, tenant: str, old: int, new: int) -> None:
        self.count += new - old
        if old:
            same = self._by_length[old]
            del same[tenant]
            if not same:
                del self._by_length[old]
        if new:
            self._by_length.setdefault(new, {})[tenant] = None
        else:
            del self._lines[tenant]
        if new > self._longest or (old == self._longest and old not in self._by_length):
            self._longest = new  # lengths change by one


class FairQueue:
    """Requests that wait, in no more room than its owner leaves it.

    lower_share: of the permits, and of the places, that a priority leaves to those below it, 0 to
    0.5; 0: nothing while it needs them. A priority once seen is remembered: their number is for
    the owner to bound.
    """

    __slots__ = ("_levels", "_lower_share", "_order", "_size")

    def __init__(self, lower_share: float) -> None:
        self._lower_share = lower_share
        self._levels: dict[int, _Level] = {}
        self._order: list[int] = []  # negated, so that the highest comes first
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, place: Place) -> None:
        level = self._levels.get(place.priority)
        if level is None:
            level = self._levels[place.priority] = _Level()
            insort(self._order, -place.priority)
        level.add(place)
        self._size += 1

    def remove(self, place: Place) -> bool:
        """Whether it was still here."""
        level = self._levels.get(place.priority)
        if level is None or not level.remove(place):
            return False
        self._size -= 1
        return True

    def pop(self, held: Mapping[str, int]) -> Place:
        """Takes out whoever is next. held: permits of each tenant that has any.

        Raises IndexError where nothing waits.
        """
        below = self._size
        for negated in self._order:
            level = self._levels[-negated]
            if not level.count:
                continue
            below -= level.count
            if below:
                level.credit += self._lower_share
                if level.credit >= _WHOLE:
                    level.credit -= 1
                    continue
            self._size -= 1
            return level.next(held)
        raise IndexError("nothing waits")

    def drop(self) -> Place:
        """Takes out whoever gives way where one too many waits. Raises IndexError.

        That is one of the highest priority which takes more than what it leaves to those below,
        and of a lower one else.
        """
        room = self._size - 1
        below = self._size
        for negated in self._order:
            level = self._levels[-negated]
            if not level.count:
                continue
            below -= level.count
            if below <= int(room * self._lower_share):
                self._size -= 1
                return level.newest()
            room -= level.count
        raise IndexError("nothing waits")
