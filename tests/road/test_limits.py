"""Bounds on what clients send, and on how many there are."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Serve, UpstreamMaker
from tests.road.scripted import Peer, answering
from tests.road.wire import LAST_CHUNK, Gone, chunk, head, ok, small_buffers, until

SMALL = [{"match": {"path": "/small"}, "max_body": 10}, {"match": {"path": "/*"}}]


@pytest.mark.parametrize("layer", [[], ["tests.road.layers:Reader"]], ids=["streamed", "read"])
@pytest.mark.parametrize("target", ["/small", "/"])
async def test_declared(
    serve: Serve, upstream: UpstreamMaker, target: str, layer: list[str]
) -> None:
    """A Content-Length over the route's or the file's bound is 413 before any body is awaited, and
    the upstream is not asked; one at the bound passes.
    """
    bound = 10 if target == "/small" else 20
    server = await upstream(answering(ok()))
    running = await serve(server, routes=SMALL, limits={"body": 20}, chain=layer)
    client = await running.connect()
    assert (await client.exchange("POST", target, body=b"x" * bound)).status == 200
    client.send(head(f"POST {target} HTTP/1.1", "Host: h", f"Content-Length: {bound + 1}"))
    answer = await client.answer()
    assert (answer.status, answer["x-remora-error"]) == (413, "body_too_large")
    assert answer["connection"] == "close"
    assert await client.ended() == b""
    assert len(server.peers) == 1


@pytest.mark.parametrize("trailers", [b"", b"X-Sum: 1\r\n"], ids=["", "trailers"])
@pytest.mark.parametrize("manner", ["whole", "head first", "chunk by chunk"])
@pytest.mark.parametrize("target", ["/small", "/"])
async def test_chunked(
    serve: Serve, upstream: UpstreamMaker, target: str, manner: str, trailers: bytes
) -> None:
    """Chunks whose sum is over the bound are 413 however they come, and the upstream never gets
    a whole request; at the bound they pass.
    """
    bound = 10 if target == "/small" else 20
    whole = 0

    async def script(peer: Peer) -> None:
        nonlocal whole
        while True:
            await peer.request()
            whole += 1
            peer.send(ok())

    running = await serve(await upstream(script), routes=SMALL, limits={"body": 20})
    for size, status in ((bound, 200), (bound + 1, 413)):
        client = await running.connect()
        lines = head(f"POST {target} HTTP/1.1", "Host: h", "Transfer-Encoding: chunked")
        last = b"0\r\n" + trailers + b"\r\n"
        chunks = [chunk(b"x" * 5)] * (size // 5) + ([chunk(b"y")] if size % 5 else [])
        for piece in {
            "whole": [lines + b"".join(chunks) + last],
            "head first": [lines, b"".join(chunks) + last],
            "chunk by chunk": [lines, *chunks, last],
        }[manner]:
            client.send(piece)
            await asyncio.sleep(0.005)
        answer = await client.answer()
        assert answer.status == status
        if status == 413:
            assert answer["connection"] == "close"
            await client.ended()
    assert whole == 1
    await until(lambda: running.pool.open == running.pool.idle)


async def test_announced_chunk(serve: Serve, upstream: UpstreamMaker) -> None:
    """A chunk that only announces too much is refused before its bytes come."""
    running = await serve(await upstream(answering(ok())), routes=SMALL)
    client = await running.connect()
    client.send(head("POST /small HTTP/1.1", "Host: h", "Transfer-Encoding: chunked"))
    await asyncio.sleep(0.005)
    client.send(b"fffff\r\n")
    assert (await client.answer()).status == 413


async def test_a_layer_that_reads_has_its_bound(serve: Serve, upstream: UpstreamMaker) -> None:
    """A body over what a layer will read is 413; a client that waits for 100 is not asked for
    what will be refused.
    """
    server = await upstream(answering(ok()))
    running = await serve(server, chain=["tests.road.layers:Reader"])
    size = (1 << 20) + 1
    client = await running.connect()
    client.send(head("POST / HTTP/1.1", "Host: h", f"Content-Length: {size}",
                     "Expect: 100-continue"))  # fmt: skip
    assert (await client.head()).status == 413
    client = await running.connect()
    client.send(head("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked"))
    client.send(chunk(b"x" * size) + LAST_CHUNK)
    assert (await client.answer()).status == 413
    assert server.made == 0


async def test_connections(serve: Serve, upstream: UpstreamMaker) -> None:
    """One client too many gets 503 and a closed connection; a place that is left is free again."""
    running = await serve(await upstream(answering(ok())), limits={"connections": 3})
    clients = [await running.connect() for _ in range(3)]
    for client in clients:
        assert (await client.exchange()).status == 200
    for _ in range(3):
        extra = await running.connect()
        answer = await extra.answer()
        assert (answer.status, answer["x-remora-error"]) == (503, "too_many_connections")
        assert await extra.ended() == b""
    clients[0].close()
    await until(lambda: len(running.server.edge.connections) == 2)
    assert (await (await running.connect()).exchange()).status == 200
    assert (await clients[1].exchange()).status == 200


async def test_many_pipelined_bytes(serve: Serve, upstream: UpstreamMaker) -> None:
    """What a client sends ahead is not read without bound: it has to wait with the rest."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await go_on.wait()
        peer.send(ok())
        while True:
            await peer.request()
            peer.send(ok())

    running = await serve(await upstream(script))
    client = await running.connect()
    request = head("GET / HTTP/1.1", "Host: h", "X-Fill: " + "x" * 8000)
    for _ in range(400):
        client.send(request)
    await until(lambda: running.pool.open == 1)
    (connection,) = running.server.edge.connections
    await until(lambda: connection.held)
    assert connection.reader.buffered < 512 * 1024
    go_on.set()
    for _ in range(400):
        assert (await client.answer()).status == 200


async def test_unread_answers(serve: Serve, upstream: UpstreamMaker) -> None:
    """A client that pipelines and reads nothing stops being served: its answers do not pile up."""
    served = 0

    async def script(peer: Peer) -> None:
        nonlocal served
        while True:
            await peer.request()
            served += 1
            peer.send(ok(b"x" * 50_000))
            await peer.flush()

    running = await serve(await upstream(script), sockets=[small_buffers()])
    client = await running.connect(stalled=True)
    for _ in range(400):
        client.ask()
    await until(lambda: running.server.edge.connections)
    (connection,) = running.server.edge.connections
    await until(lambda: connection.sending is not None and connection.sending.blocked)
    before = served
    await asyncio.sleep(0.2)
    assert served <= before + 1 < 300
    client.go_on()
    for _ in range(400):
        assert len((await client.answer()).body) == 50_000


async def test_leaves_nobody_waiting(serve: Serve, upstream: UpstreamMaker) -> None:
    """Stopping a server in mid-exchange cuts the client and the upstream, and ends."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.ended()

    running = await serve(await upstream(script))
    client = await running.connect()
    client.ask()
    await until(lambda: running.pool.open == 1)
    await asyncio.wait_for(running.server.stop(), 2)
    with pytest.raises(Gone):
        await client.head()
