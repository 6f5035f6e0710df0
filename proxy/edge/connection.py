"""One client's connection: which bytes are the next request, and when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, cast

from ..apis import by_name, render
from ..errors import BadRequest, ProxyError, RequestTimeout, Unavailable
from ..exchange import Headers, Request, Response, Stream, Tunnel
from ..headers import head_block
from .intake import Intake
from .leaving import has_left
from .parser import Head, RequestReader
from .pump import Pump, whole
from .sending import SendWatch
from .serving import serve

if TYPE_CHECKING:
    from . import Edge

PIPELINED_BYTES = 64 * 1024
"""Of the next requests, read while one is under way; beyond it the socket is not read."""
LINGER = 2.0
"""Seconds that a refused client has to read why, before its connection is torn down."""


def _to_nobody(data: bytes) -> None:
    pass


class ClientConnection(asyncio.Protocol):
    """Reads one request at a time; what a client sends ahead waits in the reader, bounded.

    It is also the client's end of an upgraded connection.
    """

    # fmt: off
    __slots__ = (
        "_closing", "_ended", "_heading", "_intake", "_peer", "_request", "_scheme", "_transport",
        "_tunnel", "edge", "held", "keep", "loop", "pump", "reader", "sending", "since", "task",
        "write",
    )
    # fmt: on

    write: Callable[[bytes], None]

    def __init__(self, edge: Edge, scheme: str) -> None:
        self.edge = edge
        self._scheme = scheme
        self.loop = edge.loop
        self.reader = RequestReader(edge.head_limits, edge.limits.body)
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._request: Request | None = None
        self._intake: Intake | None = None
        self._tunnel: Tunnel | None = None
        self._ended: asyncio.Future[None] | None = None
        self._closing = False
        self._heading = False
        self.task: asyncio.Task[None] | None = None
        """The exchange under way."""
        self.pump: Pump | None = None
        """Writes its answer, where that is a stream."""
        self.sending: SendWatch | None = None
        """None until the client first takes less than comes."""
        self.keep = True
        """Another request may follow the one under way."""
        self.held = False
        """The socket is not read."""
        self.since = 0.0
        """Loop time of the last request's end, or of the next one's first byte."""

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.write = self._transport.write
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self.since = self.loop.time()
        edge = self.edge
        if len(edge.connections) >= edge.limits.connections:
            self._refuse(Unavailable("too many client connections", code="too_many_connections"))
        edge.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.write(data)
            return
        if self._closing:
            return
        reader = self.reader
        reader.feed(data)
        if self._request is None:
            self._next()
            return
        if self._intake is not None:
            self._intake.more()
        if (self._intake is None or reader.done) and reader.buffered > PIPELINED_BYTES:
            self.pause()

    def eof_received(self) -> bool:
        """A client that has sent its last byte has left: like nginx, remora does not tell a
        half-close from a departure, because most clients never half-close and all of them leave.
        """
        if self._request is None and self.reader.buffered and not self._closing:
            self._refuse(BadRequest("the request breaks off"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        # Until the cancelled task runs, more of its answer may come; uvloop raises on such a write,
        # and whoever else is fed by the same call would be lost with it.
        self.write = _to_nobody
        if self.pump is not None:
            self.pump.left()
        self.edge.connections.discard(self)
        if self.sending is not None:
            self.sending.release()
        if self._tunnel is not None:
            self._tunnel.close()
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(None)
            return
        self._end_intake()
        # Where the answer has ended, well or not, its task goes on by itself: nobody left it.
        if self.task is not None and not (self.pump is not None and self.pump.finished.done()):
            self.task.cancel()

    def pause_writing(self) -> None:
        """The client takes less than comes: hold what feeds it, and see that it takes any."""
        self._watch_sending()
        if self.pump is not None:
            self.pump.stream.pause()
        elif self._tunnel is not None:
            self._tunnel.pause()

    def resume_writing(self) -> None:
        if self.sending is not None:
            self.sending.release()
        if self.pump is not None:
            self.pump.stream.resume()
        elif self._tunnel is not None:
            self._tunnel.resume()

    def _watch_sending(self) -> None:
        if self.sending is None:
            assert self._transport is not None
            self.sending = SendWatch(
                self._transport, self.loop, self.edge.limits.send_timeout, self.abort
            )
        self.sending.block()

    # -- requests

    def _next(self) -> None:
        """Starts the next request, if its head is here."""
        reader = self.reader
        head: Head | None = None
        request: Request | None = None
        try:
            head = reader.head()
            if head is None:
                if not self._heading and reader.buffered:
                    self._heading = True
                    self.since = self.loop.time()
                return
            self._heading = False
            request = self._make_request(head)
            piece = reader.body()
        except ProxyError as error:
            self._refuse(error, request)
            return
        if reader.done and not reader.trailers:
            request.body = piece
        else:
            request.body = self._take_in(piece)
            request.has_left = self._has_left
        request.declared = request.body
        self._request = request
        self.task = self.loop.create_task(serve(self, request))

    def _take_in(self, piece: bytes) -> Stream:
        """The body as a Stream: because more of it will come, or because it has trailers."""
        reader = self.reader
        if reader.done:
            stream = Stream()
        else:
            self._intake = Intake(self, reader, self.edge.limits.body_timeout)
            stream = self._intake.stream
        if piece:
            stream.feed(piece)
        if reader.done:
            stream.end(reader.trailers)
        return stream

    def _make_request(self, head: Head) -> Request:
        request = Request(
            head.method,
            head.target,
            head.headers,
            client=self._peer,
            scheme=self._scheme,
            received_at=monotonic(),
        )
        self.keep = head.keep_alive
        request.chunked = head.chunked
        request.http10 = head.http10
        request.upgrade = head.upgrade
        if not head.http10:
            request.interim = self._send_interim
            if head.expect:
                request.want_continue = self._send_continue
        if self.edge.forward is not None:
            self.edge.forward(request, self._peer, self._scheme)
        return request

    def served(self) -> None:
        """The exchange has ended: on to the next, or to the end of the connection."""
        self._request = None
        self.task = None
        self._end_intake()
        if self._transport is None or self._closing:
            return
        if not self.keep or not self.reader.done:
            self._linger()
            return
        self.reader.next(self.edge.limits.body)
        self.since = self.loop.time()
        if self.held:
            self.resume()
        if self.reader.buffered:
            self._next()

    # -- what the body of a request asks of its connection

    def pause(self) -> None:
        self.held = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        self.held = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _has_left(self) -> bool:
        transport = self._transport
        if transport is None or transport.is_closing():
            return True
        return has_left(transport.get_extra_info("socket").fileno())

    def last_answer(self) -> None:
        """What follows in the client's bytes cannot be told: no request is read behind this one."""
        self.keep = False

    def _end_intake(self) -> None:
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.left()

    def _send_continue(self) -> None:
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _send_interim(self, status: int, reason: bytes, headers: Headers) -> None:
        if self._transport is not None and self.pump is None:
            self.write(head_block(b"HTTP/1.1 %d %b" % (status, reason), headers))

    # -- the end of an upgraded connection

    async def run_tunnel(self, tunnel: Tunnel, response: Response) -> None:
        """Writes the 101, then feeds each side with what the other sends, until one ends."""
        self.keep = False
        line = b"HTTP/1.1 %d %b" % (response.status, response.reason)
        self.write(head_block(line, response.headers))
        self._tunnel = tunnel
        tunnel.open(self)
        if rest := self.reader.rest():
            tunnel.write(rest)
        if self.held:
            self.resume()
        self._ended = self.loop.create_future()
        await self._ended

    def close(self) -> None:
        """Lets what was written leave, then closes."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    # -- refusals and ends

    def _refuse(self, error: ProxyError, request: Request | None = None) -> None:
        """Answers what never became an exchange, and ends the connection."""
        stats = self.edge.unrouted
        stats.statuses[error.status] = stats.statuses.get(error.status, 0) + 1
        response = render(error, request.api if request is not None else by_name["plain"])
        asked = request or Request(b"GET", b"*", [])
        self.write(whole(asked, response, close=True))
        self._linger()

    def abort(self) -> None:
        """Ends the connection so that nobody takes what was sent for a whole answer."""
        self.keep = False
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def _linger(self) -> None:
        """Half-closes, so that the answer is read before a reset can overtake it."""
        self._closing = True
        transport = self._transport
        if transport is None:
            return
        if self.reader.done and not self.reader.buffered:
            transport.close()
            return
        if self.held:
            self.resume()
        if transport.can_write_eof():
            transport.write_eof()
            self.loop.call_later(LINGER, transport.close)
        else:
            transport.close()

    def expire(self, now: float) -> None:
        """Called now and then: ends what waits too long for a head, or for the next request, or
        for a client to take the last of what was written.
        """
        if self._closing:
            if self._transport is not None and self._transport.get_write_buffer_size():
                self._watch_sending()
            return
        if self._request is not None:
            return
        limits = self.edge.limits
        waited = now - self.since
        if self.reader.buffered:
            if waited > limits.head_timeout:
                self._refuse(RequestTimeout("the request's head did not come in time"))
        elif waited > limits.idle_timeout:
            self.close()

    def drained(self, idle_for: float, now: float) -> None:
        """Draining: closes if no request came for a while; else the next answer says close."""
        if self._request is None and not self.reader.buffered and now - self.since >= idle_for:
            self.close()
