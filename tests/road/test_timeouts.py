"""Each bound on time, and what becomes of whoever crosses it."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.conftest import Serve, UpstreamMaker
from tests.road.layers import Witness
from tests.road.scripted import Peer, answering
from tests.road.wire import (
    CHUNKED_HEAD,
    SSE_HEAD,
    Gone,
    chunk,
    head,
    ok,
    small_buffers,
    until,
)

WITNESS = ["tests.road.layers:Witness"]


async def test_first_byte(serve: Serve, upstream: UpstreamMaker) -> None:
    """No byte of an answer in time: 504, the upstream connection closed, the client's kept."""
    ends = 0

    async def script(peer: Peer) -> None:
        nonlocal ends
        await peer.request()
        await peer.ended()
        ends += 1

    running = await serve(await upstream(script), timeouts={"first_byte": 0.1})
    client = await running.connect()
    for turn in range(2):
        begun = time.monotonic()
        answer = await client.exchange("POST", "/v1/completions", body=b"{}")
        assert (answer.status, answer["x-remora-error"]) == (504, "upstream_timeout")
        assert json.loads(answer.body)["error"]["code"] == "upstream_timeout"
        assert 0.09 < time.monotonic() - begun < 5
        await until(lambda turn=turn: ends == turn + 1)


async def test_first_byte_is_of_each_request(serve: Serve, upstream: UpstreamMaker) -> None:
    """Deadlines of many exchanges under way at once come due each at its own time."""

    async def script(peer: Peer) -> None:
        while (await peer.request()).target != b"/never":
            peer.send(ok())
        await peer.ended()

    running = await serve(await upstream(script), timeouts={"first_byte": 0.3})
    clients = [await running.connect() for _ in range(6)]
    begun = [0.0] * 6

    async def one(number: int) -> float:
        await asyncio.sleep(0.05 * number)
        begun = time.monotonic()
        target = "/never" if number % 2 else "/"
        answer = await clients[number].exchange("GET", target)
        assert answer.status == (504 if number % 2 else 200)
        return time.monotonic() - begun

    took = await asyncio.gather(*map(one, range(len(begun))))
    assert all(0.29 < seconds < 5 for seconds in took[1::2]), took


