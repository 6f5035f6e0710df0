"""One keep-alive connection to an endpoint: one exchange at a time."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, cast

from ..deadline import IdleTimer
from ..errors import UpstreamClosed, UpstreamError, UpstreamTimeout
from ..exchange import Request, Response, Stream, TunnelEnd
from ..headers import head_block, with_length, without_length
from ..stream import HIGH_WATER
from .answer import AnswerReader
from .body import BodyWriter
from .head import CHUNKED, FIXED
from .stale import StaleConnection, unseen

if TYPE_CHECKING:
    from .pool import Pool


class UpstreamConnection(asyncio.Protocol):
    """Also the Source of its answer's Stream, and the Tunnel of an upgraded exchange."""

    # fmt: off
    __slots__ = (
        "_answer", "_full", "_idle_timer", "_loop", "_paused", "_pool", "_received", "_request",
        "_sent", "_total_timer", "_transport", "_tunnel", "_tunnel_data", "_unseen", "_waiter",
        "_writer", "born", "counted", "idle_since", "used",
    )
    # fmt: on

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._answer = AnswerReader(pool.limits, pool.who)
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self._waiter: asyncio.Future[Response] | None = None
        self._writer: BodyWriter | None = None
        self._idle_timer: IdleTimer | None = None
        self._total_timer: asyncio.TimerHandle | None = None
        self._tunnel: TunnelEnd | None = None
        self._tunnel_data: bytes | None = None
        self._full = self._paused = self._received = self._sent = self._unseen = False
        self.counted = True
        """The pool has a slot for it, and is told of its end."""
        self.used = False
        """It has carried an exchange to its end."""
        self.born = loop.time()
        self.idle_since = self.born

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def error(self, kind: type[UpstreamError], how: str) -> UpstreamError:
        """An error that says so of the server."""
        return kind(f"{self._pool.who} {how}", detail=self._pool.endpoint.name)

    # -- one exchange

    async def exchange(self, request: Request, writer: BodyWriter | None) -> Response:
        """Sends `request`, awaits the head of its answer. Raises UpstreamError.

        The answer's body is bytes when all of it came with the head, else a Stream. A caller
        that is cancelled here closes the connection, and the endpoint stops working for nobody.
        """
        if not self.usable:
            kind = StaleConnection if self.used else UpstreamClosed
            error = self.error(kind, "closed the connection before the request was sent")
            error.sent = False
            raise error
        self._answer.expect(request)
        self._received = self._sent = False
        self._request = request
        waiter: asyncio.Future[Response] = self._loop.create_future()
        self._waiter = waiter
        timeouts = self._pool.timeouts
        self._pool.first_byte.set(self)
        if timeouts.total is not None:
            self._total_timer = self._loop.call_later(timeouts.total, self._over_total)
        try:
            self._send(request, writer)
            return await waiter
        except BaseException:
            # Where the answer was whole when its caller was cancelled, another exchange may have
            # the connection by now.
            if self._waiter is waiter:
                self.abort()
            raise

    def _send(self, request: Request, writer: BodyWriter | None) -> None:
        assert self._transport is not None
        body = request.body
        headers = request.headers
        if request.http10 and request.header(b"host") is None:
            headers = [(b"Host", self._pool.endpoint.authority), *headers]
        if request.upgrade is not None:
            headers = [*headers, (b"Connection", b"Upgrade"), (b"Upgrade", request.upgrade)]
        if request.chunked or (writer is not None and writer.chunked):
            headers = [*without_length(headers), (b"Transfer-Encoding", b"chunked")]
        elif body is not request.declared and isinstance(body, bytes):
            headers = with_length(headers, len(body))
        head = head_block(b"%b %b HTTP/1.1" % (request.method, request.target), headers)
        self._writer = writer
        if writer is not None:
            self._transport.write(head)
            writer.attach(self)
            if self._full:
                writer.stream.pause()
            return
        assert isinstance(body, bytes)
        if request.chunked:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        self._transport.write(head + body if body else head)
        self._sent = True

    def write_body(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
            if not self._received:
                self._pool.first_byte.set(self)

    def body_sent(self, data: bytes) -> None:
        """The request's body has ended; `data` is the framing that says so."""
        self._sent = True
        if data:
            self.write_body(data)

    def request_failed(self, error: Exception) -> None:
        """The client's body broke off or was refused: the exchange ends here, unfinished."""
        self._sent = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        elif self._answer.stream is not None:
            self._answer.stream.fail(error)
        self.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._request is None:
            self._unexpected(data)
            return
        self._received = True
        if self._idle_timer is not None:
            self._idle_timer.moved = True
        answer = self._answer
        try:
            rest = answer.feed(data)
        except UpstreamError as error:
            error.detail = self._pool.endpoint.name
            self._fail(error)
            return
        if answer.response is None:
            return
        if rest is not None:
            self._upgraded(answer.response, rest)
            return
        if answer.stream is None:
            self._head_came(answer.response)
        elif answer.complete:
            answer.stream.end(answer.response.trailers)
        if answer.complete:
            self._finish()

    def _unexpected(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.write(data)
        elif self._tunnel_data is not None:
            self._tunnel_data += data
        else:
            self._drop()  # nobody asked: a 408 before closing, or a server gone wrong

    def _head_came(self, response: Response) -> None:
        answer, pool = self._answer, self._pool
        pool.first_byte.clear(self)
        if self._writer is not None:
            self._writer.forget()
        chunks = answer.chunks
        if answer.complete:
            response.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        else:
            answer.stream = response.body = stream = Stream(self)
            for chunk in chunks:
                stream.feed(chunk)
            request = cast(Request, self._request)
            request.on_end(lambda outcome: self._exchange_ended(request))
            if pool.timeouts.idle is not None:
                self._idle_timer = IdleTimer(self._loop, pool.timeouts.idle, self._idle_too_long)
        if answer.ending == FIXED:
            response.declared = response.body
        elif answer.ending == CHUNKED:
            response.chunked = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(response)

    def _finish(self) -> None:
        """The answer is whole: back to the pool, or closed where it cannot be used again."""
        self._stop_timers()
        self._request = None
        self._waiter = None
        writer, self._writer = self._writer, None
        keep = self._answer.keep and self._sent and not self._full
        if writer is not None:
            if not self._sent:
                writer.stream.abort()  # answered early: the rest of the request has no reader
            # A server that does not know trailers (Triton 2.51) takes them for the next request.
            keep = keep and not writer.trailers
        if keep and self.usable:
            self.used = True
            if self._paused:
                self.resume()
            self._pool.release(self)
        else:
            self._drop()

    def eof_received(self) -> bool:
        if self._request is not None and not self._received:
            self._unseen = unseen(cast(asyncio.Transport, self._transport))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._request is not None:
            self._read_rest()
        self._transport = None
        if self.counted:
            self._pool.lost(self)
        if self._tunnel is not None:
            self._tunnel.close()
            return
        if self._request is None:
            return
        answer = self._answer
        if answer.response is None:
            stale = self.used and not self._received
            kind = StaleConnection if stale else UpstreamClosed
            error = self.error(kind, "closed the connection without an answer")
            if stale:
                # Who closes with bytes unread resets (RFC 9293 section 3.6.1).
                error.sent = not (self._unseen or isinstance(exc, ConnectionError))
            self._fail(error)
        elif answer.closed(cleanly=exc is None) and answer.stream is not None:
            answer.stream.end()
            self._finish()
        else:
            self._fail(self.error(UpstreamClosed, "closed the connection amid its answer"))

    def _read_rest(self) -> None:
        """A write that fails ends the connection before what had come was read: the answer of a
        server that turns a long body away and closes. Not through TLS.

        The transport closes its socket only behind `connection_lost`.
        """
        pool = self._pool
        if pool.endpoint.tls is not None:
            return
        fd = cast(asyncio.Transport, self._transport).get_extra_info("socket").fileno()
        while self._request is not None:
            try:
                data = os.read(fd, HIGH_WATER)
            except OSError:
                return
            if not data:
                return
            self.data_received(data)

    def pause_writing(self) -> None:
        self._full = True
        if self._tunnel is not None:
            self._tunnel.pause()
        elif self._writer is not None:
            self._writer.stream.pause()

    def resume_writing(self) -> None:
        self._full = False
        if self._tunnel is not None:
            self._tunnel.resume()
        elif self._writer is not None:
            self._writer.stream.resume()

    # -- failures and ends

    def _fail(self, error: UpstreamError) -> None:
        self._stop_timers()
        waiter, stream, writer = self._waiter, self._answer.stream, self._writer
        self._request = self._waiter = self._writer = None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        elif stream is not None:
            stream.fail(error)
        if writer is not None and not self._sent:
            if isinstance(error, StaleConnection):
                writer.stream.pause()  # until another connection takes over
            else:
                writer.stream.abort()
        self._drop()

    def first_byte_late(self) -> None:
        if not self._sent and self._writer is not None and not self._writer.stream.held:
            self._pool.first_byte.set(self)  # it is the client that has not sent all
            return
        self._fail(self.error(UpstreamTimeout, "sent no answer in time"))

    def _idle_too_long(self) -> None:
        self._idle_timer = None
        if self._paused:  # the client is the slow one
            timeout = cast(float, self._pool.timeouts.idle)
            self._idle_timer = IdleTimer(self._loop, timeout, self._idle_too_long)
        else:
            self._fail(self.error(UpstreamTimeout, "fell silent amid its answer"))

    def _over_total(self) -> None:
        self._total_timer = None
        self._fail(self.error(UpstreamTimeout, "took longer than it may in all"))

    def _stop_timers(self) -> None:
        self._pool.first_byte.clear(self)
        if self._idle_timer is not None:
            self._idle_timer.stop()
            self._idle_timer = None
        if self._total_timer is not None:
            self._total_timer.cancel()
            self._total_timer = None

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- Source, and Tunnel

    def pause(self) -> None:
        self._paused = True
        if self.usable:
            cast(asyncio.Transport, self._transport).pause_reading()

    def resume(self) -> None:
        self._paused = False
        if self._idle_timer is not None:
            self._idle_timer.moved = True
        if self.usable:
            cast(asyncio.Transport, self._transport).resume_reading()

    def abort(self) -> None:
        self._stop_timers()
        self._request = self._waiter = self._writer = None
        self._drop()

    def _exchange_ended(self, request: Request) -> None:
        """A layer that failed, or that was cancelled, may have left the answer without a reader."""
        if self._request is request:
            self.abort()

    def _upgraded(self, response: Response, first: bytes) -> None:
        self._stop_timers()
        self._request = None
        self._tunnel_data = first
        response.tunnel = self
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(response)

    def open(self, client: TunnelEnd) -> None:
        first, self._tunnel_data = self._tunnel_data, None
        self._tunnel = client
        if first:
            client.write(first)
        if self._transport is None:
            client.close()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Lets what was written leave, then closes."""
        if self._transport is not None:
            self._transport.close()
