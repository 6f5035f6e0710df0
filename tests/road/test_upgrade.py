"""Upgraded connections: after 101 both sides speak what they like, byte for byte."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket

from tests.conftest import Running, Serve, UpstreamMaker
from tests.road.layers import Witness
from tests.road.scripted import Peer, answering
from tests.road.wire import Client, Gone, head, ok, soon, until

SWITCH = head("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: foo", "X-A: b")
ASK = ("Connection: Upgrade", "Upgrade: foo")


async def opened(running: Running) -> Client:
    """A client that has been switched."""
    client = await running.connect()
    client.ask("GET", "/tunnel", *ASK)
    assert (await client.head()).status == 101
    return client


async def echo(peer: Peer) -> None:
    """Switches, then sends back what comes."""
    await peer.request()
    peer.send(SWITCH)
    while data := await peer.some():
        peer.send(data)
        await peer.flush()


@asynccontextmanager
async def websocket_server(**keys: object) -> AsyncIterator[str]:
    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve_websocket(handler, "127.0.0.1", 0, **keys) as server:  # type: ignore[arg-type]
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_websocket(serve: Serve) -> None:
    """A real WebSocket client and server, with subprotocol, pings, text, binary and fragments, do
    not notice remora, and the close code goes through.
    """
    async with websocket_server(subprotocols=["chat"], max_size=None) as url:
        running = await serve(url)
        where = running.url.replace("http", "ws") + "/ws?a=b"
        async with connect(where, subprotocols=["chat"], max_size=None) as socket:  # type: ignore[list-item]
            assert socket.subprotocol == "chat"
            for message in ("text", "ü" * 1000, b"\x00\xff", b"", os.urandom(3_000_000)):
                await socket.send(message)
                assert await soon(socket.recv()) == message
            await socket.send(iter(["in ", "three ", "pieces"]))
            assert await soon(socket.recv()) == "in three pieces"
            await soon(await socket.ping())
            await socket.close(4321, "bye")
        assert (socket.close_code, socket.close_reason) == (4321, "bye")
        await until(lambda: running.pool.open == 0)


async def test_websocket_refused(serve: Serve) -> None:
    """A WebSocket server's refusal reaches its client as it is."""

    async def refuse(connection: ServerConnection, request: object) -> object:
        return connection.respond(403, "not you\n")

    async with websocket_server(process_request=refuse) as url:
        running = await serve(url)
        with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
            await connect(running.url.replace("http", "ws"))
        assert caught.value.response.status_code == 403
        assert caught.value.response.body == b"not you\n"


async def test_any_protocol(serve: Serve, upstream: UpstreamMaker) -> None:
    """The upstream gets the Upgrade as it was asked for, the client the 101 as it came; then any
    bytes go both ways.
    """
    heads = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.request())
        peer.send(SWITCH)
        while data := await peer.some():
            peer.send(data)

    running = await serve(await upstream(script))
    client = await running.connect()
    client.ask("GET", "/a/../b", "Connection: keep-alive, Upgrade", "Upgrade: foo/2, bar", "X-C: d")
    message = await client.head()
    assert message.first_line == b"HTTP/1.1 101 Switching Protocols"
    assert message.headers == [(b"Connection", b"Upgrade"), (b"Upgrade", b"foo"), (b"X-A", b"b")]
    (asked,) = heads
    assert asked.target == b"/a/../b"
    assert (asked["upgrade"], asked["connection"], asked["x-c"]) == ("foo/2, bar", "Upgrade", "d")
    for data in (b"\x00", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 100, b"0\r\n\r\n"):
        client.send(data)
        assert await client.exactly(len(data)) == data


async def test_bytes_sent_with_the_heads(serve: Serve, upstream: UpstreamMaker) -> None:
    """Bytes that a client sends right behind its head, and an upstream behind its 101, in the
    same segment, are the first of the tunnel.
    """
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(SWITCH + b"hello from the server")
        got.append(await peer.exactly(len(b"hello from the client")))
        await peer.ended()

    client = await (await serve(await upstream(script))).connect()
    client.send(head("GET / HTTP/1.1", "Host: h", *ASK) + b"hello from the client")
    assert (await client.head()).status == 101
    assert await client.exactly(21) == b"hello from the server"
    await until(lambda: got == [b"hello from the client"])


@pytest.mark.parametrize("who", ["client", "upstream"])
@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_one_side_ends(serve: Serve, upstream: UpstreamMaker, who: str, how: str) -> None:
    """When one side goes so does the other, after what was on its way."""
    ended = asyncio.Event()
    rest: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(SWITCH)
        await peer.exactly(5)
        if who == "upstream":
            peer.send(b"last words")
            if how == "resets":
                await heard.wait()
                peer.abort()
        else:
            rest.append(await peer.ended())
        ended.set()

    heard = asyncio.Event()
    running = await serve(await upstream(script), chain=["tests.road.layers:Witness"])
    client = await opened(running)
    client.send(b"first")
    if who == "client":
        client.send(b"last words")
        if how == "closes":
            client.close()
        else:
            await asyncio.sleep(0.05)
            client.abort()
    else:
        assert await client.exactly(10) == b"last words"
        heard.set()
        assert await client.ended() == b""
    await soon(ended.wait())
    if who == "client":
        assert rest == [b"last words"]
    await until(lambda: running.pool.open == 0 and not running.server.edge.connections)
    (outcome,) = running.layer(Witness).outcomes
    assert outcome.status == 101


