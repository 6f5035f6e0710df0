"""Both ends of the road, played by a test: a client, and a model server that says what it is told.

Everything runs in the test's own loop and waits for what it needs; nothing sleeps.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from proxy.loader import load_text
from proxy.server import Server

PATIENCE = 10.0
"""Seconds until a wait is given up; none is meant to come near it."""

SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str) -> bytes:
    return b"data: %b\n\n" % text.encode()


class Wire:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def until(self, end: bytes) -> bytes:
        """Everything up to and with `end`."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readuntil(end)

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readexactly(size)

    async def rest(self) -> bytes:
        """Everything until the other end closes; a reset counts as a close."""
        data = b""
        try:
            async with asyncio.timeout(PATIENCE):
                while piece := await self._reader.read(65536):
                    data += piece
        except ConnectionError:
            pass
        return data

    async def read_chunk(self) -> bytes:
        size = int(await self.until(b"\r\n"), 16)
        return (await self.exactly(size + 2))[:-2]

    async def read_body(self, head: bytes) -> bytes:
        """The body that `head` frames."""
        low = head.lower()
        if b"transfer-encoding: chunked" in low:
            body = b""
            while piece := await self.read_chunk():
                body += piece
            return body
        if b"content-length:" in low:
            return await self.exactly(int(low.partition(b"content-length:")[2].split()[0]))
        return b""

    async def read_answer(self) -> tuple[bytes, bytes]:
        """(head, body) of one whole answer."""
        head = await self.until(b"\r\n\r\n")
        return head, await self.read_body(head)

    def abort(self) -> None:
        """Closes with a reset."""
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            pass


class Asked(Wire):
    """One request, as the server got it; what is sent is its answer's raw bytes."""

    head: bytes
    body: bytes
    gone: asyncio.Event

    async def closed(self) -> None:
        """Until remora has closed the connection that this request came on."""
        async with asyncio.timeout(PATIENCE):
            await self.gone.wait()

    @property
    def start(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    def header(self, name: bytes) -> bytes | None:
        """The value of the only field `name` (lower case), or None."""
        lines = (line.partition(b":") for line in self.head.split(b"\r\n")[1:])
        values = [value.strip() for key, _, value in lines if key.lower() == name]
        assert len(values) <= 1, f"{name!r} came {len(values)} times"
        return values[0] if values else None

    async def answer(self, body: bytes, *fields: bytes, status: bytes = b"200 OK") -> None:
        """A whole answer, its length declared."""
        lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *fields, b"", body]
        await self.send(b"\r\n".join(lines))


class ModelServer:
    """`asked()` gives the requests, in the order they came, when their head and body are here."""

    def __init__(self) -> None:
        self.count = 0
        self.url = ""
        self._asked: asyncio.Queue[Asked] = asyncio.Queue()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def asked(self) -> Asked:
        async with asyncio.timeout(PATIENCE):
            return await self._asked.get()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        gone = asyncio.Event()
        try:
            while True:
                asked = Asked(reader, writer)
                asked.gone = gone
                asked.head = await reader.readuntil(b"\r\n\r\n")
                asked.body = await asked.read_body(asked.head)
                self.count += 1
                self._asked.put_nowait(asked)
        except (asyncio.IncompleteReadError, ConnectionError):
            gone.set()
        finally:
            writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[ModelServer]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            server.close()
            for writer in self._connections.values():
                writer.transport.abort()
            await asyncio.gather(*self._connections)


@asynccontextmanager
async def remora(
    upstream: str, chain: Sequence[str | Mapping[str, Any]], **keys: Any
) -> AsyncIterator[Server]:
    """Remora with one route. keys: others of the file's top level."""
    file = {
        "listen": "127.0.0.1:0",
        "admin": "off",
        "upstreams": {"default": {"endpoints": [upstream]}},
        "drain": {"quiet": "0s", "timeout": "5s"},
        "chain": list(chain),
        **keys,
    }
    server = Server(load_text(json.dumps(file), "contract.yaml", {}))
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def client(server: Server) -> AsyncIterator[Wire]:
    host, _, port = server.addresses[0].rpartition(":")
    wire = Wire(*await asyncio.open_connection(host, int(port)))
    try:
        yield wire
    finally:
        await wire.close()


def post(target: str, body: bytes = b"{}", *fields: bytes) -> bytes:
    lines = [
        b"POST %b HTTP/1.1" % target.encode(),
        b"Host: model",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        *fields,
    ]
    return b"\r\n".join([*lines, b"", body])
