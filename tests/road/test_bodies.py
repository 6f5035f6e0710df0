"""How bodies end, and what stands behind them: framings, no body at all, trailers."""

from __future__ import annotations

import asyncio

import pytest

from proxy.demo.child import free_port
from tests.conftest import Serve, UpstreamMaker
from tests.road.scripted import Peer
from tests.road.wire import CHUNKED_HEAD, LAST_CHUNK, Message, chunk, head, ok

BODY = b"The body of an answer."
FRAMINGS = {
    "fixed": ok(BODY),
    "empty": ok(b""),
    "chunked": CHUNKED_HEAD + chunk(BODY[:5]) + chunk(BODY[5:]) + LAST_CHUNK,
    "chunked, empty": CHUNKED_HEAD + LAST_CHUNK,
    "until close": head("HTTP/1.1 200 OK") + BODY,
    "until close, HTTP/1.0": head("HTTP/1.0 200 OK") + BODY,
    "fixed, HTTP/1.0": head("HTTP/1.0 200 OK", f"Content-Length: {len(BODY)}") + BODY,
    "fixed, close": ok(BODY, "Connection: close"),
}


@pytest.mark.parametrize("version", ["1.1", "1.0", "1.0, keep-alive"])
@pytest.mark.parametrize("pieces", ["whole", "in pieces"])
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_bodies(
    serve: Serve, upstream: UpstreamMaker, framing: str, pieces: str, version: str
) -> None:
    """Each framing of an answer reaches each client as one that it can read, and ends."""
    raw = FRAMINGS[framing]
    expected = b"" if "empty" in framing else BODY

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            if pieces == "whole":
                peer.send(raw)
            else:
                for at in range(0, len(raw), 7):
                    peer.send(raw[at : at + 7])
                    await asyncio.sleep(0)
            if "fixed" not in framing and "chunked" not in framing and "empty" not in framing:
                return
            if "close" in framing or "1.0" in framing:
                return

    running = await serve(await upstream(script))
    client = await running.connect()
    number, _, keep = version.partition(", ")
    fields = ["Connection: keep-alive"] if keep else []
    answer = await client.exchange("GET", "/", *fields, version=number)
    assert (answer.status, answer.body) == (200, expected)
    if number == "1.0":
        assert not answer.chunked
    if number == "1.1" or answer["connection"] == "keep-alive":
        assert (await client.exchange("GET", "/", version=number)).body == expected
    else:
        assert await client.ended() == b""


async def test_http_10_until_close(serve: Serve, upstream: UpstreamMaker) -> None:
    """A streamed body of unknown length ends with the connection for an HTTP/1.0 client, who is
    not told that the connection is kept, even where it asked for that.
    """
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(CHUNKED_HEAD)
        await go_on.wait()
        peer.send(chunk(BODY) + LAST_CHUNK)
        await peer.ended()

    client = await (await serve(await upstream(script))).connect()
    client.ask("GET", "/", "Connection: keep-alive", version="1.0")
    message = await client.head()
    assert (message["connection"], message.chunked) == ("close", False)
    go_on.set()
    assert await client.rest() == BODY


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_answers_without_a_body(serve: Serve, upstream: UpstreamMaker, version: str) -> None:
    """HEAD, 204 and 304 keep their heads as they came, Content-Length too, and have no body."""
    answers = {
        b"/head": ok(b"", "X-A: b").replace(b"Length: 0", b"Length: 1234"),
        b"/chunked": CHUNKED_HEAD,
        b"/bare": head("HTTP/1.1 200 OK", "X-A: b"),
        b"/204": head("HTTP/1.1 204 No Content", "X-A: b"),
        b"/304": head("HTTP/1.1 304 Not Modified", "ETag: x"),
        b"/304-length": head("HTTP/1.1 304 Not Modified", "ETag: x", "Content-Length: 1234"),
    }

    async def script(peer: Peer) -> None:
        while True:
            peer.send(answers[(await peer.request()).target])

    running = await serve(await upstream(script))
    client = await running.connect()
    keep = "Connection: keep-alive"
    for target, status, length in (
        ("/head", 200, "1234"), ("/chunked", 200, None), ("/bare", 200, None),
        ("/204", 204, None), ("/304", 304, None), ("/304-length", 304, "1234"),
    ):  # fmt: skip
        method = "HEAD" if status == 200 else "GET"
        answer = await client.exchange(method, target, keep, version=version)
        assert (answer.status, answer["content-length"]) == (status, length)
    assert running.pool.opened == 1


