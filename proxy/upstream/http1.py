"""One keep-alive connection to an endpoint: one exchange at a time, parsed by httptools (llhttp).

What the endpoint sends is trusted as little as what a client sends: a head over its bound or
anything llhttp's strict mode refuses fails the exchange with 502 and drops the connection.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import httptools

from ..deadline import IdleTimer
from ..errors import UpstreamClosed, UpstreamError, UpstreamProtocolError, UpstreamTimeout
from ..exchange import Headers, Request, Response, Stream, Tunnel
from ..headers import FORBIDDEN_TRAILERS, head_block, kind_of, with_length
from .body import BodyWriter
from .head import FIXED, NO_BODY, UNTIL_CLOSE, read_head

if TYPE_CHECKING:
    from .pool import Pool

MAX_INTERIM = 16
"""1xx answers to one request; more is a server gone wrong."""


class StaleConnection(UpstreamClosed):
    """A kept connection died before one byte of an answer: the keep-alive race.

    The endpoint closed it while our request was on the way, so a fresh one may be tried once
    (knative/serving#12414).
    """


class UpstreamConnection(asyncio.Protocol):
    """Also the Source of its answer's Stream, and the Tunnel of an upgraded exchange."""

    # fmt: off
    __slots__ = (
        "_chunks", "_complete", "_ending", "_failure", "_fields", "_head_bytes", "_idle_timer",
        "_interim", "_keep", "_loop", "_parser", "_paused", "_pool", "_reason", "_received",
        "_request", "_response", "_sent", "_stream", "_total_timer", "_transport", "_tunnel",
        "_tunnel_data", "_waiter", "_writer", "born", "idle_since", "made", "used",
    )
    # fmt: on

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self._waiter: asyncio.Future[Response] | None = None
        self._writer: BodyWriter | None = None
        self._idle_timer: IdleTimer | None = None
        self._total_timer: asyncio.TimerHandle | None = None
        self._tunnel: Tunnel | None = None
        self._tunnel_data: bytes | None = None
        self._paused = False
        self.made = False
        self.used = False
        self.born = loop.time()
        self.idle_since = self.born
        self._reset()

    def _reset(self) -> None:
        self._response: Response | None = None
        self._stream: Stream | None = None
        self._chunks: list[bytes] = []
        self._fields: Headers = []
        self._reason = b""
        self._failure: UpstreamError | None = None
        self._head_bytes = 0
        self._interim = 0
        self._received = self._complete = self._keep = self._sent = False
        self._ending = NO_BODY

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    # -- one exchange

    async def exchange(self, request: Request, writer: BodyWriter | None) -> Response:
        """Sends `request`, awaits the head of its answer. Raises UpstreamError.

        The answer's body is bytes when all of it came with the head, else a Stream. A caller
        that is cancelled here closes the connection, and the endpoint stops working for nobody.
        """
        if not self.usable:
            raise (StaleConnection if self.used else UpstreamClosed)(
                "the upstream closed the connection before the request was sent"
            )
        self._reset()
        self._request = request
        waiter: asyncio.Future[Response] = self._loop.create_future()
        self._waiter = waiter
        timeouts = self._pool.timeouts
        self._pool.first_byte.set(self)
        if timeouts.total is not None:
            self._total_timer = self._loop.call_later(timeouts.total, self._over_total)
        self._send(request, writer)
        try:
            return await waiter
        except asyncio.CancelledError:
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
        if request.chunked:
            headers = [*headers, (b"Transfer-Encoding", b"chunked")]
        elif body is not request.declared and isinstance(body, bytes):
            headers = with_length(headers, len(body))
        head = head_block(b"%b %b HTTP/1.1" % (request.method, request.target), headers)
        self._writer = writer
        if writer is not None:
            self._transport.write(head)
            writer.attach(self)
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
        elif self._stream is not None:
            self._stream.fail(error)
        self.abort()

    # -- httptools callbacks, inside data_received

    def on_message_begin(self) -> None:
        if self._complete:
            raise self._refuse("more than one answer to one request")

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if not 100 <= status <= 999:
            raise self._refuse(f"status {status}")
        fields, self._fields = self._fields, []
        limits = self._pool.limits
        if len(fields) > limits.headers:
            raise self._refuse(f"more than {limits.headers} header lines")
        if (
            self._head_bytes > limits.head
            and sum(len(name) + len(value) + 4 for name, value in fields) > limits.head
        ):
            raise self._refuse(f"a head over {limits.head} bytes")
        request = self._request
        assert request is not None
        if status < 200:
            self._on_interim(request, status, fields)
            return
        try:
            response, ending, close = read_head(request, status, self._reason, fields)
        except UpstreamError as error:
            self._failure = error
            raise
        self._response = response
        self._ending = ending
        if request.method == b"HEAD":
            # llhttp was not told that no body follows: this parser's work ends here.
            self._keep = not close and self._parser.get_http_version() == "1.1"
            self._complete = True
            self._parser = httptools.HttpResponseParser(self)

    def _on_interim(self, request: Request, status: int, fields: Headers) -> None:
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise self._refuse(f"more than {MAX_INTERIM} interim answers")
        if status == 101:
            if request.upgrade is None:
                raise self._refuse("101 to a request that asked for no upgrade")
            self._response = Response(101, fields, b"", self._reason)
        elif request.interim is not None:
            headers = [pair for pair in fields if not kind_of(pair[0])]
            request.interim(status, self._reason, headers)
        self._reason = b""

    def on_body(self, data: bytes) -> None:
        if self._complete:
            raise self._refuse("a body where none may be")
        if self._stream is not None:
            self._stream.feed(data)
        else:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        if self._response is None or self._complete:
            return
        self._complete = True
        self._keep = self._parser.should_keep_alive() and self._response.status != 101
        if self._fields:
            trailers, self._fields = self._fields, []
            self._response.trailers = [
                (name, value.rstrip(b" \t"))
                for name, value in trailers
                if name.lower() not in FORBIDDEN_TRAILERS
            ]

    def _refuse(self, what: str) -> UpstreamError:
        self._failure = UpstreamProtocolError(f"the upstream sent {what}")
        return self._failure

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.made = True

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.write(data)
            return
        if self._request is None:
            self.abort()  # nobody asked: a 408 before closing, or a server gone wrong
            return
        if self._tunnel_data is not None:
            self._tunnel_data += data
            return
        self._received = True
        if self._response is None:
            self._head_bytes += len(data)
        elif self._idle_timer is not None:
            self._idle_timer.touch()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgraded(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._parse_failed(error)
            return
        response = self._response
        if response is None:
            if self._head_bytes > self._pool.limits.head:
                self._fail(self._refuse(f"a head over {self._pool.limits.head} bytes"))
            return
        stream = self._stream
        if stream is None:
            self._head_came(response)
        elif self._complete:
            stream.end(response.trailers)
        if self._complete:
            self._finish()

    def _parse_failed(self, error: httptools.HttpParserError) -> None:
        response = self._response
        if not self._complete or response is None or response.status == 101:
            self._fail(
                self._failure or UpstreamProtocolError(f"the upstream sent bad HTTP: {error}")
            )
            return
        # The answer is whole; what follows it is not. Deliver it, trust nothing after it.
        self._keep = False
        if self._stream is None:
            self._head_came(response)
        else:
            self._stream.end(response.trailers)
        self._finish()

    def _head_came(self, response: Response) -> None:
        self._pool.first_byte.clear(self)
        if self._writer is not None:
            self._writer.forget()
        chunks = self._chunks
        if self._complete:
            response.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        else:
            stream = self._stream = response.body = Stream(self)
            for chunk in chunks:
                stream.feed(chunk)
            if self._pool.timeouts.idle is not None:
                self._idle_timer = IdleTimer(
                    self._loop, self._pool.timeouts.idle, self._idle_too_long
                )
        if self._ending == FIXED:
            response.declared = response.body
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(response)

    def _finish(self) -> None:
        """The answer is whole: back to the pool, or closed where it cannot be used again."""
        self._stop_timers()
        self._request = None
        self._waiter = None
        writer, self._writer = self._writer, None
        if not self._sent and writer is not None:
            writer.stream.abort()  # answered early: the rest of the request has no reader
        if self._keep and self._sent and self._ending != UNTIL_CLOSE and self.usable:
            self.used = True
            if self._paused:
                self.resume()
            self._pool.release(self)
        else:
            self._drop()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pool.lost(self)
        if self._tunnel is not None:
            self._tunnel.close()
            return
        if self._request is None:
            return
        if self._response is None:
            if self.used and not self._received:
                self._fail(StaleConnection("the upstream closed a kept connection"))
            else:
                self._fail(UpstreamClosed("the upstream closed the connection without an answer"))
        elif self._ending == UNTIL_CLOSE and exc is None and self._stream is not None:
            self._complete = True
            self._stream.end()
            self._finish()
        else:
            self._fail(UpstreamClosed("the upstream closed the connection amid its answer"))

    def pause_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.pause()
        elif self._writer is not None:
            self._writer.stream.pause()

    def resume_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.resume()
        elif self._writer is not None:
            self._writer.stream.resume()

    # -- failures and ends

    def _fail(self, error: UpstreamError) -> None:
        self._stop_timers()
        waiter, stream, writer = self._waiter, self._stream, self._writer
        self._request = self._waiter = self._writer = None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        elif stream is not None:
            stream.fail(error)
        if writer is not None and not self._sent and not isinstance(error, StaleConnection):
            writer.stream.abort()
        elif writer is not None and not self._sent:
            writer.stream.pause()
        self._drop()

    def first_byte_late(self) -> None:
        self._fail(UpstreamTimeout("the upstream sent no answer in time"))

    def _idle_too_long(self) -> None:
        self._idle_timer = None
        if self._paused:  # the client is the slow one
            self._idle_timer = IdleTimer(
                self._loop, cast(float, self._pool.timeouts.idle), self._idle_too_long
            )
            return
        self._fail(UpstreamTimeout("the upstream fell silent amid its answer"))

    def _over_total(self) -> None:
        self._total_timer = None
        self._fail(UpstreamTimeout("the exchange took longer than it may in all"))

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
            self._idle_timer.touch()
        if self.usable:
            cast(asyncio.Transport, self._transport).resume_reading()

    def abort(self) -> None:
        self._stop_timers()
        self._request = self._waiter = self._writer = None
        self._drop()

    def _upgraded(self, first: bytes) -> None:
        response = self._response
        assert response is not None
        self._stop_timers()
        self._tunnel_data = first
        response.tunnel = self
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(response)

    def open(self, peer: Tunnel) -> None:
        first, self._tunnel_data = self._tunnel_data, None
        self._tunnel = peer
        if first:
            peer.write(first)
        if self._transport is None:
            peer.close()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Lets what was written leave, then closes."""
        if self._transport is not None:
            self._transport.close()
