"""A call and its hedge under every interleaving: one answer, no leak. No sockets."""

from __future__ import annotations

import asyncio
from itertools import product

import pytest

from middleware.retry.config import HedgeKeys
from proxy.errors import ProxyError, Unavailable, UpstreamClosed
from proxy.exchange import Response
from tests.retry.rig import STREAM, event
from tests.retry.stage import Call, Stage, ticks

SEEDED = STREAM[:-1] + b',"seed":1}'


class At0(Stage):
    """Its hedges are sent in the loop's next turn."""

    def __init__(self, **keys: object) -> None:
        super().__init__(hedge={"after": "1ms"}, **keys)
        self.layer._hedge_after = lambda keys: 0.0  # type: ignore[method-assign]


def good(call: Call) -> None:
    call.answer()


def busy(call: Call) -> None:
    call.answer(503)


def broken(call: Call) -> None:
    call.answer(500)


def dead(call: Call) -> None:
    call.fail(UpstreamClosed("gone"))


def refused(call: Call) -> None:
    call.fail(Unavailable("no", code="circuit_open"))


def begins(call: Call) -> None:
    call.begin()


def streams(call: Call) -> None:
    call.begin()
    assert call.stream is not None
    call.stream.feed(event("a"))


def ends(call: Call) -> None:
    call.begin()
    assert call.stream is not None
    call.stream.end()


PLAYS = [good, busy, broken, dead, refused, streams, begins, ends]


@pytest.mark.parametrize("first", PLAYS)
@pytest.mark.parametrize("second", PLAYS)
async def test_every_interleaving(first: object, second: object) -> None:
    """Whoever ends first and however, with the client leaving at any point or not: the client
    gets one answer at most; every other body is aborted, every end told once, no task is left.
    """
    for order, gap, leave in product((0, 1), (0, 1, 2, 5), (None, 0, 1, 2)):
        stage = At0(attempts=2, budget={"ratio": 1})
        request = stage.request(b"/v1/chat/completions", SEEDED)
        asking = asyncio.ensure_future(stage.layer.handle(request))
        while len(stage.calls) < 2:
            await asyncio.sleep(0)
        one, other = stage.calls
        steps = [lambda one=one: first(one), lambda other=other: second(other)]  # type: ignore[operator]
        if order:
            steps.reverse()
        if leave is not None:
            steps.insert(leave, asking.cancel)
        for step in steps:
            step()
            await ticks(gap)
        await ticks()
        if not asking.done():
            asking.cancel()  # both streams have begun and neither goes on
            await ticks()
        told: Response | None = None
        try:
            told = asking.result()
        except (ProxyError, asyncio.CancelledError):
            pass
        request.outcome.cancelled = told is None
        request.finish()
        await ticks()
        where = (order, gap, leave)
        assert stage.env.spawned == 0, where
        assert [len(call.ends) for call in stage.calls] == [1, 1], where
        for call in stage.calls:
            kept = told is not None and told.body is call.stream
            if call.stream is not None and not call.stream.done and call.head.done():
                assert call.cancelled or call.source.aborted == (not kept), where  # type: ignore[union-attr]
            if kept:
                assert not call.ends[0].cancelled and call.ends[0] is request.outcome, where


async def hedged(
    stage: Stage, body: bytes | None = None
) -> tuple[asyncio.Task[Response], Call, Call]:
    """A request whose hedge is under way."""
    request = stage.request() if body is None else stage.request(b"/v1/chat/completions", body)
    asking = asyncio.ensure_future(stage.layer.handle(request))
    while len(stage.calls) < 2:
        await asyncio.sleep(0)
    return asking, *stage.calls  # type: ignore[return-value]


async def test_the_hedge_wins() -> None:
    """The first try is cancelled where it waits, told so at once, and the hedge's answer taken."""
    stage = At0()
    asking, first, second = await hedged(stage)
    assert second.request.avoid == {"http://e0"}
    second.answer()
    response = await asking
    assert response.body is second.stream
    assert response.header(b"x-remora-attempts") == b"2"
    assert first.cancelled and first.ends[0].cancelled
    assert not second.ends
    assert stage.tally.hedges == {"sent": 1, "won": 1, "no_budget": 0}
    assert first.request.endpoint == "http://e1", "the client's request tells who answered"
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_the_first_try_wins() -> None:
    """The hedge is cancelled where it waits; it counts as an attempt, and not as a winner."""
    stage = At0()
    asking, first, second = await hedged(stage)
    first.answer()
    response = await asking
    assert response.body is first.stream
    await ticks()
    assert second.cancelled and second.ends[0].cancelled
    assert stage.tally.hedges == {"sent": 1, "won": 0, "no_budget": 0}


async def test_a_loser_that_has_its_head_is_aborted() -> None:
    """One that waits for its first event holds a connection, which is closed."""
    for winner in (0, 1):
        stage = At0()
        asking, *calls = await hedged(stage, SEEDED)
        loser = calls[1 - winner]
        loser.begin()
        await ticks()
        streams(calls[winner])
        response = await asking
        await ticks()
        assert response.body is calls[winner].stream
        assert loser.source is not None and loser.source.aborted
        assert loser.ends[0].cancelled


