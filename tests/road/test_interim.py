"""What comes before an answer: 103 and its kin, and 100 for a client that asks."""

from __future__ import annotations

import asyncio

from tests.conftest import Serve, UpstreamMaker
from tests.road.scripted import Peer, answering
from tests.road.wire import Message, head, ok

EARLY_HINTS = head("HTTP/1.1 103 Early Hints", "Link: </a>; rel=preload", "X-A: b")
CONTINUE = head("HTTP/1.1 100 Continue")


async def test_early_hints(serve: Serve, upstream: UpstreamMaker) -> None:
    """103 is passed on before the answer is there, with its fields, each time it comes."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(EARLY_HINTS)
        await go_on.wait()
        peer.send(EARLY_HINTS + ok())
        await peer.ended()

    client = await (await serve(await upstream(script))).connect()
    client.ask()
    first = await client.head()
    assert first.first_line == b"HTTP/1.1 103 Early Hints"
    assert first.headers == [(b"Link", b"</a>; rel=preload"), (b"X-A", b"b")]
    go_on.set()
    assert (await client.head()).status == 103
    assert (await client.answer()).body == b"ok"


async def test_interim_is_not_for_http_10(serve: Serve, upstream: UpstreamMaker) -> None:
    """An HTTP/1.0 client gets the final answer alone (RFC 9110 section 15.2)."""
    client = await (await serve(await upstream(answering(EARLY_HINTS + ok())))).connect()
    client.ask(version="1.0")
    assert (await client.head()).status == 200


async def test_expect_is_passed_on(serve: Serve, upstream: UpstreamMaker) -> None:
    """Expect goes upstream before any body; the upstream's 100 comes back, then the body goes."""

    async def script(peer: Peer) -> None:
        message = await peer.head()
        assert message["expect"] == "100-continue"
        peer.send(CONTINUE)
        message.body = await peer.exactly(4)
        peer.send(ok(message.body))
        await peer.ended()

    client = await (await serve(await upstream(script))).connect()
    client.send(head("POST / HTTP/1.1", "Host: h", "Expect: 100-continue", "Content-Length: 4"))
    assert (await client.head()).status == 100
    client.send(b"body")
    assert (await client.answer()).body == b"body"


async def test_expect_refused(serve: Serve, upstream: UpstreamMaker) -> None:
    """An upstream that answers without 100 gets no body, and the client its answer and a close."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(ok(b"no", status="417 Expectation Failed"))
        assert await peer.ended() == b""

    client = await (await serve(await upstream(script))).connect()
    client.send(head("POST / HTTP/1.1", "Host: h", "Expect: 100-continue", "Content-Length: 4"))
    answer = await client.answer()
    assert (answer.status, answer["connection"]) == (417, "close")
    assert await client.ended() == b""


async def test_expect_with_a_layer_that_reads(serve: Serve, upstream: UpstreamMaker) -> None:
    """Where a layer reads the body remora itself says 100, and the upstream is not asked."""
    seen: list[Message] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        peer.send(ok())
        await peer.ended()

    running = await serve(await upstream(script), chain=["tests.road.layers:Reader"])
    client = await running.connect()
    client.send(head("POST / HTTP/1.1", "Host: h", "Expect: 100-continue", "Content-Length: 4"))
    assert (await client.head()).first_line == b"HTTP/1.1 100 Continue"
    client.send(b"body")
    assert (await client.head()).status == 200
    assert (seen[0].body, seen[0]["expect"]) == (b"body", None)


async def test_expect_with_the_body_already_there(serve: Serve, upstream: UpstreamMaker) -> None:
    """A client that does not wait for 100 loses nothing."""
    client = await (await serve(await upstream(answering(CONTINUE + ok())))).connect()
    answer = await client.exchange("POST", "/", "Expect: 100-continue", body=b"at once")
    assert answer.status == 200
    assert (await client.exchange()).status == 200
