"""A request that was sent when nothing else was about."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from proxy.apis.items import Parted
from proxy.exchange import Request

from ..core.batch.queue import Batch, Group
from .lane import Lane


class Known(NamedTuple):
    """What a request is, once it was taken apart."""

    group: Group
    parted: Parted


class Lone:
    """It is under way before it was taken apart, so that its client does not wait for that: it is
    done while the server works on it, or as soon as somebody comes who could be merged with others
    meanwhile. bench `aggregate` at one at a time pays for it.

    known: None, where it is none of the layer's business; it is then no batch either.
    """

    __slots__ = ("_find", "_lane", "_request", "_settled", "batch", "known")

    def __init__(
        self, lane: Lane, request: Request, find: Callable[[Request], Known | None], now: float
    ) -> None:
        self.batch = Batch(lane.unknown, ())
        self.known: Known | None = None
        self._find = find
        self._lane = lane
        self._request = request
        self._settled = False
        lane.lone = self
        lane.plan.began(self.batch, now)

    def settle(self) -> None:
        """Takes it apart, if that was not done."""
        if self._settled:
            return
        self._settled = True
        lane, batch = self._lane, self.batch
        lane.lone = None
        known: Known | None = None
        try:
            self.known = known = self._find(self._request)
        finally:
            if known is None:
                lane.over(batch, ok=False)
            else:
                lane.plan.settle(batch, known.group, len(known.parted.items))
