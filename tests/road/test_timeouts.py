"""Each bound on time: what it ends, and what it must leave alone."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import pytest

from tests.conftest import Serve, UpstreamMaker
from tests.road.layers import Witness
from tests.road.wire import (
    CHUNKED_HEAD,
    LAST_CHUNK,
    SSE_HEAD,
    Client,
    Gone,
    Peer,
    answering,
    chunk,
    head,
    ok,
    until,
)

WITNESS = ["tests.road.layers:Witness"]


# -- the upstream's


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
        assert 0.09 < time.monotonic() - begun < 1
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
    assert all(0.29 < seconds < 0.45 for seconds in took[1::2]), took


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
    transport = client.writer.transport
    transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(0.5)
    transport.resume_reading()  # type: ignore[attr-defined]
    assert message["content-length"] == str(size)
    assert await client.exactly(size) == b"x" * size


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


# -- the client's


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
    assert 0.29 < time.monotonic() - begun < 1
    assert await client.ended() == b""
    sending.cancel()
    await asyncio.wait({sending})
    assert server.made == 0


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


async def test_idle_connection(serve: Serve, upstream: UpstreamMaker) -> None:
    """A connection without a request is closed after idle_timeout, fresh or used, silently."""
    running = await serve(await upstream(answering(ok())), limits={"idle_timeout": 0.2})
    fresh, used = await running.connect(), await running.connect()
    await used.exchange()
    begun = time.monotonic()
    assert await fresh.rest() == b""
    assert await used.rest() == b""
    assert time.monotonic() - begun < 1
    assert not running.server.edge.connections


async def test_idle_is_not_while_a_request_runs(serve: Serve, upstream: UpstreamMaker) -> None:
    """A slow exchange does not count as an idle connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.4)
        peer.send(ok())
        await peer.ended()

    running = await serve(await upstream(script), limits={"idle_timeout": 0.1, "head_timeout": 0.1})
    assert (await (await running.connect()).exchange()).status == 200


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


def small_buffers() -> socket.socket:
    """A listener whose connections' kernel buffers are small: what is not read soon stays here."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    sock.setblocking(False)
    return sock


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
    client = await stalled(running.address)
    running.clients.append(client)
    witness = running.layer(Witness)
    begun = time.monotonic()
    await asyncio.wait_for(witness.ended.wait(), 3)
    assert time.monotonic() - begun > 0.19
    (outcome,) = witness.outcomes
    assert outcome.cancelled
    await until(lambda: not running.server.edge.connections)
    if framing == "streamed":
        await until(lambda: running.pool.open == 0)


async def stalled(address: tuple[str, int]) -> Client:
    """A client with a small buffer of its own, that has asked and does not read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, address)
    client = Client(*await asyncio.open_connection(sock=sock, limit=1024))
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.ask()
    return client


async def test_send_timeout_spares_a_slow_reader(serve: Serve, upstream: UpstreamMaker) -> None:
    """A client that reads slowly, but reads, gets its whole answer, long after send_timeout."""
    size = 200_000

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(head("HTTP/1.1 200 OK", f"Content-Length: {size}") + b"x" * 1000)
        await asyncio.sleep(0.01)
        peer.send(b"x" * (size - 1000))
        await peer.ended()

    running = await serve(
        await upstream(script), limits={"send_timeout": 0.2}, sockets=[small_buffers()]
    )
    client = await stalled(running.address)
    running.clients.append(client)
    got = b""
    transport = client.writer.transport
    begun = time.monotonic()
    transport.resume_reading()  # type: ignore[attr-defined]
    message = await client.head()
    while len(got) < size:
        got += await asyncio.wait_for(client.reader.read(25_000), 5)
        await asyncio.sleep(0.05)
    assert message["content-length"] == str(len(got)) == str(size)
    assert time.monotonic() - begun > 0.3