async def test_first_byte_of_an_upstream_that_reads_nothing(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """An upstream that takes no more of a body has its time counted: 504."""
    hold = asyncio.Event()

    async def script(peer: Peer) -> None:
        await hold.wait()

    running = await serve(await upstream(script), timeouts={"first_byte": 0.15})
    client = await running.connect()
    size = 20_000_000
    client.send(head("POST / HTTP/1.1", "Host: h", f"Content-Length: {size}") + b"x" * size)
    assert (await client.answer()).status == 504
    hold.set()


async def test_idle_event_stream(serve: Serve, upstream: UpstreamMaker) -> None:
    """A stream that falls silent ends with an error event, also before its first event."""

    async def script(peer: Peer) -> None:
        message = await peer.request()
        peer.send(SSE_HEAD)
        if message.target == b"/v1/completions":
            peer.send(chunk(b"data: {}\n\n"))
        await peer.ended()

    running = await serve(await upstream(script), timeouts={"idle": 0.1}, chain=WITNESS)
    for target, events in (("/v1/completions", 1), ("/v1/responses", 0)):
        client = await running.connect()
        client.ask("POST", target, body=b"{}")
        await client.head()
        for _ in range(events):
            assert await client.chunk() == b"data: {}\n\n"
        last = await client.chunk()
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "upstream_timeout"
        assert await client.chunk() == b""
        await client.ended()
    for outcome in running.layer(Witness).outcomes:
        assert outcome.error.code == "upstream_timeout"
        assert not outcome.cancelled
    await until(lambda: running.pool.open == 0)


async def test_idle_other_body(serve: Serve, upstream: UpstreamMaker) -> None:
    """Any other body that falls silent is cut."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(CHUNKED_HEAD + chunk(b"half"))
        await peer.ended()

    client = await (await serve(await upstream(script), timeouts={"idle": 0.1})).connect()
    client.ask()
    await client.head()
    assert await client.chunk() == b"half"
    with pytest.raises(Gone):
        await client.chunk()


@pytest.mark.parametrize("begun", [False, True], ids=["before the head", "amid the answer"])
async def test_total(serve: Serve, upstream: UpstreamMaker, begun: bool) -> None:
    """`total` ends an exchange that is never silent: 504, or cut."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(CHUNKED_HEAD if begun else b"")
        while True:
            peer.send(chunk(b"x") if begun else head("HTTP/1.1 102 Processing"))
            await asyncio.sleep(0.05)
            if peer.writer.transport.is_closing():
                return

    running = await serve(await upstream(script), timeouts={"total": 0.2})
    client = await running.connect()
    client.ask()
    if begun:
        assert (await client.head()).status == 200
        with pytest.raises(Gone):
            await client.chunks()
    else:
        assert (await client.answer()).status == 504
    await until(lambda: running.pool.open == 0)


async def test_head_timeout(serve: Serve, upstream: UpstreamMaker) -> None:
    """A head that is not whole in time gets 408 and a closed connection, however it trickles."""
    server = await upstream(answering(ok()))
    running = await serve(server, limits={"head_timeout": 0.3})
    client = await running.connect()
    begun = time.monotonic()

    async def trickle() -> None:
        for byte in head("GET / HTTP/1.1", "Host: h", "X-Slow: " + "x" * 100):
            client.send(bytes([byte]))
            await asyncio.sleep(0.02)

    sending = asyncio.create_task(trickle())
    answer = await client.answer()
    assert (answer.status, answer["connection"]) == (408, "close")
    assert time.monotonic() - begun > 0.29
    assert await client.ended() == b""
    sending.cancel()
    await asyncio.wait({sending})
    assert server.made == 0


async def test_idle_connection(serve: Serve, upstream: UpstreamMaker) -> None:
    """A connection without a request is closed after idle_timeout, fresh or used, silently."""
    running = await serve(await upstream(answering(ok())), limits={"idle_timeout": 0.2})
    fresh, used = await running.connect(), await running.connect()
    await used.exchange()
    begun = time.monotonic()
    assert await fresh.rest() == b""
    assert await used.rest() == b""
    assert time.monotonic() - begun < 5
    assert not running.server.edge.connections


async def test_body_timeout(serve: Serve, upstream: UpstreamMaker) -> None:
    """A body that stops coming gets 408, and the upstream sees its request break off."""
    ends: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.head()
        ends.append(await peer.ended())

    running = await serve(await upstream(script), limits={"body_timeout": 0.1})
    client = await running.connect()
    client.send(head("POST / HTTP/1.1", "Host: h", "Content-Length: 10") + b"half")
    answer = await client.answer()
    assert (answer.status, answer["connection"]) == (408, "close")
    assert await client.ended() == b""
    await until(lambda: ends == [b"half"])


@pytest.mark.parametrize("framing", ["streamed", "in one piece"])
async def test_send_timeout(serve: Serve, upstream: UpstreamMaker, framing: str) -> None:
    """A client that takes no byte for send_timeout is dropped, and the upstream let go."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if framing == "streamed":
            peer.send(CHUNKED_HEAD)
            while not peer.writer.transport.is_closing():
                peer.send(chunk(b"x" * 65536))
                await peer.flush()
        else:
            peer.send(ok(b"x" * 200_000))
            await peer.ended()

    running = await serve(
        await upstream(script), limits={"send_timeout": 0.2}, chain=WITNESS,
        sockets=[small_buffers()],
    )  # fmt: skip
    client = await running.connect(stalled=True)
    client.ask()
    witness = running.layer(Witness)
    begun = time.monotonic()
    await asyncio.wait_for(witness.ended.wait(), 3)
    assert time.monotonic() - begun > 0.19
    (outcome,) = witness.outcomes
    assert outcome.cancelled
    await until(lambda: not running.server.edge.connections)
    if framing == "streamed":
        await until(lambda: running.pool.open == 0)


@pytest.mark.parametrize("fields", [[], ["Connection: close"]], ids=["kept", "closed"])
async def test_the_last_of_an_answer(
    serve: Serve, upstream: UpstreamMaker, fields: list[str]
) -> None:
    """Also what is too little to hold the upstream back keeps no connection open for ever."""
    running = await serve(
        await upstream(answering(ok(b"x" * 50_000))),
        limits={"send_timeout": 0.2, "idle_timeout": 0.2}, sockets=[small_buffers()],
    )  # fmt: skip
    client = await running.connect(stalled=True)
    client.ask("GET", "/", *fields)
    edge = running.server.edge
    await until(lambda: edge.connections)
    (connection,) = edge.connections
    await until(lambda: running.pool.idle == 1)
    assert connection.sending is None, "it was held back"
    await until(lambda: not edge.connections)


async def test_the_last_of_an_answer_that_is_taken_late(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """A client that begins to read after its connection was closed gets all of its answer."""
    running = await serve(
        await upstream(answering(ok(b"x" * 50_000))),
        limits={"send_timeout": 10, "idle_timeout": 0.2}, sockets=[small_buffers()],
    )  # fmt: skip
    client = await running.connect(stalled=True)
    client.ask()
    edge = running.server.edge
    await until(lambda: any(one.sending is not None for one in edge.connections))
    client.go_on()
    assert (await client.answer()).body == b"x" * 50_000
    await until(lambda: not edge.connections)