async def test_a_hedge_that_fails_changes_nothing() -> None:
    """The first try goes on, whatever became of the second one."""
    for play in (busy, broken, dead, refused, ends):
        stage = At0()
        asking, first, second = await hedged(stage, SEEDED)
        play(second)
        await ticks()
        assert not asking.done()
        assert len(second.ends) == 1
        streams(first)
        assert (await asking).body is first.stream
        assert len(stage.calls) == 2


async def test_a_first_try_that_fails_leaves_it_to_the_hedge() -> None:
    """No further attempt is made while the hedge is under way: it is the retry."""
    for play in (busy, broken, dead, ends):
        stage = At0()
        asking, first, second = await hedged(stage, SEEDED)
        play(first)
        await ticks()
        assert not asking.done() and not first.ends
        streams(second)
        assert (await asking).body is second.stream
        assert len(stage.calls) == 2 and len(first.ends) == 1
        assert not stage.tally.retries


async def test_both_fail() -> None:
    """Then the attempts that are left go elsewhere."""
    stage = At0()
    asking, first, second = await hedged(stage)
    dead(first)
    await ticks()
    dead(second)
    while len(stage.calls) < 3:
        await asyncio.sleep(0)
    third = stage.calls[2]
    assert third.request.avoid == {"http://e0", "http://e1"}
    third.answer()
    response = await asking
    assert response.header(b"x-remora-attempts") == b"3"
    assert stage.tally.retries == {"reset": 1}


async def test_a_first_try_that_is_refused_is_final() -> None:
    """What remora itself refuses is not retried; a hedge that is good still is the answer."""
    stage = At0()
    asking, first, second = await hedged(stage)
    refused(first)
    await ticks()
    second.answer()
    assert (await asking).body is second.stream
    stage = At0()
    asking, first, second = await hedged(stage)
    refused(second)
    refused(first)
    with pytest.raises(Unavailable):
        await asking
    assert len(stage.calls) == 2


async def test_a_bug_passes_through() -> None:
    """What an inner layer raises by mistake is neither a failure of the upstream nor lost, a
    TimeoutError no less; the hedge is let go.
    """
    for bug in (TimeoutError("a layer's own"), ZeroDivisionError()):
        stage = At0()
        asking, first, second = await hedged(stage)
        first.head.set_exception(bug)
        with pytest.raises(type(bug)):
            await asking
        await ticks()
        assert second.cancelled and stage.env.spawned == 0
        assert [len(call.ends) for call in stage.calls] == [1, 1]


async def test_hedges_come_out_of_the_budget() -> None:
    """Where it is spent the first try is waited for."""
    stage = At0(budget={"ratio": 0, "floor": 1})
    asking, first, _ = await hedged(stage)
    first.answer()
    await asking
    lonely = asyncio.ensure_future(stage.layer.handle(stage.request()))
    await ticks()
    assert len(stage.calls) == 3
    stage.calls[2].answer()
    await lonely
    assert stage.tally.hedges == {"sent": 1, "won": 0, "no_budget": 1}


@pytest.mark.parametrize(
    ("target", "body"),
    [(b"/v1/chat/completions", STREAM), (b"/unknown", b"{}"), (b"/v1/embeddings", b"no json")],
)
async def test_only_what_gives_the_same_answer_again(target: bytes, body: bytes) -> None:
    """A sampled generation and what nobody knows are sent once."""
    stage = At0()
    asking = asyncio.ensure_future(stage.layer.handle(stage.request(target, body)))
    await ticks()
    (only,) = stage.calls
    streams(only)
    await asking


async def test_an_answer_before_its_time_sends_no_hedge() -> None:
    """The timer is gone with the answer."""
    stage = Stage(hedge={"after": "1ms"})
    stage.play = good
    await stage.layer.handle(stage.request())
    await asyncio.sleep(0.005)
    assert len(stage.calls) == 1


async def test_the_quantile_needs_calls() -> None:
    """Behind `min_calls` answers a hedge waits for their quantile; before, there is none."""
    stage = Stage(hedge={"after": "p50", "min_calls": 3})
    keys = stage.layer._hedge
    assert isinstance(keys, HedgeKeys)
    for took in (1.0, 2.0, 3.0):
        assert stage.layer._hedge_after(keys) is None
        asking = asyncio.ensure_future(stage.layer.handle(stage.request()))
        await ticks()
        stage.now += took
        stage.calls[-1].answer()
        await asking
    assert stage.layer._hedge_after(keys) == 2.0


async def test_failures_tell_no_latency() -> None:
    """Only what was good counts: a server that fails fast is not quick."""
    stage = Stage(hedge={"after": "p50", "min_calls": 1}, attempts=2)
    stage.play = broken
    await stage.layer.handle(stage.request())
    assert stage.layer._hedge_after(stage.layer._hedge) is None  # type: ignore[arg-type]
