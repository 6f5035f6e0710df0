"""A request that was sent when nothing else was about."""

from __future__ import annotations

from collections.abc import Callable

from proxy.apis.items import Parted
from proxy.exchange import Headers, Request

from ..core.batch.queue import Batch, Group
from .lane import Lane

Take = Callable[[Request], Parted | None]
Find = Callable[[Request, Headers, Parted], Group]


class Lone:
    """It is under way before anything is known of it, so that its client does not wait for that.
    It is taken apart while the server works on it; what it could be merged with is found out when
    somebody comes meanwhile, and else never. bench `aggregate` at one at a time pays for it.

    parted: None, before that and where it is none of the layer's business; it is then no batch
    either.
    """

    __slots__ = ("_find", "_headers", "_lane", "_looked", "_request", "_take", "batch", "parted")

    def __init__(self, lane: Lane, request: Request, take: Take, find: Find, now: float) -> None:
        self.batch = Batch(lane.unknown, ())
        self.parted: Parted | None = None
        self._take = take
        self._find = find
        self._lane = lane
        self._request = request
        self._headers = request.headers.copy()  # layers inside may put others in their place
        self._looked = False
        lane.lone = self
        lane.plan.began(self.batch, now)

    def look(self) -> None:
        """Takes it apart, if that was not done."""
        if self._looked:
            return
        self._looked = True
        lane, batch = self._lane, self.batch
        try:
            self.parted = self._take(self._request)
        finally:
            if self.parted is None:
                lane.lone = None
                lane.over(batch, ok=False)
            else:
                lane.plan.resized(batch, len(self.parted.items))

    def settle(self) -> None:
        """It is one of its group from here on, if it is any."""
        self.look()
        lane = self._lane
        if lane.lone is self and self.parted is not None:
            lane.lone = None
            group = self._find(self._request, self._headers, self.parted)
            lane.plan.settle(self.batch, group)

    def over(self) -> None:
        """It is under way no more: who comes has nothing to settle."""
        if self._lane.lone is self:
            self._lane.lone = None
