"""Targets, several requests on one connection, and fields that do not pass."""

from __future__ import annotations

import asyncio

from tests.conftest import Serve, UpstreamMaker
from tests.road.scripted import Peer, answering
from tests.road.wire import Gone, Message, chunk, head, ok

# -- targets


async def test_target_forms(serve: Serve, upstream: UpstreamMaker) -> None:
    """`OPTIONS *` goes through as it is; absolute-form becomes origin-form and the Host."""
    seen: list[Message] = []

    async def script(peer: Peer) -> None:
        while True:
            seen.append(await peer.request())
            peer.send(ok())

    client = await (await serve(await upstream(script))).connect()
    for method, target in (
        ("OPTIONS", "*"), ("GET", "http://model.test:81/a/../b?c"),
        ("OPTIONS", "http://model.test"), ("GET", "http://model.test"),
    ):  # fmt: skip
        assert (await client.exchange(method, target)).status == 200
    assert [(one.target, one["host"]) for one in seen] == [
        (b"*", "remora.test"), (b"/a/../b?c", "model.test:81"),
        (b"*", "model.test"), (b"/", "model.test"),
    ]  # fmt: skip


async def test_connect_is_refused(serve: Serve, upstream: UpstreamMaker) -> None:
    """CONNECT is no method of a reverse proxy: 405, and the connection ends."""
    server = await upstream(answering(ok()))
    client = await (await serve(server)).connect()
    client.send(head("CONNECT h:443 HTTP/1.1", "Host: h:443"))
    answer = await client.answer()
    assert (answer.status, answer["connection"]) == (405, "close")
    assert await client.ended() == b""
    assert server.made == 0


# -- one connection, several requests


async def test_pipelined(serve: Serve, upstream: UpstreamMaker) -> None:
    """Requests sent ahead are answered in their order, each after the one before it."""

    async def script(peer: Peer) -> None:
        while True:
            message = await peer.request()
            peer.send(ok(message.target + message.body))

    client = await (await serve(await upstream(script))).connect()
    for number in range(50):
        client.ask("POST", f"/{number}", body=b"-%d" % number)
    for number in range(50):
        assert (await client.answer()).body == b"/%d-%d" % (number, number)


async def test_connection_close(serve: Serve, upstream: UpstreamMaker) -> None:
    """`Connection: close` from the client ends its connection, and not the upstream's."""
    server = await upstream(answering(ok()))
    running = await serve(server)
    for _ in range(2):
        client = await running.connect()
        answer = await client.exchange("GET", "/", "Connection: close")
        assert answer["connection"] == "close"
        assert await client.rest() == b""
    assert server.made == 1


async def test_hop_by_hop_fields(serve: Serve, upstream: UpstreamMaker) -> None:
    """Fields of one connection, and those that Connection names, end with it, both ways."""
    seen: list[Message] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        peer.send(
            ok(b"", "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "X-End: 2",
               "Upgrade: h2c", "Set-Cookie: a", "Set-Cookie: b", "X-Latin: \xe9")
        )  # fmt: skip
        await peer.ended()

    client = await (await serve(await upstream(script))).connect()
    answer = await client.exchange(
        "GET", "/", "Connection: X-Hop, keep-alive", "X-Hop: 1", "TE: trailers", "X-End: \xff"
    )
    assert seen[0].headers == [(b"Host", b"remora.test"), (b"X-End", b"\xff")]
    assert answer.headers == [
        (b"Content-Length", b"0"), (b"X-End", b"2"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b"),
        (b"X-Latin", b"\xe9"),
    ]  # fmt: skip


async def test_refused_in_mid_body(serve: Serve, upstream: UpstreamMaker) -> None:
    """A body that turns out malformed gets 400, and the upstream never a whole request."""
    cut = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        assert await peer.chunk() == b"fine"
        client.send(b"zz\r\n")
        try:
            await peer.chunks()
        except (Gone, ValueError):
            cut.set()

    server = await upstream(script)
    client = await (await serve(server)).connect()
    client.send(head("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") + chunk(b"fine"))
    answer = await client.answer()
    assert (answer.status, answer["connection"]) == (400, "close")
    await asyncio.wait_for(cut.wait(), 5)
