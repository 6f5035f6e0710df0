"""Which calls wait for their answers for too long, found out while they wait."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from math import inf

from .call import Call


class Overdue:
    """The calls that wait, in the order in which they were sent: only the first is looked at.

    after: seconds; one that waits for longer is overdue.
    """

    __slots__ = ("_after", "_calls", "look_at")

    def __init__(self, after: float) -> None:
        self._after = after
        self._calls: OrderedDict[Call, None] = OrderedDict()
        self.look_at = inf
        """When the first one may become overdue: before then none is."""

    def waits(self, call: Call) -> None:
        """From `call.started` on, which is now."""
        self._calls[call] = None
        if self.look_at == inf:
            self.look_at = call.started + self._after

    def found(self, now: float) -> Iterator[Call]:
        """Those that are overdue, taken out as they are told."""
        calls = self._calls
        while calls:
            call = next(iter(calls))
            if now - call.started <= self._after:
                self.look_at = call.started + self._after
                return
            del calls[call]
            yield call
        self.look_at = inf

    def ended(self, call: Call, now: float) -> bool:
        """It waits no longer. Whether it did until now, and was overdue."""
        return self._calls.pop(call, call) is None and now - call.started > self._after

    def clear(self) -> None:
        self._calls.clear()
        self.look_at = inf
