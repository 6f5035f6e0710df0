"""Ten times what a server can do, second by second on a clock that the test turns.

The server computes 8 requests side by side, 50 ms each, 160 a second; each one more costs it one
percent of its speed. Clients wait for two seconds and leave. `python -m tests.bench.overload` does
the same with processes and sockets.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from proxy.chain import Handler
from proxy.errors import ProxyError
from proxy.exchange import Request, Response

from .rig import Rig, fine, request
from .servers import SharedSlots

SLOTS = 8
WORK = 0.05
BEST = SLOTS / WORK
PATIENCE = 2.0
PENALTY = 0.01


class Rush:
    """Requests at `rate` a second for `seconds`, each from a client of its own.

    keys: of the layer; None: without it. tenants: chooses a client's address.
    """

    def __init__(
        self,
        keys: dict[str, Any] | None,
        rate: float = 10 * BEST,
        seconds: float = 5.0,
        tenants: Callable[[Random], str] = lambda rng: "10.0.0.1",
    ) -> None:
        self.rig = Rig(**(keys or {}))
        self.server = SharedSlots(SLOTS, PENALTY)
        self.handler: Handler = self._serve
        if keys is not None:
            self.rig._next = self._serve  # type: ignore[method-assign]
            self.handler = self.rig.bind("default")
        self.rng = Random(7)
        self.came: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.served_by: Counter[str] = Counter()
        self.most_waiting = self.most_at_server = 0
        self.retry_after: list[float] = []
        self.goodput = 0.0
        """Answers while requests came, of what the server's best would have been."""
        self._rate = rate
        self._end = self.rig.now + seconds
        self._tenants = tenants
        self._began = self.rig.now
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    async def _serve(self, one: Request) -> Response:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.server.start(done, WORK * self.rng.uniform(0.6, 1.4), self.rig.now)
        self.most_at_server = max(self.most_at_server, len(self.server))
        try:
            await done
        except asyncio.CancelledError:
            if not done.done() or done.cancelled():
                self.server.leave(done, self.rig.now)
            raise
        return fine()

    async def _ask(self, one: Request, began: float) -> None:
        try:
            await self.handler(one)
            self.came["served"] += 1
            if self.rig.now <= self._end:
                self.goodput += 1 / (BEST * (self._end - self._began))
            self.served_by[one.client] += 1
            self.latencies.append(self.rig.now - began)
        except ProxyError as error:
            self.came[error.code] += 1
            assert error.retry_after is not None
            self.retry_after.append(error.retry_after)
        except asyncio.CancelledError:
            self.came["left"] += 1
        finally:
            one.finish()

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), what))

    def _arrive(self) -> None:
        now = self.rig.now
        one = request(client=self._tenants(self.rng))
        task = asyncio.get_running_loop().create_task(self._ask(one, now))
        self._at(now + PATIENCE, lambda: task.cancel() and None)
        if now < self._end:
            self._at(now + self.rng.expovariate(self._rate), self._arrive)

    async def run(self) -> Rush:
        self._at(self.rig.now, self._arrive)
        while self._events or self.server.due() is not None:
            due = self.server.due()
            if due is not None and (not self._events or due <= self._events[0][0]):
                self.rig.now = max(self.rig.now, due)
                done = self.server.answer(self.rig.now)
                assert isinstance(done, asyncio.Future)
                done.set_result(None)
            else:
                self.rig.now, _, what = heapq.heappop(self._events)
                what()
            for _ in range(3):
                await asyncio.sleep(0)
            if self.rig.layer.permits:
                self.most_waiting = max(self.most_waiting, self.rig.permits.waiting)
        return self

    @property
    def p99(self) -> float:
        return sorted(self.latencies)[len(self.latencies) * 99 // 100]


async def test_without_the_layer_the_server_collapses() -> None:
    """It has hundreds of requests at once, and hardly an answer comes before its client leaves."""
    rush = await Rush(None).run()
    assert rush.most_at_server > 100
    assert rush.goodput < 0.25
    assert rush.came["left"] > 0.9 * sum(rush.came.values())


@pytest.mark.parametrize("limit", [SLOTS, "adaptive"])
async def test_with_the_layer_it_does_its_best(limit: int | str) -> None:
    """95 % of its best, the start included; each answer within the time that the queue and the
    server take; the rest is refused at once. A limit that is looked for is half as high at times.
    """
    seconds = 5 if limit == SLOTS else 15
    rush = await Rush({"limit": limit, "queue": 10 * SLOTS}, seconds=seconds).run()
    assert rush.goodput >= 0.95
    slowest = 0.95 * BEST if limit == SLOTS else BEST / 2
    assert rush.p99 <= (10 * SLOTS + 2 * SLOTS) / slowest
    assert rush.most_at_server <= (SLOTS if limit == SLOTS else 2 * SLOTS)
    assert rush.most_waiting <= 10 * SLOTS
    assert rush.came["queue_full"] > 0.8 * sum(rush.came.values())
    assert min(rush.retry_after) >= 1
    assert rush.rig.permits.in_flight == rush.rig.permits.waiting == 0


async def test_a_short_queue_keeps_answers_quick() -> None:
    """Who is admitted waits for two turns of the server at most."""
    rush = await Rush({"limit": SLOTS, "queue": 2 * SLOTS}).run()
    assert rush.goodput >= 0.95
    assert rush.p99 <= 5 * WORK


async def test_a_light_tenant_does_not_notice_the_flood() -> None:
    """One address sends 9 requests of 10; ten others together a little less than the server can.
    Nearly all of theirs are answered, and the flood gets what is left.
    """
    others = [f"10.0.1.{number}" for number in range(10)]

    def who(rng: Random) -> str:
        return "10.0.0.1" if rng.random() < 0.94 else rng.choice(others)

    rush = await Rush({"limit": SLOTS}, tenants=who).run()
    light = sum(rush.served_by[tenant] for tenant in others)
    asked = 0.06 * sum(rush.came.values())
    assert light >= 0.9 * asked
    assert rush.served_by["10.0.0.1"] >= 0.2 * BEST * 5
