"""Which items are computed together, by length: a batch is padded to its longest item."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
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
    items = [entry.item for entry in waiting]
    if bounds.hold(items) and len({item.size for item in items}) == 1:
        return list(waiting)  # nothing to choose: tensors of a group are of one length
    ahead = list(islice(waiting, LOOKAHEAD * bounds.size))
    late = [entry for entry in ahead if entry.passed is not None and now - entry.passed >= delay]
    first = late[0] if late else ahead[0]
    near = _by_nearness(first.item.size)
    most, tokens, heaviest = bounds
    chosen: dict[Entry, None] = {}
    keys: set[bytes] = set()
    longest = length = weight = 0
    for entry in (first, *sorted(late, key=near), *sorted(ahead, key=near)):
        key, size = entry.item.key, entry.item.size
        if key not in keys:
            count = len(keys) + 1
            longer = max(longest, size)
            longer_length = length + max(SHORT, size)
            heavier = weight + entry.item.weight
            if keys and (
                count > most
                or (heaviest is not None and heavier > heaviest)
                or (tokens is not None and longer * count > tokens)
                or longer_length < (1 - max_waste) * max(SHORT, longer) * count
            ):
                continue
            keys.add(key)
            longest, length, weight = longer, longer_length, heavier
        chosen[entry] = None
    for entry in ahead[:most]:
        if entry.passed is None and entry not in chosen:
            entry.passed = now
    return list(chosen)


def _by_nearness(size: int) -> Callable[[Entry], int]:
    return lambda entry: abs(entry.item.size - size)


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
