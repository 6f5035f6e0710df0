"""What no bound on time may end: the slow, and whoever waits for them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.conftest import Serve, UpstreamMaker
from tests.road.scripted import Peer, answering
from tests.road.wire import (
    CHUNKED_HEAD,
    LAST_CHUNK,
    chunk,
    head,
    ok,
    small_buffers,
)


async def test_first_byte_counts_from_the_whole_request(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """A client that is slow with its body has not used up the upstream's time."""
    running = await serve(await upstream(answering(ok())), timeouts={"first_byte": 0.15})
    client = await running.connect()
    client.send(head("POST / HTTP/1.1", "Host: h", "Content-Length: 2") + b"x")
    await asyncio.sleep(0.4)
    client.send(b"y")
    assert (await client.answer()).status == 200


async def test_idle_is_between_pieces(serve: Serve, upstream: UpstreamMaker) -> None:
    """An answer that takes several times `idle` in all is whole when no gap is that long."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(CHUNKED_HEAD)
        for _ in range(10):
            await asyncio.sleep(0.05)
            peer.send(chunk(b"x"))
        peer.send(LAST_CHUNK)
        await peer.ended()

    client = await (await serve(await upstream(script), timeouts={"idle": 0.15})).connect()
    assert (await client.exchange()).body == b"x" * 10


async def test_a_stalled_client_is_not_an_idle_upstream(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """While a client takes nothing the upstream is held, and its silence is not its own."""
    size = 20_000_000

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(ok(b"x" * size))
        await peer.flush()
        await peer.ended()

    running = await serve(await upstream(script), timeouts={"idle": 0.1})
    client = await running.connect()
    client.ask()
    message = await client.head()
    client.hold()
    await asyncio.sleep(0.5)
    client.go_on()
    assert message["content-length"] == str(size)
    assert await client.exactly(size) == b"x" * size


async def test_total_that_is_kept(serve: Serve, upstream: UpstreamMaker) -> None:
    """An exchange within `total` leaves no timer behind that could end the next one."""

    async def script(peer: Peer) -> None:
        for _ in range(4):
            await peer.request()
            await asyncio.sleep(0.1)
            peer.send(ok())
        await peer.ended()

    server = await upstream(script)
    client = await (await serve(server, timeouts={"total": 0.25})).connect()
    for _ in range(4):
        assert (await client.exchange()).status == 200
    assert server.made == 1


async def test_head_timeout_counts_from_its_first_byte(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """On a kept connection the time before a head begins is not the head's."""
    running = await serve(await upstream(answering(ok())), limits={"head_timeout": 0.3})
    client = await running.connect()
    await client.exchange()
    for _ in range(2):
        await asyncio.sleep(0.5)
        client.send(b"GET / HTTP/1.1\r\n")
        await asyncio.sleep(0.15)
        client.send(b"Host: h\r\n\r\n")
        assert (await client.answer()).status == 200


async def test_idle_is_not_while_a_request_runs(serve: Serve, upstream: UpstreamMaker) -> None:
    """A slow exchange does not count as an idle connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.4)
        peer.send(ok())
        await peer.ended()

    running = await serve(await upstream(script), limits={"idle_timeout": 0.1, "head_timeout": 0.1})
    assert (await (await running.connect()).exchange()).status == 200


async def test_body_that_keeps_coming(serve: Serve, upstream: UpstreamMaker) -> None:
    """A body that takes several times body_timeout in all is taken when no gap is that long."""
    running = await serve(await upstream(answering(ok())), limits={"body_timeout": 0.15})
    client = await running.connect()
    client.send(head("POST / HTTP/1.1", "Host: h", "Content-Length: 10"))
    for _ in range(10):
        await asyncio.sleep(0.05)
        client.send(b"x")
    assert (await client.answer()).status == 200


async def test_a_slow_upstream_is_not_a_slow_body(serve: Serve, upstream: UpstreamMaker) -> None:
    """While the upstream takes nothing the client is held, and its silence is not its own."""
    size = 20_000_000
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await go_on.wait()
        message = await peer.request()
        peer.send(ok(b"%d" % len(message.body)))
        await peer.ended()

    running = await serve(await upstream(script), limits={"body_timeout": 0.1})
    client = await running.connect()
    client.ask("POST", "/", body=b"x" * size)
    await asyncio.sleep(0.5)
    go_on.set()
    assert (await client.answer()).body == b"%d" % size


@pytest.mark.parametrize("framing", ["fixed", "many small chunks"])
async def test_send_timeout_spares_a_slow_reader(
    serve: Serve, upstream: UpstreamMaker, framing: str, tmp_path: Path
) -> None:
    """A client that reads slowly, but reads, gets its whole answer, long after send_timeout."""
    size = 200_000

    async def script(peer: Peer) -> None:
        await peer.request()
        if framing == "fixed":
            peer.send(head("HTTP/1.1 200 OK", f"Content-Length: {size}"))
        else:
            peer.send(CHUNKED_HEAD)
        await begin.wait()
        if framing == "fixed":
            peer.send(b"x" * size)
        else:
            peer.send(chunk(b"x" * 1000) * (size // 1000) + LAST_CHUNK)
        await peer.ended()

    begin = asyncio.Event()
    # A unix socket hands over all of it at once, so that much is written after the first pause.
    server = await upstream(script, path=str(tmp_path / "upstream"))
    running = await serve(server, limits={"send_timeout": 0.25}, sockets=[small_buffers()])
    client = await running.connect(stalled=True)
    client.ask()
    client.go_on()
    await client.head()
    begin.set()
    got = 0
    begun = time.monotonic()
    while got < size:
        got += len(await asyncio.wait_for(client.reader.read(8_000), 5))
        await asyncio.sleep(0.03)
    assert time.monotonic() - begun > 0.3
