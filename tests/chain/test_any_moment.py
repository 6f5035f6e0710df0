"""The layers that keep a server alive, in one chain, under any order of what may happen: answers of
every kind, clients that leave at each moment, time that passes.

Nothing they hand out is lost: a permit, a place in the queue, a probe, a share of the budget.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from middleware.concurrency.permits import QueueFull, QueueTimeout
from proxy.errors import (
    ConnectFailed,
    ProxyError,
    UpstreamClosed,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from proxy.exchange import Response

from .guard import ATTEMPTS, BACKUP, LIMIT, PROBES, QUEUE, Call, Guard, Turned

RATIO = 0.2

QUESTION = b'{"model":"m","input":"a"}'
STREAM = b'{"model":"m","stream":true,"seed":1,"messages":[]}'
ASKED = {
    "embedding": (b"/v1/embeddings", QUESTION),
    "stream": (b"/v1/chat/completions", STREAM),
    "unknown": (b"/any/thing", b"{}"),
    "upload": (b"/v1/embeddings", b""),
}
EVENT, ERROR = b'data: {"choices":[]}\n\n', b'data: {"error":{"message":"no"}}\n\n'
ANSWERS: dict[str, Any] = {
    "200": lambda: Response(200, [], b"{}"),
    "404": lambda: Response(404, [], b"{}"),
    "429": lambda: Response(429, [(b"retry-after", b"1")], b"{}"),
    "500": lambda: Response(500, [], b"{}"),
    "502": lambda: Response(502, [(b"retry-after", b"3")], b"{}"),
    "503": lambda: Response(503, [], b"{}"),
    "503, soon": lambda: Response(503, [(b"retry-after", b"1")], b"{}"),
    "503, late": lambda: Response(503, [(b"retry-after", b"60")], b"{}"),
    "no connection": lambda: ConnectFailed("x"),
    "closed": lambda: UpstreamClosed("x"),
    "too late": lambda: UpstreamTimeout("x"),
    "no HTTP": lambda: UpstreamProtocolError("x"),
}


class AnyMoment(RuleBasedStateMachine):
    guard: Guard
    floor: int

    def __init__(self) -> None:
        super().__init__()
        self.loop = Turned()

    @initialize(
        scope=st.sampled_from(["endpoint", "endpoint", "route", "upstream"]),
        hedge=st.sampled_from(["off", {"after": "1s"}, {"after": "1s"}]),
        fallback=st.sampled_from([None, "backup"]),
        limit=st.sampled_from([LIMIT, "adaptive"]),
        floor=st.sampled_from([1, 100]),
    )
    def begin(self, scope: str, hedge: Any, fallback: str | None, limit: Any, floor: int) -> None:
        bounds = {} if limit == LIMIT else {"max_limit": LIMIT}
        self.floor = floor
        # Its window is longer than any schedule: what was taken of it can be counted.
        budget = {"floor": floor, "ratio": RATIO, "window": 1e6}
        self.guard = Guard(
            self.loop, concurrency={"limit": limit, **bounds},
            retry={"hedge": hedge, "budget": budget},
            circuit_breaker={"scope": scope, "fallback": fallback},
        )  # fmt: skip

    # -- what may happen

    @rule(
        kind=st.sampled_from([*ASKED, "embedding", "stream"]), priority=st.integers(0, 2),
        who=st.sampled_from("ab"), stale=st.booleans(), times=st.integers(1, 4),
    )  # fmt: skip
    def clients_ask(self, kind: str, priority: int, who: str, stale: bool, times: int) -> None:
        for _ in range(times):
            self.guard.ask(*ASKED[kind], priority, who, stale)
        self.loop.settle()

    @precondition(lambda self: self.guard.live)
    @rule(data=st.data(), how=st.sampled_from([*ANSWERS, "stream", "stream"]))
    def a_call_is_answered(self, data: st.DataObject, how: str) -> None:
        self._becomes(data.draw(st.sampled_from(self.guard.live)), how)
        self.loop.settle()

    @precondition(lambda self: self.guard.live)
    @rule(data=st.data(), how=st.sampled_from([*ANSWERS, "stream"]), turns=st.integers(0, 2))
    def a_call_is_answered_as_a_client_leaves(
        self, data: st.DataObject, how: str, turns: int
    ) -> None:
        call = data.draw(st.sampled_from(self.guard.live))
        client = data.draw(st.sampled_from(self.guard.under_way))
        if data.draw(st.booleans()):
            client.leave()
            self.loop.turn(turns)
            self._becomes(call, how)
        else:
            self._becomes(call, how)
            self.loop.turn(turns)
            if not client.over:
                client.leave()
        self.loop.settle()

    @precondition(lambda self: self.guard.under_way)
    @rule(data=st.data())
    def clients_leave(self, data: st.DataObject) -> None:
        some = st.lists(st.sampled_from(self.guard.under_way), min_size=1, max_size=4, unique=True)
        for one in data.draw(some):
            one.leave()
        self.loop.settle()

    @precondition(lambda self: self.guard.uploads)
    @rule(data=st.data())
    def an_upload_ends(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.guard.uploads)).end()
        self.loop.settle()

    @rule(seconds=st.sampled_from([0.0625, 0.5, 1.0, 2.0, 5.0, 9.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.now += seconds
        self.loop.settle()

    def _becomes(self, call: Call, how: str) -> None:
        stream = call.stream
        if not call.live:
            pass  # its client has just left
        elif stream is None:
            if how == "stream":
                call.begin()
            else:
                call.answer(ANSWERS[how]())
        elif how == "stream":
            stream.feed(EVENT)
        elif how in ("200", "404"):
            stream.end()
        elif how == "429":
            stream.feed(EVENT[:9])
        elif how == "500":
            stream.feed(ERROR)
        else:
            stream.fail(UpstreamClosed("x"))

    # -- what always holds

    @invariant()
    def every_permit_is_somebodys(self) -> None:
        """Who is under way holds one or waits for one, and nobody else."""
        permits = self.guard.permits
        assert permits.in_flight + permits.waiting == len(self.guard.under_way)
        assert permits.in_flight == sum(permits._held.values()) <= LIMIT
        assert permits.waiting <= QUEUE
        assert not permits.waiting or permits.in_flight >= permits.limit

    @invariant()
    def every_call_is_somebodys(self) -> None:
        """One for each client that has a permit, two where it is hedged; none for who has left."""
        guard = self.guard
        live = Counter(int(call.number) for call in guard.live)
        for number, count in live.items():
            assert not guard.clients[number].over
            assert count <= 2
        assert len(live) <= guard.permits.in_flight
        for number, count in Counter(int(call.number) for call in guard.calls).items():
            assert count <= ATTEMPTS, number

    @invariant()
    def no_more_is_tried_again_than_the_budget_allows(self) -> None:
        asked = {call.number for call in self.guard.calls}
        extra = len(self.guard.calls) - len(asked)
        assert extra <= self.floor + RATIO * len(self.guard.clients)

    @invariant()
    def no_more_probes_are_out_than_may(self) -> None:
        for _, endpoint, circuit in self.guard.breaker.circuits:
            out = sum(one.endpoint in (endpoint or one.endpoint) and one.endpoint != BACKUP
                      for one in self.guard.live)  # fmt: skip
            assert len(circuit._probing) <= out
            assert len(circuit._probing) + circuit.success_counter <= PROBES

    @invariant()
    def every_end_is_told_once(self) -> None:
        """Of an attempt when it is over, of the last one with its client's exchange."""
        for call in self.guard.calls:
            over = self.guard.clients[int(call.number)].over
            assert len(call.ends) <= 1
            assert call.ends or not over
            assert not (call.live and call.ends)

    def _the_numbers_add_up(self) -> None:
        """When nobody is under way."""
        guard = self.guard
        attempts = guard.sums("retry_attempts_total")
        firsts = len(guard.clients) - self._never_sent()
        hedges = guard.number("hedges_total", route="r", outcome="sent")
        assert attempts == firsts + guard.sums("retries_total") + hedges
        refused = guard.sums("circuit_breaker_refused_total")
        fell_back = guard.sums("circuit_breaker_fallbacks_total")
        assert attempts == len(guard.calls) + refused - fell_back
        assert fell_back == sum(call.endpoint == BACKUP for call in guard.calls)

    def _never_sent(self) -> int:
        """Clients that never had a permit, and wait for none."""
        permits = self.guard.permits
        assert permits.full == sum(isinstance(one.error, QueueFull) for one in self.guard.clients)
        assert permits.late == sum(
            isinstance(one.error, QueueTimeout) for one in self.guard.clients
        )
        return permits.full + permits.late + permits.left

    @invariant()
    def nobody_is_told_of_a_bug(self) -> None:
        assert not self.loop.unhandled
        for one in self.guard.clients:
            assert not one.over or one.left or one.response or isinstance(one.error, ProxyError)

    # -- how it ends

    def teardown(self) -> None:
        try:
            if hasattr(self, "guard"):
                self._everybody_is_answered()
                self._the_numbers_add_up()
                self._all_is_as_before()
        finally:
            self.loop.close()

    def _everybody_is_answered(self) -> None:
        """Once the endpoints are well and time passes."""
        for _ in range(60):
            for call in self.guard.live:
                if call.stream is None:
                    call.answer(ANSWERS["200"]())
                else:
                    call.stream.feed(EVENT)
                    call.stream.end()
            self.loop.now += 1.0
            self.loop.settle()
            if not self.guard.under_way:
                return
        raise AssertionError(f"{len(self.guard.under_way)} wait for ever")

    def _all_is_as_before(self) -> None:
        """Nothing is held, and circuits close when they are asked again."""
        guard = self.guard
        assert not guard.permits.in_flight and not guard.permits.waiting and not guard.permits._held
        assert not asyncio.all_tasks(self.loop) and not guard.env.spawned
        assert all(len(call.ends) == 1 for call in guard.calls)
        self.loop.now += 100.0
        for _ in range(4 * PROBES):
            client = guard.ask(*ASKED["embedding"], 0, "a", True)
            self.loop.settle()
            (call,) = guard.live
            call.answer(ANSWERS["200"]())
            self.loop.settle()
            assert client.response is not None and client.response.status == 200
        for _, _, circuit in guard.breaker.circuits:
            assert circuit.state != "half-open" or len(circuit._probing) == 0
            assert not circuit.overdue._calls


TestAnyMoment = AnyMoment.TestCase
TestAnyMoment.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
