"""What `prefetch` counts: what became of each one that was sent."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import UpstreamClosed
from proxy.exchange import Request, Response, Stream

from .prefetch_stage import (
    TTL,
    A,
    Answer,
    B,
    Held,
    Stage,
    breaks,
    embed,
    fine,
    get,
    refuses,
)


async def test_useful() -> None:
    """Asked for while it is fresh, once however often."""
    stage = Stage()
    await stage.learn(embed(A), embed(B))
    await stage.ask(embed(A))
    stage.now += TTL - 1
    await stage.ask(embed(B))
    await stage.ask(embed(B))
    assert stage.counts == {"sent": 1, "useful": 1}


async def test_wasted() -> None:
    """Not asked for until it is stale; noticed with the next request, whatever that is."""
    stage = Stage()
    await stage.learn(embed(A), embed(B))
    await stage.ask(embed(A))
    stage.now += TTL - 1
    await stage.ask(embed("x"))
    assert stage.counts == {"sent": 1}
    stage.now += 1
    await stage.ask(embed(B))
    assert stage.counts == {"sent": 1, "wasted": 1}


async def test_what_the_cache_did_not_keep_is_wasted_and_tried_less() -> None:
    """`cache-status` says that the answer was fetched anew: b rests for twice `ttl`, then four
    times; once it was of use it is as before.
    """
    stage = Stage()
    said = b"remora; fwd=uri-miss"

    async def answers(request: Request) -> Response:
        return Response(200, [(b"Cache-Status", b"far; hit"), (b"Cache-Status", said)], b"x")

    stage.answer = answers
    await stage.learn(embed(A), embed(B))
    for rest in (2, 4):
        assert len(await stage.ask(embed(A))) == 1
        await stage.ask(embed(B))
        stage.now += rest * TTL - 1
        assert await stage.ask(embed(A)) == []
        stage.now += 1
    assert stage.counts == {"sent": 2, "wasted": 2}
    assert len(await stage.ask(embed(A))) == 1
    said = b"remora; hit; ttl=9"
    await stage.ask(embed(B))
    assert stage.count("useful") == 1
    stage.now += 4 * TTL
    assert len(await stage.ask(embed(A))) == 1
    stage.now += TTL
    assert len(await stage.ask(embed(A))) == 1


async def page_and_call(request: Request) -> Response:
    """A page is fresh for 20 s, a call for `ttl`."""
    fields = [(b"Cache-Control", b"max-age=20"), (b"Cache-Status", b"remora; hit")]
    return Response(200, fields, b"x")


async def test_a_short_life_behind_a_long_one_is_not_useful_when_it_is_over() -> None:
    """Though an earlier prefetch is still open: asked for too late is wasted, and so is one that
    is fetched again before anybody asked.
    """
    stage = Stage()
    stage.answer = page_and_call
    await stage.learn(embed(A), embed(B))
    await stage.learn(get(b"/a"), get(b"/b"))
    await stage.ask(embed(A))
    await stage.ask(get(b"/a"))
    assert stage.counts == {"sent": 2}
    stage.now += 20
    await stage.ask(get(b"/a"))
    assert stage.counts == {"sent": 3, "wasted": 1}
    stage.now += 20
    await stage.ask(get(b"/b"))
    assert stage.counts == {"sent": 3, "wasted": 2}
    await stage.ask(embed(B))
    assert stage.counts == {"sent": 3, "wasted": 2, "useful": 1}


async def test_who_was_faster_than_its_prefetch_does_not_speak_against_it() -> None:
    """Asked for, fetched anew while the prefetch was under way: wasted, but as likely as before."""
    stage = Stage()
    await stage.learn(embed(A), embed(B))
    request = embed(A)
    await stage.begin(request)
    held = stage.answer = Held()
    request.finish()
    await asyncio.sleep(0)

    async def missed(request: Request) -> Response:
        return Response(200, [(b"Cache-Status", b"remora; fwd=uri-miss")], b"x")

    stage.answer = missed
    request = embed(B)
    await stage.begin(request)
    request.finish()
    assert stage.counts == {"sent": 1, "wasted": 1}
    held.release.set()
    await stage.settled()
    stage.now += TTL
    assert len(await stage.ask(embed(A))) == 1
    assert stage.counts == {"sent": 2, "wasted": 1}


async def breaks_off(request: Request) -> Response:
    body = Stream()
    body.feed(b"half")
    body.fail(UpstreamClosed("gone"))
    return Response(200, [], body)


async def never(request: Request) -> Response:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nothing ends this wait")


@pytest.mark.parametrize("answer", [breaks, refuses, breaks_off, never])
async def test_failed(answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    """An upstream that fails, refuses, breaks off or takes too long: counted, not logged, not
    tried again within `ttl`, and its place is free again.
    """
    stage = Stage(timeout=0.005, max_inflight=1)
    await stage.learn(embed(A), embed(B))
    request = embed(A)
    await stage.begin(request)
    stage.answer = answer
    request.finish()
    await stage.settled()
    assert stage.got[-1].body == embed(B).body and stage.got[-1].finished
    assert stage.counts == {"sent": 1, "failed": 1}
    assert stage.layer._loads["default"].background == 0
    stage.answer = fine
    assert await stage.ask(embed(A)) == []
    stage.now += TTL
    assert len(await stage.ask(embed(A))) == 1
    assert not caplog.records


async def test_a_streamed_answer_is_taken_to_its_end() -> None:
    """The whole body is read, so that a cache inside sees it end; more than a stream may hold."""
    stage = Stage()
    await stage.learn(embed(A), embed(B))
    request = embed(A)
    await stage.begin(request)
    body = Stream()

    async def streams(request: Request) -> Response:
        return Response(200, [], body)

    stage.answer = streams
    request.finish()
    for _ in range(100):
        body.feed(bytes(10_000))
        await asyncio.sleep(0)
    assert stage.env.spawned == 1 and not body.take()
    body.end()
    await stage.settled()
    assert stage.got[-1].outcome.bytes_sent == 1_000_000
