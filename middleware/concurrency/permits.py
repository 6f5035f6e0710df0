"""Permits to be in flight, and whoever waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum

from proxy.errors import ClientGone, ProxyError, Unavailable
from proxy.exchange import Outcome

from ..core.drain import Drain
from ..core.queue import FairQueue, Place

QUEUE_FACTOR = 10
"""Places in the queue for each permit, where the file does not say how many."""
LEAST_RETRY = 1.0
MOST_RETRY = 60.0
"""Seconds after which a refused client is told to come again, at the least and at the most."""


class QueueFull(Unavailable):
    """As many wait as may."""

    code = "queue_full"


class QueueTimeout(ProxyError):
    """No permit became free in time; nothing was sent upstream."""

    status = 504
    code = "queue_timeout"


class _Verdict(Enum):
    GRANTED = 0
    DISPLACED = 1
    LATE = 2


class _Waiter(Place):
    """One request that waits. What becomes of it is a result and never an exception: one that
    nobody takes, because its client has left meanwhile, would be reported.
    """

    __slots__ = ("verdict",)

    def __init__(self, tenant: str, priority: int, verdict: asyncio.Future[_Verdict]) -> None:
        super().__init__(tenant, priority)
        self.verdict = verdict


class Permits:
    """At most `limit` are given out; beyond, requests wait in a bounded queue.

    While `in_flight` is below `limit` nobody waits: then `take`, else `await turn`. Each permit
    taken must be given back once. queue: places; None: QUEUE_FACTOR for each permit.
    """

    def __init__(
        self,
        limit: int,
        queue: int | None,
        timeout: float,
        lower_share: float,
        clock: Callable[[], float],
    ) -> None:
        self.limit = limit
        self.in_flight = 0
        self.waited = 0
        """Requests that had to wait, whatever came of it."""
        self.waited_seconds = 0.0
        self.full = 0
        self.late = 0
        self.left = 0
        """Requests whose client left while they waited."""
        self._places = queue
        self._timeout = timeout
        self._clock = clock
        self._held: dict[str, int] = {}
        self._queue = FairQueue(lower_share)
        self._drain = Drain()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def places(self) -> int:
        """Requests that may wait."""
        return self.limit * QUEUE_FACTOR if self._places is None else self._places

    def take(self, tenant: str) -> None:
        """Only while `in_flight` is below `limit`."""
        self.in_flight += 1
        held = self._held
        held[tenant] = held.get(tenant, 0) + 1

    def give_back(self, tenant: str) -> None:
        self.in_flight -= 1
        held = self._held
        left = held[tenant] - 1
        if left:
            held[tenant] = left
        else:
            del held[tenant]
        if len(self._queue):
            self._admit()

    def set_limit(self, limit: int) -> None:
        """Permits over a lower limit are kept until they are given back; nobody in the queue
        loses his place.
        """
        self.limit = limit
        self._admit()

    async def turn(
        self, tenant: str, priority: int, has_left: Callable[[], bool] | None = None
    ) -> None:
        """Waits for a permit and takes it. Raises QueueFull or QueueTimeout.

        has_left: of a client that nobody sees leave; asked once, when its turn has come. Raises
        ClientGone where it has.
        """
        loop = asyncio.get_running_loop()
        waiter = _Waiter(tenant, priority, loop.create_future())
        queue = self._queue
        began = self._clock()
        if not len(queue):
            self._drain.filled(began)
        queue.push(waiter)
        if len(queue) > self.places:
            self._displace(waiter)
        self.waited += 1
        timer = loop.call_later(self._timeout, self._expire, waiter)
        try:
            verdict = await waiter.verdict
        except BaseException:
            self._leave(waiter)
            raise
        finally:
            timer.cancel()
            self.waited_seconds += self._clock() - began
        if verdict is _Verdict.DISPLACED:
            raise self._refusal()
        if verdict is _Verdict.LATE:
            self.late += 1
            raise QueueTimeout(f"no permit became free within {self._timeout:g} s")
        if has_left is not None and has_left():
            self._leave(waiter)
            raise ClientGone

    def _displace(self, newcomer: _Waiter) -> None:
        """Raises QueueFull where it is the newcomer who gives way."""
        displaced = self._queue.drop()
        if displaced is newcomer:
            if not len(self._queue):
                self._drain.emptied()
            raise self._refusal()
        assert isinstance(displaced, _Waiter)
        _tell(displaced, _Verdict.DISPLACED)

    def _refusal(self) -> QueueFull:
        self.full += 1
        after = self._drain.seconds(len(self._queue), self._clock())
        return QueueFull(
            "as many requests wait for the server as may",
            retry_after=min(max(after, LEAST_RETRY), MOST_RETRY),
        )

    def _expire(self, waiter: _Waiter) -> None:
        if self._remove(waiter):
            _tell(waiter, _Verdict.LATE)

    def _leave(self, waiter: _Waiter) -> None:
        """Its client has left: a permit that it has already is the next one's."""
        self.left += 1
        verdict = waiter.verdict
        if not verdict.done() or verdict.cancelled():
            self._remove(waiter)
        elif verdict.result() is _Verdict.GRANTED:
            self.give_back(waiter.tenant)

    def _remove(self, waiter: _Waiter) -> bool:
        removed = self._queue.remove(waiter)
        if removed and not len(self._queue):
            self._drain.emptied()
        return removed

    def _admit(self) -> None:
        queue = self._queue
        while self.in_flight < self.limit and len(queue):
            waiter = queue.pop(self._held)
            assert isinstance(waiter, _Waiter)
            if _tell(waiter, _Verdict.GRANTED):
                self.take(waiter.tenant)
                self._drain.served(self._clock(), len(queue))
            elif not len(queue):
                self._drain.emptied()


def _tell(waiter: _Waiter, verdict: _Verdict) -> bool:
    """False where its client has left in this very moment, and it has not come to know."""
    if waiter.verdict.done():
        return False
    waiter.verdict.set_result(verdict)
    return True


class Permit:
    """A permit that one request holds: given back when its exchange ends, and only once."""

    __slots__ = ("_permits", "_tenant")

    def __init__(self, permits: Permits, tenant: str) -> None:
        self._permits: Permits | None = permits
        self._tenant = tenant

    def ended(self, outcome: Outcome) -> None:
        permits = self._permits
        if permits is not None:
            self._permits = None
            permits.give_back(self._tenant)