async def test_tunnels_may_be_silent(serve: Serve, upstream: UpstreamMaker) -> None:
    """No bound on time ends an upgraded connection: it outlives idle, total and the client's."""
    bounds = {"idle": 0.1, "total": 0.1, "first_byte": 0.1}
    running = await serve(
        await upstream(echo), timeouts=bounds,
        limits={"idle_timeout": 0.1, "head_timeout": 0.1, "body_timeout": 0.1},
    )  # fmt: skip
    client = await opened(running)
    await asyncio.sleep(0.5)
    client.send(b"still here")
    assert await client.exactly(10) == b"still here"


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_back_pressure(serve: Serve, upstream: UpstreamMaker, who: str) -> None:
    """When `who` does not read, the other side is stopped; every byte comes once it does."""
    size, block = 480, bytes(range(256)) * 256
    sent = 0
    switched: asyncio.Queue[Peer] = asyncio.Queue()
    finish = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(SWITCH)
        switched.put_nowait(peer)
        await finish.wait()

    async def flood() -> None:
        nonlocal sent
        for _ in range(size):
            sender.send(block)
            sent += 1
            await sender.flush()

    running = await serve(await upstream(script))
    client = await opened(running)
    peer = await soon(switched.get())
    sender, reader = (client, peer) if who == "upstream" else (peer, client)
    reader.hold()
    flooding = asyncio.create_task(flood())
    before = -1
    while before != sent:  # until nothing moves any more
        before = sent
        await asyncio.sleep(0.1)
    assert sent < size
    (edge,) = running.server.edge.connections
    for end in (edge, edge._tunnel):
        assert end._transport.get_write_buffer_size() < 1_000_000  # type: ignore[union-attr]
    reader.go_on()
    for _ in range(size):
        assert await reader.exactly(len(block)) == block
    await flooding
    finish.set()


@pytest.mark.parametrize("status", ["200 OK", "426 Upgrade Required", "400 Bad Request"])
async def test_declined(serve: Serve, upstream: UpstreamMaker, status: str) -> None:
    """An upstream that answers an upgrade with anything but 101 is an ordinary answer, and both
    connections go on; 426 says what it wants (RFC 9110 section 15.5.22).
    """
    answer = ok(b"no", "Upgrade: foo/9", "Connection: Upgrade", status=status)
    server = await upstream(answering(answer, ok(b"plain")))
    client = await (await serve(server)).connect()
    refused = await client.exchange("GET", "/", *ASK)
    assert (refused.first_line, refused.body) == (b"HTTP/1.1 " + status.encode(), b"no")
    assert refused["upgrade"] == ("foo/9" if status.startswith("426") else None)
    assert (await client.exchange()).body == b"plain"
    assert server.made == 1


async def test_switched_unasked(serve: Serve, upstream: UpstreamMaker) -> None:
    """101 to a request that asked for no upgrade, or 101 that names no protocol, is 502."""
    bare = head("HTTP/1.1 101 Switching Protocols")
    for answer, fields in ((SWITCH, ()), (bare, ASK), (bare, ())):
        running = await serve(await upstream(answering(answer)))
        client = await running.connect()
        told = await client.exchange("GET", "/", *fields)
        assert (told.status, told["x-remora-error"]) == (502, "upstream_protocol_error")
        await until(lambda running=running: running.pool.open == 0)


async def test_a_body_with_an_upgrade(serve: Serve, upstream: UpstreamMaker) -> None:
    """A request with a body is sent as an ordinary one: nobody switches amid a body."""
    heads = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.request())
        peer.send(ok())
        await peer.ended()

    client = await (await serve(await upstream(script))).connect()
    assert (await client.exchange("POST", "/", *ASK, body=b"body")).status == 200
    assert (heads[0]["upgrade"], heads[0].body) == (None, b"body")


async def test_upgrades_are_retried(serve: Serve, upstream: UpstreamMaker) -> None:
    """An upgrade asked for on a kept connection that dies is asked for again."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            peer.send(ok())
            await peer.request()
            return
        peer.send(SWITCH + b"up")
        await peer.ended()

    running = await serve(await upstream(script))
    client = await running.connect()
    await client.exchange()
    client.ask("GET", "/", *ASK)
    assert (await client.head()).status == 101
    assert await client.exactly(2) == b"up"


async def test_stopping_ends_tunnels(serve: Serve, upstream: UpstreamMaker) -> None:
    """A server that stops cuts its tunnels, and waits for no silent one."""
    running = await serve(await upstream(echo))
    client = await opened(running)
    await asyncio.wait_for(running.server.stop(), 2)
    with pytest.raises(Gone):
        await client.exactly(1)


async def test_leaving_before_the_switch(serve: Serve, upstream: UpstreamMaker) -> None:
    """A client gone before the 101 leaves no tunnel behind."""
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.ended()

    running = await serve(await upstream(script))
    client = await running.connect()
    client.ask("GET", "/", *ASK)
    await soon(asked.wait())
    client.abort()
    await until(lambda: running.pool.open == 0)
