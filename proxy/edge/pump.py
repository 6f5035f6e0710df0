"""Writes an answer out: how its body is framed, and the Sink that each chunk goes through.

RFC 9112 section 6 decides the framing. An answer whose body is here leaves in one write; a
streamed one leaves chunk by chunk in the upstream's own call, without a task being woken.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from ..errors import ClientGone, InternalError, ProxyError
from ..exchange import Headers, Request, Response, Stream
from ..headers import FORBIDDEN_TRAILERS, head_block, with_length, without_length

if TYPE_CHECKING:
    from .connection import ClientConnection

log = logging.getLogger("remora")

_REASONS = {int(status): status.phrase.encode() for status in HTTPStatus}

NO_BODY, FIXED, CHUNKED, UNTIL_CLOSE = range(4)

_CLOSE = (b"Connection", b"close")
_KEEP_ALIVE = (b"Connection", b"keep-alive")
_IN_CHUNKS = (b"Transfer-Encoding", b"chunked")


def framing(request: Request, response: Response) -> int:
    """How the body of this answer ends, for this client."""
    if request.method == b"HEAD" or response.status == 204 or response.status == 304:
        return NO_BODY
    if isinstance(response.body, bytes):
        chunked = (response.chunked or response.trailers) and not request.http10
        return CHUNKED if chunked else FIXED
    if response.declared is response.body and not _changes(response):
        return FIXED
    return UNTIL_CLOSE if request.http10 else CHUNKED


def _changes(response: Response) -> bool:
    """Whether a filter may make the body longer or shorter."""
    filters = response.filters
    return bool(filters) and not all(getattr(one, "observes", False) for one in filters)


def head_of(request: Request, response: Response, mode: int, close: bool) -> bytes:
    """The head's bytes. The upstream's fields stay as they came; only framing is ours."""
    headers = response.headers
    if mode == FIXED:
        if response.declared is not response.body:
            assert isinstance(response.body, bytes)
            headers = with_length(headers, len(response.body))
    elif mode == CHUNKED:
        headers = [*without_length(headers), _IN_CHUNKS]
    elif mode == UNTIL_CLOSE or _changes(response):
        # Also where no body is sent: nobody knows how long the filters would have made it.
        headers = without_length(headers)
    if close:
        headers = [*headers, _CLOSE]
    elif request.http10:
        headers = [*headers, _KEEP_ALIVE]
    reason = response.reason or _REASONS.get(response.status, b"")
    return head_block(b"HTTP/1.1 %d %b" % (response.status, reason), headers)


def filter_whole(request: Request, response: Response) -> None:
    """Puts a body that is bytes through the answer's filters. Raises what they raise."""
    body = response.body
    assert isinstance(body, bytes)
    if framing(request, response) != NO_BODY:
        for body_filter in response.filters:
            body = (body_filter.feed(body) if body else b"") + body_filter.end()
        response.body = body


def whole(request: Request, response: Response, close: bool) -> bytes:
    """An answer whose body is bytes, framed, ready for one write."""
    mode = framing(request, response)
    head = head_of(request, response, mode, close)
    if mode == NO_BODY or not response.body:
        return head if mode != CHUNKED else head + head_block(b"0", response.trailers)
    assert isinstance(response.body, bytes)
    body = response.body
    request.outcome.bytes_sent = len(body)
    if mode == CHUNKED:
        body = b"%x\r\n%b\r\n%b" % (len(body), body, head_block(b"0", response.trailers))
    return head + body


