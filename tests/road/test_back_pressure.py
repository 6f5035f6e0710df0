"""A slow side costs bounded memory, however fast the other one is."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy import config
from proxy.demo.child import Child, free_port
from proxy.exchange import Request, Stream
from proxy.upstream.body import BodyWriter
from proxy.upstream.http1 import UpstreamConnection
from proxy.upstream.pool import Endpoint, Pool
from tests.conftest import Serve, UpstreamMaker
from tests.road.firehose import BLOCK, pattern
from tests.road.scripted import Peer
from tests.road.wire import CHUNKED_HEAD, Client, chunk, head, ok, small_buffers, soon, until

MIB = 1 << 20
ANSWER = 64 * MIB
CLIENTS = 200
GROWTH = 100 * MIB


def resident(pid: int) -> int:
    """Bytes of memory that the process has in use."""
    statm = Path(f"/proc/{pid}/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True)
    return int(told.stdout) * 1024


async def settled(pid: int) -> int:
    """The most memory it had until that did not grow for half a second."""
    most, still = 0, 0
    while still < 5:
        now = resident(pid)
        still = still + 1 if now <= most + MIB // 4 else 0
        most = max(most, now)
        await asyncio.sleep(0.1)
    return most


class Process:
    """Remora as users start it, so that its memory is its own."""

    def __init__(self, upstream: str) -> None:
        port = free_port()
        argv = [sys.executable, "-m", "proxy", "serve", "--upstream", upstream]
        self.child = Child(
            "remora", [*argv, "--listen", f"127.0.0.1:{port}", "--admin", "off"], port
        )
        self.address = ("127.0.0.1", port)
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        """A client that has asked nothing yet and reads nothing; its own buffer is small."""
        client = await Client.stalled(self.address, 65536)
        self.clients.append(client)
        return client


@pytest.fixture
async def firehose() -> AsyncIterator[str]:
    """A server that answers 64 MiB as fast as they are taken; its URL."""
    port = free_port()
    argv = [sys.executable, "-m", "tests.road.firehose", str(port), str(ANSWER)]
    child = Child("firehose", argv, port, ready="/ready")
    await asyncio.to_thread(child.start)
    yield child.url
    await asyncio.to_thread(child.stop)


async def whole(client: Client) -> None:
    """Reads the answer and compares every byte."""
    client.go_on()
    message = await client.head()
    assert message["content-length"] == str(ANSWER)
    at = 0
    while at < ANSWER:
        piece = await client.some()
        assert piece == pattern(at, len(piece)), f"wrong bytes at {at}"
        at += len(piece)
    assert at == ANSWER


async def test_stalled_readers(firehose: str) -> None:
    """200 clients ask a fast server for 64 MiB each and read nothing: remora grows by less than
    100 MiB. Those who then read get every byte.
    """
    process = Process(firehose)
    await asyncio.to_thread(process.child.start)
    try:
        first = await process.connect()
        first.go_on()
        await first.exchange("GET", "/ready")
        before = resident(process.child.pid)
        clients = [await process.connect() for _ in range(CLIENTS)]
        for client in clients:
            client.ask()
        grown = await settled(process.child.pid) - before
        assert grown < GROWTH, f"{grown / MIB:.0f} MiB for {CLIENTS} stalled clients"
        await asyncio.gather(*map(whole, clients[::100]))
        grown = await settled(process.child.pid) - before
        assert grown < GROWTH, f"{grown / MIB:.0f} MiB after some have read"
    finally:
        for client in process.clients:
            client.abort()
        await asyncio.to_thread(process.child.stop)


async def test_stalled_upstream(upstream: UpstreamMaker) -> None:
    """40 clients upload 64 MiB each to a server that reads nothing: remora grows by less than
    40 MiB, and the clients are held. What is read then is what was sent.
    """
    go_on = asyncio.Event()
    digest = hashlib.blake2b(pattern(0, ANSWER)).digest()
    blocks = ANSWER // len(BLOCK)
    sent = 0

    async def script(peer: Peer) -> None:
        peer.hold()
        await go_on.wait()
        peer.go_on()
        await peer.head()
        got = hashlib.blake2b()
        for _ in range(blocks):
            got.update(await peer.exactly(len(BLOCK), 20))
        peer.send(ok(got.digest()))
        await peer.ended()

    async def upload(client: Client) -> None:
        nonlocal sent
        client.send(head("POST / HTTP/1.1", "Host: h", f"Content-Length: {ANSWER}"))
        for _ in range(blocks):
            client.send(BLOCK)
            await client.flush()
            sent += len(BLOCK)

    server = await upstream(script)
    process = Process(server.url)
    await asyncio.to_thread(process.child.start)
    uploads: list[asyncio.Task[None]] = []
    try:
        before = resident(process.child.pid)
        clients = [await process.connect() for _ in range(40)]
        uploads = [asyncio.create_task(upload(client)) for client in clients]
        grown = await settled(process.child.pid) - before
        assert grown < 40 * MIB, f"{grown / MIB:.0f} MiB for {len(clients)} stalled uploads"
        assert sent < len(clients) * ANSWER // 4
        for client in clients[3:]:
            client.abort()
        go_on.set()
        for client in clients[:3]:
            client.go_on()
            assert (await soon(client.answer(), 15)).body == digest
    finally:
        for upload_task in uploads:
            upload_task.cancel()
        await asyncio.gather(*uploads, return_exceptions=True)
        for client in process.clients:
            client.abort()
        await asyncio.to_thread(process.child.stop)


@pytest.mark.parametrize("first", [1, 200_000], ids=["little at first", "much at first"])
async def test_a_reader_that_stalls_at_once(
    serve: Serve, upstream: UpstreamMaker, first: int, tmp_path: Path
) -> None:
    """Also when the first write of an answer fills the client's buffer: what comes next is not
    read from the upstream, and nothing is lost.
    """
    total = 3_000_000

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(CHUNKED_HEAD + chunk(b"x" * first))
        await peer.flush()
        for _ in range(total // 100_000):
            peer.send(chunk(b"y" * 100_000))
            await peer.flush()
        peer.send(b"0\r\n\r\n")
        await peer.ended()

    # A unix socket hands over 200 KB at once, more than remora's buffer for a client.
    server = await upstream(script, path=str(tmp_path / "upstream"))
    running = await serve(server, sockets=[small_buffers()])
    client = await running.connect(stalled=True)
    client.ask()
    await until(lambda: running.server.edge.connections)
    (connection,) = running.server.edge.connections
    await until(lambda: connection.sending is not None and connection.sending.blocked)
    for _ in range(20):
        await asyncio.sleep(0.01)
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < first + 400_000
    client.go_on()
    assert (await client.answer()).body == b"x" * first + b"y" * total


class Full:
    """A transport whose buffer is over its mark after the first write."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        self.protocol.pause_writing()

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.protocol.connection_lost(None)


