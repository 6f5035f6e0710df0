"""The breaker between real connections: the balancer asks it, other layers stand around it."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import Any

import orjson
import pytest

from tests.circuit_breaker.conftest import MakeRig, Rig
from tests.circuit_breaker.stage import QUICK
from tests.retry.rig import (
    ANSWER,
    CHAT,
    DONE,
    EMBEDDINGS,
    QUESTION,
    STREAM,
    Behaviour,
    Endpoint,
    closes,
    event,
    hangs,
    resets,
    says,
    status,
    streams,
)
from tests.road.scripted import Peer
from tests.road.wire import LAST_CHUNK, SSE_HEAD, Message, chunk, ok, until


@pytest.mark.parametrize("sick", [status(500), status(502), closes, resets], ids=str)
async def test_a_sick_endpoint_of_two(rig: MakeRig, sick: Behaviour) -> None:
    """Five of its requests fail, then the other one gets all; when it is well again, its share."""
    one = await rig([sick] * 5 + [ANSWER], [ANSWER])
    statuses = [(await one.ask()).status for _ in range(30)]
    assert len([code for code in statuses if code >= 500]) == 5
    assert one.states == ["open", "closed"]
    assert [len(endpoint.seen) for endpoint in one.endpoints] == [5, 25]
    one.clock.advance(5)
    assert {(await one.ask()).status for _ in range(10)} == {200}
    assert one.states == ["closed", "closed"]
    assert one.endpoints[0].count >= 9


async def test_the_only_endpoint(rig: MakeRig) -> None:
    """At once 503 in the dialect of the API, with the seconds until it is tried again."""
    one = await rig([status(500), ANSWER], **QUICK)
    assert (await one.ask()).status == 500
    one.clock.advance(1.5)
    refused = await one.ask()
    assert (refused.status, refused["retry-after"]) == (503, "4")
    assert orjson.loads(refused.body)["error"]["code"] == "circuit_open"
    assert one.endpoints[0].count == 1
    one.clock.advance(3.5)
    assert (await one.ask()).status == 200


async def test_an_endpoint_that_refuses_connections(rig: MakeRig) -> None:
    """A connection that is not made is a failure like any other."""
    one = await rig([ANSWER], **QUICK)
    pool = one.running.pool
    with socket.socket() as bound:  # and nobody listens
        bound.bind(("127.0.0.1", 0))
        pool.endpoint = replace(pool.endpoint, port=bound.getsockname()[1])
    assert (await one.ask()).status == 502
    assert (await one.ask()).status == 503
    assert one.states == ["open"]


async def test_the_slow_call_breaker(rig: MakeRig) -> None:
    """A server that slows down is left alone within one window, and has its requests again
    within one probe of being well.
    """
    go = asyncio.Event()

    async def slow(peer: Peer, message: Message) -> None:
        peer.send(SSE_HEAD)
        await go.wait()
        peer.send(chunk(event("a")) + chunk(DONE) + LAST_CHUNK)

    quick = streams(event("a"), DONE)
    one = await rig([quick] * 10 + [slow] * 100, probes=1)
    for _ in range(10):
        await one.ask(CHAT, STREAM)
    one.clock.advance(9)
    began = one.clock()
    waiting = []
    while True:
        client = await one.running.connect()
        client.ask("POST", CHAT, body=STREAM)
        if (await client.head()).status == 503:
            break
        waiting.append(client)
        one.clock.advance(0.5)
    assert one.clock() - began < 10, "a whole window has passed"
    go.set()
    for client in waiting:
        assert b"[DONE]" in await client.chunks()
    assert one.states == ["open"]
    one.clock.advance(5)
    asked = one.endpoints[0].count
    assert (await one.ask(CHAT, STREAM)).status == 200
    assert one.states == ["closed"] and one.endpoints[0].count == asked + 1


async def test_a_head_that_comes_at_once_is_no_first_byte(rig: MakeRig) -> None:
    """Of a stream, the first byte of its body counts: servers send the head before they compute."""
    go = asyncio.Event()

    async def behave(peer: Peer, message: Message) -> None:
        peer.send(SSE_HEAD)
        await go.wait()
        peer.send(chunk(event("a")) + LAST_CHUNK)

    one = await rig([behave])
    client = await one.running.connect()
    client.ask("POST", CHAT, body=STREAM)
    await client.head()
    one.clock.advance(1.5)
    go.set()
    await client.chunks()
    window = one.circuit().window
    assert (window.calls, window.slow) == (1, 1)


async def test_a_client_that_dawdles_opens_nothing(rig: MakeRig) -> None:
    """However long its body takes, and though it leaves in the middle."""
    one = await rig([ANSWER])
    for _ in range(12):
        client = await one.running.connect()
        client.ask("POST", EMBEDDINGS, "Content-Length: 100")
        await until(lambda: one.running.pool.busy)
        one.clock.advance(2)
        client.abort()
        await until(lambda: not one.running.pool.busy)
    assert one.states == ["closed"] and one.circuit().window.slow == 0
    client = await one.running.connect()
    client.ask("POST", EMBEDDINGS, "Content-Length: 100")
    await until(lambda: one.running.pool.busy)
    one.clock.advance(2)
    client.send(b"x" * 100)
    assert (await client.answer()).status == 200
    assert (one.circuit().window.calls, one.circuit().window.slow) == (1, 0)


async def test_nor_where_the_balancer_waits_for_its_body(rig: MakeRig) -> None:
    """An endpoint that is chosen by the prompt is chosen when the prompt is here, and its time
    begins then: whoever asks meanwhile finds nothing slow, and nothing older than itself.
    """
    one = await rig([ANSWER], [ANSWER], balance="prefix")
    client = await one.running.connect()
    client.ask("POST", EMBEDDINGS, f"Content-Length: {len(QUESTION)}")
    client.send(QUESTION[:5])
    await until(lambda: one.running.server.edge.in_flight == 1)
    one.clock.advance(20)
    client.send(QUESTION[5:])
    assert (await client.answer()).status == 200
    (window,) = [one.circuit(number).window for number in range(2) if one.endpoints[number].count]
    assert (window.calls, window.slow) == (1, 0)


async def test_a_stream_that_breaks_off_is_a_failure(rig: MakeRig) -> None:
    """Though its head said 200, and the client got its beginning."""
    one = await rig([streams(event("a"), end=False)], **QUICK)
    client = await one.running.connect()
    client.ask("POST", CHAT, body=STREAM)
    await client.head()
    assert b"upstream_closed" in await client.chunks()
    await until(lambda: one.states == ["open"])


@pytest.mark.parametrize("amid", [False, True], ids=["before the head", "amid a stream"])
async def test_a_client_that_leaves_is_neither(rig: MakeRig, amid: bool) -> None:
    """As a probe it gives its permit back, and the next request is let through."""

    async def endless(peer: Peer, message: Message) -> None:
        peer.send(SSE_HEAD)
        await peer.exactly(1, 30)

    one = await rig([status(500), endless if amid else hangs, ANSWER], **QUICK)
    await one.ask()
    one.clock.advance(5)
    client = await one.running.connect()
    client.ask("POST", CHAT, body=STREAM)
    if amid:
        await client.head()
    await until(lambda: one.endpoints[0].count == 2)
    assert (await one.ask()).status == 503
    client.abort()
    await until(lambda: not one.running.server.edge.in_flight)
    assert one.states == ["half-open"]
    assert (await one.ask()).status == 200
    assert one.states == ["closed"]


async def test_back_pressure_is_passed_on(rig: MakeRig) -> None:
    """However many 429 and 503 come, the circuit stays closed."""
    one = await rig([status(429), status(503)])
    codes = {(await one.ask()).status for _ in range(30)}
    assert codes == {429, 503}
    assert one.states == ["closed"] and one.endpoints[0].count == 30


async def test_each_route_has_its_own(rig: MakeRig) -> None:
    """An endpoint that fails for one path serves another."""

    async def behave(peer: Peer, message: Message) -> None:
        peer.send(ok(b"{}", status="500 Broken" if message.target == CHAT.encode() else "200 OK"))

    routes = [{"name": "chat", "match": {"path": CHAT}}, {"name": "rest"}]
    one = await rig([behave], file={"routes": routes}, **QUICK)
    await one.ask(CHAT)
    assert (await one.ask(CHAT)).status == 503
    assert (await one.ask(EMBEDDINGS)).status == 200
    assert (one.circuit(0, "chat").state, one.circuit(0, "rest").state) == ("open", "closed")


# -- with other layers


def cached(**keys: Any) -> list[Any]:
    return [{"cache": {"ttl": 60, **keys}}]


NUMBERED = [says(ok(b'{"answer":%d}' % number, "Content-Type: application/json"))
            for number in range(1, 9)]  # fmt: skip
BACKUP = says(ok(b'{"answer":"backup"}', "Content-Type: application/json"))


async def opened(one: Rig) -> None:
    """By a failure of another question than the one that is stored."""
    await one.ask(body=b'{"input": "other"}')
    assert one.states == ["open"]


@pytest.mark.parametrize("fallback", [False, True])
async def test_open_a_stored_answer_comes_first(rig: MakeRig, fallback: bool) -> None:
    """A stale one too, within `stale_if_error`: before a fallback, which is not asked."""
    backup = Endpoint(BACKUP) if fallback else None
    one = await rig([NUMBERED[0], status(500)], outside=cached(stale_if_error=600),
                    fallback=backup, **QUICK)  # fmt: skip
    await one.ask()
    one.clock.advance(100)
    await opened(one)
    old = await one.ask()
    assert (old.status, old.body) == (200, b'{"answer":1}')
    assert "fwd=stale" in (old["cache-status"] or "")
    assert backup is None or backup.count == 0


@pytest.mark.parametrize("grace", [0, 600])
async def test_open_without_one_the_fallback_is_asked(rig: MakeRig, grace: int) -> None:
    """For what is not stored, or is too old; a refresh in the background does not ask it."""
    backup = Endpoint(BACKUP)
    one = await rig([NUMBERED[0], status(500)], outside=cached(grace=grace), fallback=backup,
                    **QUICK)  # fmt: skip
    await one.ask()
    one.clock.advance(100)
    await opened(one)
    answer = await one.ask()
    assert answer.status == 200
    if grace:
        assert answer.body == b'{"answer":1}'
        await until(lambda: not one.running.server._assembly.env.spawned)  # type: ignore[union-attr]
        assert backup.count == 0
        assert (await one.ask(body=b'{"input": "new"}')).body == b'{"answer":"backup"}'
    else:
        assert answer.body == b'{"answer":"backup"}'


async def test_open_with_neither_it_is_503(rig: MakeRig) -> None:
    """What is stored and too old is no help."""
    one = await rig([NUMBERED[0], status(500)], outside=cached(), **QUICK)
    await one.ask()
    one.clock.advance(100)
    await opened(one)
    refused = await one.ask()
    assert (refused.status, refused["x-remora-error"]) == (503, "circuit_open")
    assert refused["retry-after"] == "5"


async def test_plain_pages_too(rig: MakeRig) -> None:
    """Where the cache goes by HTTP, a stale page goes before the fallback."""
    page = says(ok(b"page", "Cache-Control: max-age=10, stale-if-error=600"))
    backup = Endpoint(BACKUP)
    one = await rig([page, status(500)], fallback=backup, **QUICK,
                    outside=cached(honor_upstream=True, share="public"))  # fmt: skip
    client = await one.running.connect()
    assert (await client.exchange("GET", "/page")).body == b"page"
    one.clock.advance(100)
    await opened(one)
    assert (await client.exchange("GET", "/page")).body == b"page"
    assert backup.count == 0
    assert (await client.exchange("GET", "/other")).body == b'{"answer":"backup"}'


async def test_a_page_that_is_refreshed_in_the_background(rig: MakeRig) -> None:
    """Within `stale-while-revalidate` the page is there, and the fallback's does not replace it."""
    page = says(ok(b"page", "Cache-Control: max-age=10, stale-while-revalidate=600"))
    backup = Endpoint(BACKUP)
    one = await rig([page, status(500)], fallback=backup, **QUICK,
                    outside=cached(honor_upstream=True, share="public"))  # fmt: skip
    client = await one.running.connect()
    await client.exchange("GET", "/page")
    one.clock.advance(100)
    await opened(one)
    assert (await client.exchange("GET", "/page")).body == b"page"
    await until(lambda: one.layer.tallies[0].refused == 1)
    assert (await client.exchange("GET", "/page")).body == b"page"
    assert backup.count == 0


async def test_a_retry_finds_the_other_endpoint(rig: MakeRig) -> None:
    """`retry` outside of it sends to another; each attempt is judged, and no client sees any."""
    one = await rig([status(500)], [ANSWER], **QUICK,
                    outside=[{"retry": {"on": [500], "repeat": "all",
                                        "backoff": {"first": 0, "cap": 0}}}])  # fmt: skip
    assert {(await one.ask()).status for _ in range(6)} == {200}
    assert one.states == ["open", "closed"]
    assert [endpoint.count for endpoint in one.endpoints] == [1, 6]


async def test_a_body_that_streams_goes_to_the_fallback_whole(rig: MakeRig) -> None:
    """Nothing of it was read before it was refused."""
    backup = Endpoint(BACKUP)
    one = await rig([status(500)], fallback=backup, **QUICK)
    await one.ask()
    client = await one.running.connect()
    client.ask("POST", EMBEDDINGS, "Content-Length: 1000")
    await until(lambda: one.layer.tallies[0].fell_back == 1)
    client.send(b"x" * 1000)
    assert (await client.answer()).body == b'{"answer":"backup"}'
    assert backup.seen[0].body == b"x" * 1000
