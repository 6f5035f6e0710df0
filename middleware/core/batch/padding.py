"""Which items are computed together, by length: a batch is padded to its longest item."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from .queue import Bounds, Entry

LOOKAHEAD = 8
"""Batches' worth of items, in the fair order, among which those of like length are looked for."""

SHORT = 16
"""Tokens up to which lengths are all the same: what padding costs there is nothing beside what a
call costs.
"""


def choose(
    waiting: Sequence[Entry], bounds: Bounds, max_waste: float, delay: float, now: float
) -> list[Entry]:
    """Of items in the fair order those that go now: the first one, and those nearest to it in
    length, while no more than the share `max_waste` of the batch is padding. Where any were passed
    over for `delay` seconds, it is the first of them, and they come before all others.
    Items that ask the same count once.
    """
    ahead = list(islice(waiting, LOOKAHEAD * bounds.size))
    late = [entry for entry in ahead if entry.passed is not None and now - entry.passed >= delay]
    first = late[0] if late else ahead[0]
    size = first.item.size
    chosen = _Chosen(bounds, max_waste)
    chosen.add(first)
    for some in (late, ahead):
        for entry in sorted(some, key=lambda one: abs(one.item.size - size)):
            chosen.add(entry)
    for entry in ahead[: bounds.size]:
        if entry.passed is None and entry not in chosen.entries:
            entry.passed = now
    return list(chosen.entries)


class _Chosen:
    """A batch in the making."""

    __slots__ = ("_bounds", "_bytes", "_keys", "_longest", "_most", "_tokens", "entries")

    def __init__(self, bounds: Bounds, max_waste: float) -> None:
        self.entries: dict[Entry, None] = {}
        self._bounds = bounds
        self._most = 1 - max_waste
        self._keys: set[bytes] = set()
        self._longest = self._tokens = self._bytes = 0

    def add(self, entry: Entry) -> None:
        item = entry.item
        if entry in self.entries:
            return
        if item.key in self._keys:
            self.entries[entry] = None
            return
        count = len(self._keys) + 1
        longest = max(self._longest, item.size)
        length = max(SHORT, item.size)
        if self._keys:
            size, tokens, weight = self._bounds
            if count > size or (weight is not None and self._bytes + item.weight > weight):
                return
            if tokens is not None and longest * count > tokens:
                return
            if self._tokens + length < self._most * max(SHORT, longest) * count:
                return
        self.entries[entry] = None
        self._keys.add(item.key)
        self._longest = longest
        self._tokens += length
        self._bytes += item.weight


class Padding:
    """Tokens that padding adds, as sent, and as it would be had the same batches been made in the
    order of arrival.
    """

    __slots__ = ("_arrived", "in_order", "sent", "tokens")

    def __init__(self) -> None:
        self.tokens = 0
        """Of the items themselves."""
        self.sent = 0
        self.in_order = 0
        self._arrived: deque[int] = deque()

    def arrived(self, size: int) -> None:
        self._arrived.append(size)

    def left(self, size: int) -> None:
        """An item will never be sent."""
        try:
            self._arrived.remove(size)
        except ValueError:
            pass  # one before it left in its stead

    def batch(self, sizes: Sequence[int]) -> None:
        tokens = sum(sizes)
        self.tokens += tokens
        self.sent += max(sizes) * len(sizes) - tokens
        arrived = self._arrived
        as_came = [arrived.popleft() for _ in range(min(len(sizes), len(arrived)))]
        if as_came:
            self.in_order += max(as_came) * len(as_came) - sum(as_came)
