"""One client's connection: bytes in, requests through the router, answers out, in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, cast

from ..apis import by_name, render
from ..errors import (
    BadRequest,
    BodyTooLarge,
    ClientGone,
    InternalError,
    ProxyError,
    RequestTimeout,
    Unavailable,
)
from ..exchange import Headers, Request, Response, Stream, Tunnel
from ..headers import head_block
from .intake import Intake
from .leaving import has_left
from .parser import Head, RequestReader
from .pump import UNTIL_CLOSE, Pump, filter_whole, framing, whole
from .sending import SendWatch

if TYPE_CHECKING:
    from . import Edge

log = logging.getLogger("remora")

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
        "_closing", "_edge", "_ended", "_heading", "_intake", "_keep", "_peer", "_pump", "_reader",
        "_request", "_scheme", "_sending", "_transport", "_tunnel", "held", "loop", "since",
        "task", "write",
    )
    # fmt: on

    write: Callable[[bytes], None]

    def __init__(self, edge: Edge, scheme: str) -> None:
        self._edge = edge
        self._scheme = scheme
        self.loop = edge.loop
        self._reader = RequestReader(edge.head_limits, edge.limits.body)
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._request: Request | None = None
        self.task: asyncio.Task[None] | None = None
        self._intake: Intake | None = None
        self._pump: Pump | None = None
        self._tunnel: Tunnel | None = None
        self._ended: asyncio.Future[None] | None = None
        self._sending: SendWatch | None = None
        self._keep = True
        self._closing = False
        self._heading = False
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
        edge = self._edge
        if len(edge.connections) >= edge.limits.connections:
            self._refuse(Unavailable("too many client connections", code="too_many_connections"))
        edge.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.write(data)
            return
        if self._closing:
            return
        reader = self._reader
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
        if self._request is None and self._reader.buffered and not self._closing:
            self._refuse(BadRequest("the request breaks off"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        # Until the cancelled task runs, more of its answer may come; uvloop raises on such a write,
        # and whoever else is fed by the same call would be lost with it.
        self.write = _to_nobody
        if self._pump is not None:
            self._pump.left()
        self._edge.connections.discard(self)
        if self._sending is not None:
            self._sending.release()
        if self._tunnel is not None:
            self._tunnel.close()
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(None)
            return
        self._end_intake()
        # Where the answer has ended, well or not, its task goes on by itself: nobody left it.
        if self.task is not None and not (self._pump is not None and self._pump.finished.done()):
            self.task.cancel()

    def pause_writing(self) -> None:
        """The client takes less than comes: hold what feeds it, and see that it takes any."""
        if self._sending is None:
            assert self._transport is not None
            self._sending = SendWatch(
                self._transport, self.loop, self._edge.limits.send_timeout, self.abort
            )
        self._sending.block()
        if self._pump is not None:
            self._pump.stream.pause()
        elif self._tunnel is not None:
            self._tunnel.pause()

    def resume_writing(self) -> None:
        if self._sending is not None:
            self._sending.release()
        if self._pump is not None:
            self._pump.stream.resume()
        elif self._tunnel is not None:
            self._tunnel.resume()

    # -- requests

    def _next(self) -> None:
        """Starts the next request, if its head is here."""
        reader = self._reader
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
        self.task = self.loop.create_task(self._serve(request))

    def _take_in(self, piece: bytes) -> Stream:
        """The body as a Stream: because more of it will come, or because it has trailers."""
        reader = self._reader
        if reader.done:
            stream = Stream()
        else:
            self._intake = Intake(self, reader, self._edge.limits.body_timeout)
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
        self._keep = head.keep_alive
        request.chunked = head.chunked
        request.http10 = head.http10
        request.upgrade = head.upgrade
        if not head.http10:
            request.interim = self._send_interim
            if head.expect:
                request.want_continue = self._send_continue
        if self._edge.forward is not None:
            self._edge.forward(request, self._peer, self._scheme)
        return request

    async def _serve(self, request: Request) -> None:
        """One exchange, from route to last byte."""
        edge = self._edge
        stats = edge.unrouted
        outcome = request.outcome
        counted = False
        try:
            try:
                route = edge.router.find(request)
                stats = route.stats
                stats.in_flight += 1
                counted = True
                request.label = route.name
                request.route_api = route.api
                if route.max_body is not None:
                    self._bound_body(request, route.max_body)
                response = await route.handler(request)
                if response.filters and isinstance(response.body, bytes):
                    filter_whole(request, response)
            except ProxyError as error:
                response = self._answer_error(request, error)
            except ClientGone:
                outcome.cancelled = True
                return
            except Exception:
                log.exception("route %s failed", request.label)
                response = self._answer_error(
                    request, InternalError("remora failed; its log says why")
                )
            await self._answer(request, response)
        except asyncio.CancelledError:
            outcome.cancelled = True
            if self._transport is not None:  # stopped by us, not left by the client
                self._transport.abort()
        except Exception:  # a layer's answer that cannot be written, a str among its headers
            log.exception("route %s failed amid its answer", request.label)
            outcome.error = InternalError("the answer could not be written")
            self.abort()
        finally:
            if not counted:
                stats.in_flight += 1
            now = monotonic()
            outcome.last_byte = now if outcome.first_byte is not None else None
            request.finish()
            stats.ended(outcome, request.received_at, now)
            self._served()

    async def _answer(self, request: Request, response: Response) -> None:
        outcome = request.outcome
        outcome.status = response.status
        outcome.first_byte = monotonic()
        if response.tunnel is not None:
            await self._run_tunnel(request, response)
            return
        if not self._reader.done:
            # What is still to come of the request may never come: the next head is not in sight.
            self._keep = self._keep and not isinstance(response.body, bytes)
        close = not self._keep or self._edge.draining or framing(request, response) == UNTIL_CLOSE
        self._keep = not close
        if isinstance(response.body, bytes):
            self.write(whole(request, response, close))
        else:
            self._pump = pump = Pump(self, request, response, response.body)
            try:
                pump.start(close)
                if self._sending is not None and self._sending.blocked:
                    response.body.pause()
                await pump.finished
            except BaseException:
                response.body.abort()
                raise
            finally:
                self._pump = None
                outcome.bytes_sent = pump.sent
        if self._sending is not None:
            # A client that pipelines and never reads would have its answers pile up here.
            await self._sending.wait()

    def _answer_error(self, request: Request, error: ProxyError) -> Response:
        request.outcome.error = error
        if error.close:
            self._keep = False
        return render(error, request.errors or request.api)

    def _bound_body(self, request: Request, max_body: int) -> None:
        self._reader.max_body = max_body
        declared = request.header(b"content-length")
        if (self._reader.in_chunks if declared is None else int(declared)) > max_body:
            raise BodyTooLarge(f"the body is over {max_body} bytes")

    def _served(self) -> None:
        """The exchange has ended: on to the next, or to the end of the connection."""
        self._request = None
        self.task = None
        self._end_intake()
        if self._transport is None or self._closing:
            return
        if not self._keep or not self._reader.done:
            self._linger()
            return
        self._reader.next(self._edge.limits.body)
        self.since = self.loop.time()
        if self.held:
            self.resume()
        if self._reader.buffered:
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
        self._keep = False

    def _end_intake(self) -> None:
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.left()

    def _send_continue(self) -> None:
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _send_interim(self, status: int, reason: bytes, headers: Headers) -> None:
        if self._transport is not None and self._pump is None:
            self.write(head_block(b"HTTP/1.1 %d %b" % (status, reason), headers))

    # -- the end of an upgraded connection

    async def _run_tunnel(self, request: Request, response: Response) -> None:
        tunnel = response.tunnel
        assert tunnel is not None
        self._keep = False
        line = b"HTTP/1.1 %d %b" % (response.status, response.reason)
        self.write(head_block(line, response.headers))
        self._tunnel = tunnel
        tunnel.open(self)
        if rest := self._reader.rest():
            tunnel.write(rest)
        if self.held:
            self.resume()
        self._ended = self.loop.create_future()
        await self._ended

    def close(self) -> None:
        """Lets what was written leave, then closes."""
        if self._transport is not None:
            self._transport.close()

    # -- refusals and ends

    def _refuse(self, error: ProxyError, request: Request | None = None) -> None:
        """Answers what never became an exchange, and ends the connection."""
        stats = self._edge.unrouted
        stats.statuses[error.status] = stats.statuses.get(error.status, 0) + 1
        response = render(error, request.api if request is not None else by_name["plain"])
        asked = request or Request(b"GET", b"*", [])
        self.write(whole(asked, response, close=True))
        self._linger()

    def abort(self) -> None:
        """Ends the connection so that nobody takes what was sent for a whole answer."""
        self._keep = False
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def _linger(self) -> None:
        """Half-closes, so that the answer is read before a reset can overtake it."""
        self._closing = True
        transport = self._transport
        if transport is None:
            return
        if self._reader.done and not self._reader.buffered:
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
        """Called now and then: ends what waits too long for a head, or for the next request."""
        if self._request is not None or self._closing:
            return
        limits = self._edge.limits
        waited = now - self.since
        if self._reader.buffered:
            if waited > limits.head_timeout:
                self._refuse(RequestTimeout("the request's head did not come in time"))
        elif waited > limits.idle_timeout:
            self._closing = True
            self.close()

    def drained(self, idle_for: float, now: float) -> None:
        """Draining: closes if no request came for a while; else the next answer says close."""
        if self._request is None and not self._reader.buffered and now - self.since >= idle_for:
            self._closing = True
            self.close()
