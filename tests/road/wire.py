"""HTTP as raw bytes: what a test sends and reads, and a client that does both."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

from proxy.exchange import Headers, header

PATIENCE = 5.0
"""Seconds after which a test gives up on what should come at once."""

T = TypeVar("T")


class Gone(Exception):
    """The other end has closed or reset the connection."""


async def soon(awaitable: Awaitable[T], seconds: float = PATIENCE) -> T:
    """Awaits it, for `seconds` at most. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        return await awaitable


async def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Returns once `condition()` holds: for numbers that tell of no event when they change."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


def head(first_line: str, *fields: str) -> bytes:
    """A head, blank line included."""
    return "\r\n".join([first_line, *fields, "\r\n"]).encode("latin-1")


def ok(body: bytes = b"ok", *fields: str, status: str = "200 OK") -> bytes:
    """A whole answer with a Content-Length."""
    return head(f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
CHUNKED_HEAD = head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")
SSE_HEAD = head("HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked")


def small_buffers() -> socket.socket:
    """A listener for remora whose connections have small kernel buffers: what a client does not
    take soon stays in remora.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    sock.setblocking(False)
    return sock


class Message:
    """A head that came, and its body once it was read."""

    def __init__(self, lines: list[bytes]) -> None:
        self.first_line = lines[0]
        self.headers: Headers = []
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            self.headers.append((name, value.strip()))
        self.body = b""
        self.trailers: Headers = []

    def __getitem__(self, name: str) -> str | None:
        """First value of a field, or None."""
        value = header(self.headers, name.lower().encode())
        return None if value is None else value.decode("latin-1")

    @property
    def names(self) -> list[str]:
        return [name.decode().lower() for name, _ in self.headers]

    @property
    def status(self) -> int:
        return int(self.first_line.split(b" ")[1])

    @property
    def target(self) -> bytes:
        return self.first_line.split(b" ")[1]

    @property
    def chunked(self) -> bool:
        return self["transfer-encoding"] == "chunked"


class End:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.trailers: Headers = []

    def hold(self) -> None:
        """Reads nothing more from the socket."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def go_on(self) -> None:
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def flush(self) -> None:
        """Until most of what was sent has left. Raises Gone."""
        with _gone():
            await self.writer.drain()

    async def some(self) -> bytes:
        """What comes next, as it comes; b"" at the end. Raises Gone."""
        with _gone():
            return await soon(self.reader.read(1 << 20))

    async def exactly(self, size: int, seconds: float = PATIENCE) -> bytes:
        with _gone():
            return await soon(self.reader.readexactly(size), seconds)

    async def line(self) -> bytes:
        with _gone():
            return (await soon(self.reader.readuntil(b"\r\n")))[:-2]

    async def head(self) -> Message:
        """The next head. Raises Gone."""
        with _gone():
            raw = await soon(self.reader.readuntil(b"\r\n\r\n"))
        return Message(raw[:-4].split(b"\r\n"))

    async def chunk(self) -> bytes:
        """The next chunk's data, or b"" at the last one, with `trailers` set. Raises Gone."""
        size = int(await self.line(), 16)
        if size:
            return (await self.exactly(size + 2))[:-2]
        self.trailers = []
        while line := await self.line():
            name, _, value = line.partition(b":")
            self.trailers.append((name, value.strip()))
        return b""

    async def chunks(self) -> bytes:
        pieces = []
        while piece := await self.chunk():
            pieces.append(piece)
        return b"".join(pieces)

    async def rest(self) -> bytes:
        """Everything until the other end closes. Raises Gone when it resets instead."""
        with _gone():
            return await soon(self.reader.read(-1))

    async def ended(self, seconds: float = PATIENCE) -> bytes:
        """Until the connection is closed or reset; what came before."""
        pieces = []
        with contextlib.suppress(Gone), _gone():
            while piece := await soon(self.reader.read(1 << 20), seconds):
                pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        """Resets the connection, where its kind knows a reset; else closes it."""
        transport = self.writer.transport
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX and not transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class Client(End):
    """A client that writes what it is told, and reads answers one by one."""

    @classmethod
    async def stalled(cls, address: tuple[str, int], buffer: int = 4096) -> Self:
        """A client that reads nothing until its transport is told to, its own buffer small."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setblocking(False)
        await soon(asyncio.get_running_loop().sock_connect(sock, address))
        client = cls(*await asyncio.open_connection(sock=sock, limit=1 << 14))
        client.hold()
        return client

    @classmethod
    async def connect(
        cls, address: tuple[str, int] | str, context: ssl.SSLContext | None = None
    ) -> Self:
        """address: host and port, or the path of a unix socket."""
        name = "localhost" if context else None
        if isinstance(address, str):
            opened = asyncio.open_unix_connection(address, ssl=context, server_hostname=name)
        else:
            opened = asyncio.open_connection(*address, ssl=context, server_hostname=name)
        return cls(*await soon(opened))

    def ask(
        self,
        method: str = "GET",
        target: str = "/",
        *fields: str,
        body: bytes | None = None,
        version: str = "1.1",
    ) -> None:
        """Sends a request, its body with a Content-Length."""
        lines = [f"{method} {target} HTTP/{version}", "Host: remora.test", *fields]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send(head(*lines) + (body or b""))

    async def answer(self, method: str = "GET") -> Message:
        """The next answer that is none of 1xx, with its body (RFC 9112 section 6.3)."""
        message = await self.head()
        while message.status < 200:
            message = await self.head()
        if method == "HEAD" or message.status in (204, 304):
            return message
        if message.chunked:
            message.body = await self.chunks()
            message.trailers = self.trailers
        elif (length := message["content-length"]) is not None:
            message.body = await self.exactly(int(length))
        else:
            message.body = await self.rest()
        return message

    async def exchange(self, method: str = "GET", target: str = "/", *fields: str,
                       body: bytes | None = None, version: str = "1.1") -> Message:  # fmt: skip
        """A request and its answer."""
        self.ask(method, target, *fields, body=body, version=version)
        return await self.answer(method)


@contextlib.contextmanager
def _gone():  # type: ignore[no-untyped-def]
    try:
        yield
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Gone(repr(error)) from error
