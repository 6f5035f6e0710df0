"""A slow side costs bounded memory, however fast the other one is."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.demo.child import Child, free_port
from tests.conftest import Serve, UpstreamMaker
from tests.road.firehose import BLOCK, pattern
from tests.road.wire import CHUNKED_HEAD, Client, Peer, chunk, head, ok, soon, until

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

    async def stalled(self) -> Client:
        """A client that has asked and reads nothing; its own buffer is small."""
        client = await self.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.ask()
        return client

    async def connect(self) -> Client:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.address)
        client = Client(*await asyncio.open_connection(sock=sock, limit=1 << 18))
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
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
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
        await (await process.connect()).exchange("GET", "/ready")
        before = resident(process.child.pid)
        clients = [await process.stalled() for _ in range(CLIENTS)]
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
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go_on.wait()
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await peer.head()
        got = hashlib.blake2b()
        for _ in range(blocks):
            got.update(await peer.exactly(len(BLOCK)))
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
            assert (await soon(client.answer(), 15)).body == digest
    finally:
        for upload_task in uploads:
            upload_task.cancel()
        await asyncio.gather(*uploads, return_exceptions=True)
        for client in process.clients:
            client.abort()
        await asyncio.to_thread(process.child.stop)


@pytest.mark.parametrize("first", [1, 300_000], ids=["little at first", "much at first"])
async def test_a_reader_that_stalls_at_once(
    serve: Serve, upstream: UpstreamMaker, first: int
) -> None:
    """Also when the first write of an answer fills the client's buffer: what comes next is not
    read from the upstream, and nothing is lost.
    """
    total = 3_000_000
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(CHUNKED_HEAD + chunk(b"x" * first))
        await peer.flush()
        for _ in range(total // 100_000):
            peer.send(chunk(b"y" * 100_000))
            await peer.flush()
        peer.send(b"0\r\n\r\n")
        await peer.ended()

    running = await serve(await upstream(script), sockets=[listener])
    client = await running.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.ask()
    (connection,) = running.server.edge.connections
    await until(lambda: connection._sending is not None and connection._sending.blocked)
    for _ in range(20):
        await asyncio.sleep(0.01)
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < first + 600_000
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert (await client.answer()).body == b"x" * first + b"y" * total


async def test_a_stalled_reader_holds_nobody_else(serve: Serve, upstream: UpstreamMaker) -> None:
    """Beside a stalled client another one gets a large answer at once."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(ok(b"x" * 20_000_000))
            await peer.flush()

    running = await serve(await upstream(script))
    stalled = await running.connect()
    stalled.writer.transport.pause_reading()  # type: ignore[attr-defined]
    stalled.ask()
    (connection,) = running.server.edge.connections
    await until(lambda: connection._sending is not None and connection._sending.blocked)
    other = await running.connect()
    assert len((await other.exchange()).body) == 20_000_000
