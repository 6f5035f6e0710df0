"""What moves is relayed the moment it moves, in both directions at once."""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.exchange import Request, Stream
from tests.conftest import Serve, UpstreamMaker
from tests.road.scripted import Peer
from tests.road.wire import CHUNKED_HEAD, LAST_CHUNK, SSE_HEAD, chunk, head, ok, until


def event(number: int) -> bytes:
    return b'data: {"n": %d}\n\n' % number


async def test_events_one_by_one(serve: Serve, upstream: UpstreamMaker) -> None:
    """The head reaches the client before any event is there, and each event before the next is
    written; one write of the upstream is one read of the client.
    """
    turns: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(SSE_HEAD)
        while (data := await turns.get()) is not None:
            peer.send(chunk(data))
        peer.send(LAST_CHUNK)
        await peer.ended()

    client = await (await serve(await upstream(script))).connect()
    client.ask("POST", "/v1/completions", body=b"{}")
    message = await client.head()
    assert (message.status, message["content-type"]) == (200, "text/event-stream")
    for number in range(100):
        turns.put_nowait(event(number))
        assert await client.some() == chunk(event(number))
    turns.put_nowait(None)
    assert await client.some() == LAST_CHUNK


@pytest.mark.parametrize("framing", ["fixed", "until close"])
async def test_pieces_of_other_framings(
    serve: Serve, upstream: UpstreamMaker, framing: str
) -> None:
    """A body that is not chunked is relayed piece by piece as well."""
    turns: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.request()
        fields = ["Content-Length: 12"] if framing == "fixed" else []
        peer.send(head("HTTP/1.1 200 OK", *fields))
        while (data := await turns.get()) is not None:
            peer.send(data)

    client = await (await serve(await upstream(script))).connect()
    client.ask()
    message = await client.head()
    assert message.chunked is (framing != "fixed")
    for piece in (b"one ", b"two ", b"tres"):
        turns.put_nowait(piece)
        assert await client.some() == (piece if framing == "fixed" else chunk(piece))
    turns.put_nowait(None)
    if framing == "until close":
        assert await client.some() == LAST_CHUNK


async def test_full_duplex(serve: Serve, upstream: UpstreamMaker) -> None:
    """An upstream that echoes each chunk as it arrives is heard while the request still flows,
    and both connections are kept.
    """

    async def script(peer: Peer) -> None:
        while True:
            message = await peer.head()
            if not message.chunked:
                peer.send(ok())
                continue
            peer.send(CHUNKED_HEAD)
            while data := await peer.chunk():
                peer.send(chunk(data.upper()))
            peer.send(LAST_CHUNK)

    server = await upstream(script)
    client = await (await serve(server)).connect()
    client.send(head("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked"))
    assert (await client.head()).chunked
    for word in (b"one", b"two", b"three"):
        client.send(chunk(word))
        assert await client.chunk() == word.upper()
    client.send(LAST_CHUNK)
    assert await client.chunk() == b""
    assert (await client.exchange()).body == b"ok"
    assert server.made == 1


async def test_a_body_streams_before_it_is_whole(serve: Serve, upstream: UpstreamMaker) -> None:
    """The upstream gets a request's head, and each piece of its body, before the rest was sent."""
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        message = await peer.head()
        assert (message["content-length"], message["transfer-encoding"]) == ("9", None)
        pieces.put_nowait(b"head")
        for _ in range(3):
            pieces.put_nowait(await peer.exactly(3))
        peer.send(ok())
        await peer.ended()

    client = await (await serve(await upstream(script))).connect()
    client.send(head("POST / HTTP/1.1", "Host: h", "Content-Length: 9"))
    assert await asyncio.wait_for(pieces.get(), 5) == b"head"
    for piece in (b"one", b"two", b"end"):
        client.send(piece)
        assert await asyncio.wait_for(pieces.get(), 5) == piece
    assert (await client.answer()).status == 200