async def test_head_of_an_upstream_that_sends_a_body(serve: Serve, upstream: UpstreamMaker) -> None:
    """An upstream that answers HEAD with a body has its connection dropped, not read as the next
    answer; the client sees none of it.
    """

    async def script(peer: Peer) -> None:
        message = await peer.request()
        peer.send(ok(b"body that should not be" if message.target == b"/head" else b"ok"))
        await peer.ended()

    server = await upstream(script)
    running = await serve(server)
    client = await running.connect()
    assert (await client.exchange("HEAD", "/head")).status == 200
    assert (await client.exchange("GET", "/")).body == b"ok"
    assert server.made == 2


async def test_error_answers_head(serve: Serve) -> None:
    """Remora's own errors have no body for HEAD either, and keep the connection in step."""
    running = await serve(f"http://127.0.0.1:{free_port()}")
    client = await running.connect()
    answer = await client.exchange("HEAD", "/")
    assert answer.status == 502
    assert int(answer["content-length"] or 0) > 0
    assert (await client.exchange("GET", "/")).status == 502


# -- trailers


async def test_trailers_of_an_answer(serve: Serve, upstream: UpstreamMaker) -> None:
    """Trailers come through, barred fields do not, whether streamed or in one piece."""
    tail = b"0\r\nX-Sum: 1\r\nSet-Cookie: a\r\nX-Sum: 2\r\n\r\n"
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(CHUNKED_HEAD + chunk(b"a") + tail)
        await peer.request()
        peer.send(CHUNKED_HEAD + chunk(b"a"))
        await go_on.wait()
        peer.send(chunk(b"b") + tail)
        await peer.request()
        peer.send(CHUNKED_HEAD + tail)
        await peer.ended()

    client = await (await serve(await upstream(script))).connect()
    expected = [(b"X-Sum", b"1"), (b"X-Sum", b"2")]
    answer = await client.exchange()
    assert (answer.body, answer.trailers) == (b"a", expected)
    client.ask()
    assert (await client.head()).chunked
    assert await client.chunk() == b"a"
    go_on.set()
    assert await client.chunks() == b"b"
    assert client.trailers == expected
    answer = await client.exchange()
    assert (answer.body, answer.trailers) == (b"", expected)


@pytest.mark.parametrize("data", [b"", b"a"], ids=["no body", "a body"])
@pytest.mark.parametrize("manner", ["whole", "head first", "in pieces"])
async def test_trailers_of_a_request(
    serve: Serve, upstream: UpstreamMaker, manner: str, data: bytes
) -> None:
    """A request's trailers reach the upstream, also behind a body of no bytes."""
    seen: list[Message] = []

    async def script(peer: Peer) -> None:
        while True:
            seen.append(await peer.request())
            peer.send(ok())

    client = await (await serve(await upstream(script))).connect()
    lines = head("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked", "Trailer: X-Sum")
    body = (chunk(data) if data else b"") + b"0\r\nX-Sum: 1\r\n\r\n"
    raw = lines + body
    for piece in {
        "whole": [raw], "head first": [lines, body], "in pieces": [bytes([b]) for b in raw],
    }[manner]:  # fmt: skip
        client.send(piece)
        await asyncio.sleep(0)
    assert (await client.answer()).status == 200
    assert (seen[0].body, seen[0].trailers) == (data, [(b"X-Sum", b"1")])
    assert seen[0]["trailer"] == "X-Sum"
    assert (await client.exchange("POST", "/", body=b"next")).status == 200
    assert seen[1].body == b"next"