class Told:
    """A Source that keeps what it was told last."""

    last = ""

    def pause(self) -> None:
        self.last = "pause"

    def resume(self) -> None:
        self.last = "resume"

    def abort(self) -> None:
        self.last = "abort"


async def test_an_upstream_that_stalls_at_once() -> None:
    """Also when the first write of a body fills the upstream's buffer the client is held."""
    loop = asyncio.get_running_loop()
    pool = Pool(Endpoint("x"), loop, config.Pool(), config.Timeouts(), config.ResponseLimits())
    connection = UpstreamConnection(pool, loop)
    pool.open = 1
    connection.connection_made(Full(connection))  # type: ignore[arg-type]
    source = Told()
    stream = Stream(source)
    stream.feed(b"x" * 100_000)
    assert source.last == "pause"
    exchange = asyncio.create_task(
        connection.exchange(Request(b"POST", b"/", [], stream), BodyWriter(stream, True))
    )
    await asyncio.sleep(0)
    assert source.last == "pause"
    connection.resume_writing()
    assert source.last == "resume"
    exchange.cancel()
    await asyncio.wait({exchange})
    pool.close()


async def test_a_full_connection_is_not_kept(
    serve: Serve, upstream: UpstreamMaker, tmp_path: Path
) -> None:
    """An upstream that answers before it has read the body may be kept only once that was sent:
    else the next request would queue up behind it.
    """

    async def script(peer: Peer) -> None:
        head = await peer.head()
        peer.hold()
        peer.send(ok(b"%d" % peer.number))
        if head.target == b"/next":
            return
        await asyncio.Event().wait()

    server = await upstream(script, path=str(tmp_path / "upstream"))
    running = await serve(server, chain=["tests.road.layers:Reader"])
    client = await running.connect()
    assert (await client.exchange("POST", "/", body=b"x" * 1_000_000)).body == b"0"
    assert (await client.exchange("GET", "/next")).body == b"1"


async def test_a_stalled_reader_holds_nobody_else(serve: Serve, upstream: UpstreamMaker) -> None:
    """Beside a stalled client another one gets a large answer at once."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(ok(b"x" * 20_000_000))
            await peer.flush()

    running = await serve(await upstream(script))
    stalled = await running.connect()
    stalled.hold()
    stalled.ask()
    (connection,) = running.server.edge.connections
    await until(lambda: connection.sending is not None and connection.sending.blocked)
    other = await running.connect()
    assert len((await other.exchange()).body) == 20_000_000
