"""Upstreams that write down what remora sends, on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import uvloop

from .case import Seen
from .wire import PATIENCE, Malformed, parse_fields, unchunk

T = TypeVar("T")

_REQUEST_LINE = re.compile(rb"([!-~]+ [^\x00-\x20\x7f]+) HTTP/1\.1")
_FRAMING = (b"content-length", b"transfer-encoding", b"connection", b"expect")


class Backstage:
    """An event loop in a thread: upstreams run there, tests stay plain and blocking."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="backstage")
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 30) -> T:
        """Runs `work` there and gives back what it gives."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@dataclass(frozen=True)
class Received:
    """A whole request as the upstream read it. connection: the number of the one it came on."""

    seen: Seen
    method: bytes
    target: bytes
    connection: int


def take_request(buffer: bytes, connection: int) -> tuple[Received, bytes] | None:
    """The first request of `buffer` and the rest, or None until it is whole.

    What remora writes is always clean, so anything odd raises Malformed.
    """
    head, mark, rest = buffer.partition(b"\r\n\r\n")
    if not mark:
        return None
    first, *lines = head.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise Malformed(f"remora sent a request line {first[:200]!r}")
    fields = parse_fields(lines)
    named: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        named.setdefault(name.lower(), []).append(value)
    lengths, codings = named.get(b"content-length", []), named.get(b"transfer-encoding", [])
    if len(lengths) + len(codings) > 1 or len(named.get(b"host", [])) != 1:
        raise Malformed(f"remora sent an ambiguous head: {head[:400]!r}")
    body, trailers = b"", []
    if codings:
        if codings != [b"chunked"]:
            raise Malformed(f"remora sent Transfer-Encoding {codings!r}")
        body, trailers, rest, whole = unchunk(rest)
        if not whole:
            return None
    elif lengths:
        if not re.fullmatch(rb"0|[1-9]\d*", lengths[0]):
            raise Malformed(f"remora sent Content-Length {lengths!r}")
        size = int(lengths[0])
        if len(rest) < size:
            return None
        body, rest = rest[:size], rest[size:]
    method, _, target = match[1].partition(b" ")
    kept = tuple(line for line, (name, _) in zip(lines, fields, strict=True)
                 if name.lower() not in _FRAMING)  # fmt: skip
    seen = Seen(match[1], kept, body, tuple(name + b": " + value for name, value in trailers))
    return Received(seen, method, target, connection), rest


@dataclass(frozen=True)
class Reply:
    """Bytes to write for a request. close: behind them. dribble: byte by byte."""

    raw: bytes
    close: bool = False
    dribble: bool = False


Script = Callable[[Received], Reply]


def echo(request: Received) -> Reply:
    """200 with the target as the body: tells which request an answer belongs to."""
    target = request.target
    body = b"" if request.method == b"HEAD" else target
    return Reply(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(target), body))


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.number = len(upstream.connections)
        self.closed = asyncio.Event()
        self.unread = b""
        self.continued = False
        self.forgiven = False
        upstream.connections.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self.unread += data
        try:
            while taken := take_request(self.unread, self.number):
                request, self.unread = taken
                self.continued = False
                self.upstream.requests.append(request)
                self._reply(self.upstream.script(request))
        except Malformed as error:
            self.upstream.violations.append(str(error))
            self.transport.close()
            return
        head, whole, _ = self.unread.lower().partition(b"\r\n\r\n")
        if whole and b"\r\nexpect: 100-continue" in head and not self.continued:
            self.continued = True
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _reply(self, reply: Reply, at: int = 0) -> None:
        """One byte a turn of the loop, so that most are read alone."""
        if reply.dribble and at < len(reply.raw):
            self.transport.write(reply.raw[at : at + 1])
            self.upstream.backstage.loop.call_soon(self._reply, reply, at + 1)
            return
        if not reply.dribble:
            self.transport.write(reply.raw)
        if reply.close:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()


class Upstream:
    """A server on a port of its own. requests: whole ones, in order of arrival."""

    def __init__(self, backstage: Backstage, script: Script = echo) -> None:
        self.backstage = backstage
        self.script = script
        self.requests: list[Received] = []
        self.connections: list[_Connection] = []
        self.violations: list[str] = []
        self._server = backstage.run(self._start())
        self.authority = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _start(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)

    def forget(self) -> None:
        """Starts a new page: what came until now is no longer counted."""
        self.backstage.run(self._forget())

    async def _forget(self) -> None:
        self.requests.clear()
        self.violations.clear()
        for connection in self.connections:
            connection.forgiven = connection.closed.is_set()

    def partial(self) -> list[bytes]:
        """What came since of requests that never became whole."""
        return [c.unread for c in self.connections if c.unread and not c.forgiven]

    def wait_dropped(self) -> None:
        """Returns when remora has closed each connection that holds a piece of a request."""
        self.backstage.run(self._wait_dropped())

    async def _wait_dropped(self) -> None:
        for connection in self.connections:
            if connection.unread:
                await asyncio.wait_for(connection.closed.wait(), PATIENCE)

    def wait_closed(self, number: int) -> None:
        """Returns when connection `number` is closed."""
        self.backstage.run(asyncio.wait_for(self.connections[number].closed.wait(), PATIENCE))

    def close(self) -> None:
        self.backstage.run(self._close())

    async def _close(self) -> None:
        self._server.close()
        for connection in self.connections:
            if not connection.closed.is_set():
                connection.transport.abort()
                await connection.closed.wait()