async def test_early_answer(serve: Serve, upstream: UpstreamMaker) -> None:
    """A 413 that the upstream sends amid a 10 MB upload reaches the client, whose connection then
    ends; the upstream connection is not used again.
    """
    size = 10_000_000

    async def script(peer: Peer) -> None:
        message = await peer.head()
        if message.target == b"/next":
            peer.send(ok())
        await peer.exactly(100_000)
        peer.send(ok(b"too much", status="413 Content Too Large"))
        await peer.ended()

    server = await upstream(script)
    running = await serve(server)
    client = await running.connect()
    client.send(head("POST / HTTP/1.1", "Host: h", f"Content-Length: {size}"))

    async def upload() -> None:
        for _ in range(size // 100_000):
            client.send(b"x" * 100_000)
            await client.flush()

    uploading = asyncio.create_task(upload())
    answer = await client.answer()
    assert (answer.status, answer.body) == (413, b"too much")
    assert answer["connection"] == "close"
    assert await client.rest() == b""  # not reset: the answer cannot be lost on the way
    client.abort()
    await asyncio.wait({uploading}, timeout=5)
    assert uploading.done()
    uploading.exception()
    assert running.pool.open == 0
    assert (await (await running.connect()).exchange("GET", "/next")).status == 200


async def test_early_answer_and_a_reset(serve: Serve) -> None:
    """The answer of a server that turns a body away unread and closes is read, though the next
    piece of the body fails to be written.
    """
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        running = await serve(f"http://127.0.0.1:{listener.getsockname()[1]}")
        body = Stream()
        request = Request(b"PUT", b"/", [(b"Host", b"h"), (b"Content-Length", b"1000")], body)
        request.declared = body
        sending = asyncio.create_task(running.pool.send(request))
        taken, _ = await loop.sock_accept(listener)
        taken.setblocking(False)
        await loop.sock_recv(taken, 4)  # what it leaves unread makes its end a reset
        # No turn of the loop stands between these: what is written next meets the reset.
        taken.send(ok(b"too much", status="413 Content Too Large"))
        taken.close()
        body.feed(b"x" * 500)
        response = await sending
    assert (response.status, response.body) == (413, b"too much")
    await until(lambda: running.pool.open == 0)


async def test_early_answer_that_streams(serve: Serve, upstream: UpstreamMaker) -> None:
    """An answer that begins before the request has ended streams to its end; then both close."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(CHUNKED_HEAD + chunk(b"one"))
        await more.wait()
        peer.send(chunk(b"two") + LAST_CHUNK)
        await peer.ended()

    more = asyncio.Event()
    running = await serve(await upstream(script))
    client = await running.connect()
    client.send(head("POST / HTTP/1.1", "Host: h", "Content-Length: 1000") + b"begin")
    assert (await client.head()).status == 200
    assert await client.chunk() == b"one"
    more.set()
    assert await client.chunks() == b"two"
    assert await client.ended() == b""
    await until(lambda: running.pool.open == 0)


async def test_filters_see_each_chunk(serve: Serve, upstream: UpstreamMaker) -> None:
    """A layer's filter changes each chunk on its way, adds its own end, and the length is gone."""
    turns: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(head("HTTP/1.1 200 OK", "Content-Length: 6"))
        for _ in range(2):
            peer.send(await turns.get())
        await peer.request()
        peer.send(ok(b"whole"))
        await peer.ended()

    running = await serve(await upstream(script), chain=["tests.road.layers:Capitals"])
    client = await running.connect()
    client.ask()
    message = await client.head()
    assert (message["content-length"], message.chunked) == (None, True)
    turns.put_nowait(b"abc")
    assert await client.chunk() == b"ABC"
    turns.put_nowait(b"def")
    assert await client.chunks() == b"DEF!"
    answer = await client.exchange()
    assert (answer.body, answer["content-length"]) == (b"WHOLE!", "6")


async def test_a_stream_of_a_layers_own(serve: Serve, upstream: UpstreamMaker) -> None:
    """A Stream that a layer puts in the place of a body is chunked: the client's Content-Length
    is no word of it.
    """

    async def script(peer: Peer) -> None:
        message = await peer.request()
        assert (message.chunked, message["content-length"]) == (True, None)
        peer.send(ok(message.body))
        assert (await peer.request()).target == b"/next"
        peer.send(ok())
        await peer.ended()

    server = await upstream(script)
    chain = {"match": {"path": "/layer"}, "chain": ["tests.road.layers:Restreams"]}
    client = await (await serve(server, routes=[chain, {}])).connect()
    assert (await client.exchange("POST", "/layer", body=b"prompt")).body == b"PROMPT!"
    assert (await client.exchange("GET", "/next")).status == 200
    assert server.made == 1


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1_000_000, 20_000_000])
async def test_sizes_both_ways(serve: Serve, upstream: UpstreamMaker, size: int) -> None:
    """A body of any size comes back as it went, fixed and chunked."""

    async def script(peer: Peer) -> None:
        while True:
            message = await peer.request()
            if message.chunked:
                middle = len(message.body) // 2
                pieces = (message.body[:middle], message.body[middle:])
                peer.send(CHUNKED_HEAD + b"".join(map(chunk, filter(None, pieces))) + LAST_CHUNK)
            else:
                peer.send(ok(message.body))
            await peer.flush()

    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    client = await (await serve(await upstream(script))).connect()
    assert (await client.exchange("POST", "/", body=body)).body == body
    client.send(head("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked"))
    client.send((chunk(body) if body else b"") + LAST_CHUNK)
    assert (await client.answer()).body == body