class Pump:
    """The Sink of one streamed answer."""

    # fmt: off
    __slots__ = (
        "_chunked", "_client", "_failure", "_filters", "_last", "_request", "_response", "_write",
        "finished", "sent", "stream",
    )
    # fmt: on

    def __init__(
        self, client: ClientConnection, request: Request, response: Response, stream: Stream
    ) -> None:
        self._client = client
        self._request = request
        self._response = response
        self._filters = response.filters
        self._failure: Exception | None = None
        self._chunked = False
        self._last = b""  # how the body ended so far: four bytes of it at least
        self._write = client.write
        self.stream = stream
        self.sent = 0
        self.finished: asyncio.Future[None] = client.loop.create_future()

    def start(self, close: bool) -> None:
        """The head leaves at once, with what has come of the body; the rest as it comes."""
        mode = framing(self._request, self._response)
        head = head_of(self._request, self._response, mode, close)
        if mode == NO_BODY:
            self._write(head)
            self.stream.abort()
            self.finished.set_result(None)
            return
        self._chunked = mode == CHUNKED
        first = self._filtered(self.stream.take())
        self._write(head + self._framed(first) if first else head)
        if self._failure is not None:
            self._break_off(self._failure)
        else:
            self.stream.pipe(self)

    def left(self) -> None:
        """The client's connection is no more: what still comes goes nowhere."""
        self._write = self._client.write

    def write(self, chunk: bytes) -> None:
        if self._filters:
            if self._failure is not None:
                return
            chunk = self._filtered(chunk)
            if self._failure is not None:
                self._break_off(self._failure)
                return
        if chunk:
            self.sent += len(chunk)
            self._last = chunk if len(chunk) > 3 else self._last[-3:] + chunk
            self._write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk)

    def end(self, trailers: Headers) -> None:
        if self._failure is not None:
            return
        last = self._ended_filters()
        if self._failure is not None:
            self._break_off(self._failure)
            return
        if last:
            self._write(self._framed(last))
        if self._chunked:
            # What they sign is gone where a filter changed it (RFC 9530).
            kept = [] if _changes(self._response) else trailers
            kept = [pair for pair in kept if pair[0].lower() not in FORBIDDEN_TRAILERS]
            self._write(head_block(b"0", kept))
        self._finish()

    def fail(self, error: Exception) -> None:
        """After the first byte: an SSE stream ends with an error event, one whose layer knows how
        to tell of it as that says, any other is aborted.
        """
        if self.finished.done():
            return
        if isinstance(error, ClientGone):
            self._request.outcome.cancelled = True
            self._finish()
            return
        known = error if isinstance(error, ProxyError) else InternalError("the answer broke off")
        self._request.outcome.error = known
        if last := self._last_words(known):
            self._write(self._framed(last))
            if self._chunked:
                self._write(head_block(b"0", []))
            self._client.last_answer()
        else:
            self._client.abort()
        self._finish()

    def _last_words(self, error: ProxyError) -> bytes:
        """What tells of the error in the body itself; empty where nothing can."""
        failed = self._response.failed
        if failed is not None:
            return failed(error) if self._may_go_on() else b""
        if self._is_event_stream() and self._between_events():
            return self._request.api.error_event(error)
        return b""

    def _between_events(self) -> bool:
        """An event that broke off in its middle cannot be taken back."""
        return not self._last or self._last.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))

    def _is_event_stream(self) -> bool:
        kind = self._response.header(b"content-type") or b""
        encoding = self._response.header(b"content-encoding") or b"identity"
        return (
            kind.partition(b";")[0].strip().lower() == b"text/event-stream"
            and encoding == b"identity"
            and self._may_go_on()
        )

    def _may_go_on(self) -> bool:
        """Whether the framing leaves room for more than the upstream sent."""
        return self._chunked or self._response.declared is not self._response.body

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)

    def _framed(self, data: bytes) -> bytes:
        self.sent += len(data)
        self._last = data
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    def _break_off(self, failure: Exception) -> None:
        """A filter failed: the upstream has nothing to do with it, and no reader any more."""
        if not isinstance(failure, ProxyError):
            log.error("a filter of route %s failed", self._request.label, exc_info=failure)
        self.fail(failure)

    def _filtered(self, chunk: bytes) -> bytes:
        """What the filters make of it. One that raises sets `_failure`."""
        try:
            for body_filter in self._filters:
                if not chunk:
                    break
                chunk = body_filter.feed(chunk)
        except Exception as error:
            self._failure = error
            return b""
        return chunk

    def _ended_filters(self) -> bytes:
        """What the filters still held: each one's rest goes through those behind it."""
        rest = b""
        try:
            for body_filter in self._filters:
                rest = (body_filter.feed(rest) if rest else b"") + body_filter.end()
        except Exception as error:
            self._failure = error
            return b""
        return rest
