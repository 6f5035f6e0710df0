"""Reads the answers of one connection: llhttp's strict mode by way of httptools, and our bounds.

No I/O. What the endpoint sends is trusted as little as what a client sends: anything that leaves
in doubt where an answer ends is refused.
"""

from __future__ import annotations

import re

import httptools

from .. import config
from ..errors import UpstreamError, UpstreamProtocolError
from ..exchange import Headers, Request, Response, Stream
from ..headers import FORBIDDEN_TRAILERS, kind_of
from .head import NO_BODY, UNTIL_CLOSE, Unframed, read_head

MAX_INTERIM = 16
"""1xx answers to one request; more is a server gone wrong."""
MAX_TRAILERS = 100
"""Fields behind the last chunk."""

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class AnswerReader:
    """One answer at a time: `expect` a request's, `feed` what comes, look at what is known.

    who: the server, as errors call it.
    response: set once its head is read. chunks: body that came before anybody took `stream`.
    complete: the answer is whole. keep: and the connection can carry another.
    """

    # fmt: off
    __slots__ = (
        "_dry", "_failure", "_fields", "_interim", "_limits", "_parser", "_reason", "_request",
        "_who", "chunks", "complete", "ending", "keep", "response", "stream",
    )
    # fmt: on

    def __init__(self, limits: config.ResponseLimits, who: str) -> None:
        self._limits = limits
        self._who = who
        self._parser = httptools.HttpResponseParser(self)

    def expect(self, request: Request) -> None:
        """What is fed from now on answers `request`."""
        self._request = request
        self._failure: UpstreamError | None = None
        self._fields: Headers = []
        self._reason = b""
        self._dry = 0  # bytes since the last one of a body
        self._interim = 0
        self.response: Response | None = None
        self.stream: Stream | None = None
        self.chunks: list[bytes] = []
        self.ending = NO_BODY
        self.complete = self.keep = False

    def feed(self, data: bytes) -> bytes | None:
        """None, or after a 101 the first bytes of the other protocol. Raises UpstreamError."""
        self._dry += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            if not self.complete or (self.response is not None and self.response.status == 101):
                raise self._failure or self._refuse(f"bad HTTP: {error}") from error
            # The answer is whole; what follows it is not. Deliver it, trust nothing after it.
            self.keep = False
        else:
            # Trailers and chunk extensions, too: whatever is read and kept but is no body.
            if self._dry > self._limits.head and not self.complete:
                what = "head" if self.response is None else "line between chunks"
                raise self._refuse(f"a {what} over {self._limits.head} bytes")
        return None

    def closed(self, cleanly: bool) -> bool:
        """The connection has ended; whether that makes the answer whole (RFC 9112 section 8)."""
        if self.response is not None and self.ending == UNTIL_CLOSE and cleanly:
            self.complete = True
        return self.complete

    # -- httptools' callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            raise self._refuse("more than one answer to one request")

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.response is not None and len(self._fields) >= MAX_TRAILERS:
            raise self._refuse(f"more than {MAX_TRAILERS} trailers")
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if not 100 <= status <= 999:
            raise self._refuse(f"status {status}")
        reason = self._reason
        if reason != b"OK" and _CONTROL.search(reason):
            raise self._refuse("a control character in its reason")
        # A persistent answer is HTTP/1.1 beyond doubt; only of others is the version asked.
        http10 = not self._parser.should_keep_alive() and self._is_http10()
        fields, self._fields = self._fields, []
        self._check_size(fields)
        if status < 200:
            self._on_interim(status, fields)
            return
        request = self._request
        try:
            self.response, self.ending, close = read_head(
                request, status, reason, fields, http10=http10
            )
        except Unframed as error:
            raise self._refuse(str(error)) from None
        if request.method == b"HEAD":
            # llhttp was not told that no body follows: this parser's work ends here.
            self.keep = not close and not http10
            self.complete = True
            self._parser = httptools.HttpResponseParser(self)

    def _is_http10(self) -> bool:
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise self._refuse(f"HTTP/{version}")
        return version == "1.0"

    def _check_size(self, fields: Headers) -> None:
        limits = self._limits
        if len(fields) > limits.headers:
            raise self._refuse(f"more than {limits.headers} header lines")
        # A body may have come with the head: count only when the bound is in reach.
        if self._dry > limits.head and limits.head < len(self._reason) + sum(
            len(name) + len(value) + 4 for name, value in fields
        ):
            raise self._refuse(f"a head over {limits.head} bytes")

    def _on_interim(self, status: int, fields: Headers) -> None:
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise self._refuse(f"more than {MAX_INTERIM} interim answers")
        if status == 101:
            if self._request.upgrade is None:
                raise self._refuse("101 to a request that asked for no upgrade")
            self.response = Response(101, fields, b"", self._reason)
        elif self._request.interim is not None:
            headers = [pair for pair in fields if not kind_of(pair[0])]
            self._request.interim(status, self._reason, headers)
        self._reason = b""

    def on_body(self, data: bytes) -> None:
        if self.complete:
            raise self._refuse("a body where none may be")
        self._dry = 0
        if self.stream is not None:
            self.stream.feed(data)
        else:
            self.chunks.append(data)

    def on_message_complete(self) -> None:
        response = self.response
        if response is None or self.complete:
            return
        self.complete = True
        self.keep = (
            self.ending != UNTIL_CLOSE
            and response.status != 101
            and self._parser.should_keep_alive()
        )
        if self._fields:
            trailers, self._fields = self._fields, []
            response.trailers = [
                (name, value.rstrip(b" \t"))
                for name, value in trailers
                if name.lower() not in FORBIDDEN_TRAILERS
            ]

    def _refuse(self, what: str) -> UpstreamError:
        self._failure = UpstreamProtocolError(f"{self._who} sent {what}")
        return self._failure
