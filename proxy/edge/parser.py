"""Reads HTTP/1.1 requests strictly (RFC 9112). No I/O: bytes are fed, a head and a body are pulled.

A proxy that guesses can be made to disagree with the server behind it about where a request
ends. So nothing is guessed: what the grammar does not allow is refused, and a refusal is final
for the connection. Everything that decides where a message ends is in this file, in `chunked` and
in `repeat`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import BadRequest, BodyTooLarge
from ..exchange import Headers
from ..headers import Kind, connection_options, kind_of, without
from .chunked import ChunkedReader
from .repeat import Repeat

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_REQUEST_LINE = re.compile(
    rb"(%b{1,32}) ([\x21-\x22\x24-\x7e\x80-\xff]++) HTTP/1\.([01])\r\n" % TOKEN
)
_OTHER_VERSION = re.compile(
    rb"%b{1,32} [\x21-\x7e\x80-\xff]++ HTTP/(?!1\.[01])\d\.\d(?:\r\n|$)" % TOKEN
)
# Possessive, so that no input makes it backtrack. Anchored behind a CRLF, not a bare LF: each
# match is one whole line, and as many matches as lines means that every line is a field.
FIELD = re.compile(rb"(?<=\r\n)(%b++):[ \t]*+([\t\x20-\x7e\x80-\xff]*+)\r\n" % TOKEN)
_NEVER_IN_A_HEAD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?=[^\n])")
_AUTHORITY = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+;=%]*)(?::\d{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]+)(.*)", re.DOTALL)
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_HTTP_AGAIN = re.compile(rb"(?i)(?:^|,)[ \t]*(?:h2c?|h3|http|tls)[ \t]*(?:[/,]|$)")

_HOP = int(Kind.HOP)
_HOST = int(Kind.HOST)
_CONTENT_LENGTH = int(Kind.CONTENT_LENGTH)
_TRANSFER_ENCODING = int(Kind.TRANSFER_ENCODING)
_CONNECTION = int(Kind.CONNECTION)
_UPGRADE = int(Kind.UPGRADE)


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bounds on a request's head, in bytes, and on its number of fields."""

    request_line: int = 16 * 1024
    head: int = 64 * 1024
    headers: int = 100


class Head:
    """A request's head. headers: end-to-end fields. length: the body's bytes, None when chunked."""

    # fmt: off
    __slots__ = (
        "chunked", "expect", "headers", "http10", "keep_alive", "length", "method", "target",
        "upgrade",
    )
    # fmt: on

    def __init__(self, method: bytes, target: bytes, headers: Headers, http10: bool) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.http10 = http10
        self.length: int | None = 0
        self.chunked = False
        self.keep_alive = not http10
        self.upgrade: bytes | None = None
        self.expect = False

    def again(self, headers: Headers, length: int) -> Head:
        """The same with a body of another length, which has no part in anything else."""
        head = Head(self.method, self.target, headers, self.http10)
        head.length = length
        head.keep_alive = self.keep_alive
        return head


class RequestReader:
    """Pulls requests out of one connection's bytes: `head`, then `body` until `done`, then `next`.

    Raises BadRequest and its kin; after that the connection is good for an error answer only.
    """

    # fmt: off
    __slots__ = (
        "_blanks", "_buffer", "_chunked", "_limits", "_remaining", "_repeat", "_scanned",
        "_started", "done", "max_body",
    )
    # fmt: on

    def __init__(self, limits: HeadLimits, max_body: int | None = None) -> None:
        self._limits = limits
        self._buffer = b""
        self._scanned = 0
        self._started = False
        self._blanks = 0
        self._remaining = 0
        self._chunked: ChunkedReader | None = None
        self._repeat = Repeat()
        self.max_body = max_body
        self.done = True

    def feed(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data

    @property
    def buffered(self) -> int:
        """Bytes fed and not pulled yet."""
        return len(self._buffer)

    def rest(self) -> bytes:
        """Everything not pulled yet: the first bytes of another protocol after an upgrade."""
        rest, self._buffer = self._buffer, b""
        return rest

    # -- the head

    def head(self) -> Head | None:
        """The next request's head, or None until more is fed."""
        buffer = self._buffer
        if not self._started:
            # RFC 9112 section 2.2: ignore an empty line or two that follow a former body.
            while self._blanks < 2 and buffer.startswith(b"\r\n"):
                self._blanks += 1
                self._buffer = buffer = buffer[2:]
            if not buffer or buffer == b"\r":
                return None
            self._started = True
        end = buffer.find(b"\r\n\r\n", self._scanned)
        if end < 0:
            self._check_unfinished(buffer)
            return None
        if end > self._limits.head:
            raise self._too_large()
        raw = buffer[: end + 2]
        head = self._repeat.find(raw)
        if head is None:
            head = self._parse(buffer, end)
            self._repeat.learn(raw, head)
        self._buffer = buffer[end + 4 :]
        self._scanned = 0
        self._started = False
        self._blanks = 0
        self.done = False
        if head.chunked:
            self._chunked = ChunkedReader()
        else:
            self._remaining = head.length or 0
            if self.max_body is not None and self._remaining > self.max_body:
                raise BodyTooLarge(f"the body is over {self.max_body} bytes")
        return head

    def _check_unfinished(self, buffer: bytes) -> None:
        """What can never become a head is refused now, not when its sender loses patience."""
        if bad := _NEVER_IN_A_HEAD.search(buffer, max(0, self._scanned - 1)):
            raise self._bad_byte(bad)
        line_end = buffer.find(b"\r\n")
        if line_end < 0:
            if len(buffer) > self._limits.request_line:
                raise BadRequest("request line too long", status=414, code="uri_too_long")
        elif _REQUEST_LINE.match(buffer) is None:
            raise self._bad_request_line(buffer)
        if len(buffer) > self._limits.head:
            raise self._too_large()
        self._scanned = max(0, len(buffer) - 3)

    def _parse(self, buffer: bytes, end: int) -> Head:
        line = _REQUEST_LINE.match(buffer)
        if line is None:
            raise self._bad_request_line(buffer)
        method, target, minor = line.groups()
        start = line.end()
        if start > self._limits.request_line:
            raise BadRequest("request line too long", status=414, code="uri_too_long")
        fields: Headers = FIELD.findall(buffer, start, end + 2)
        if len(fields) != buffer.count(b"\r\n", start, end + 2):
            raise self._bad_field(buffer, start, end)
        if len(fields) > self._limits.headers:
            raise self._too_large()
        if buffer.find(b" \r\n", start, end + 2) > 0 or buffer.find(b"\t\r\n", start, end + 2) > 0:
            fields = [(name, value.rstrip(b" \t")) for name, value in fields]
        head = Head(method, target, [], minor == b"0")
        self._frame(head, fields)
        if target[0] != 0x2F or method == b"CONNECT":
            self._other_target_form(head)
        return head

    def _frame(self, head: Head, fields: Headers) -> None:
        """Sorts the fields and decides where the body ends (RFC 9112 section 6.3)."""
        headers = head.headers
        hosts = 0
        length: bytes | None = None
        coding: bytes | None = None
        upgrade: bytes | None = None
        connection: list[bytes] | None = None
        for pair in fields:
            kind = kind_of(pair[0])
            if kind == 0:
                headers.append(pair)
            elif kind == _HOST:
                hosts += 1
                if not _AUTHORITY.fullmatch(pair[1]):
                    raise BadRequest("malformed Host (RFC 9112 section 3.2)")
                headers.append(pair)
            elif kind == _CONTENT_LENGTH:
                if length is not None:
                    raise BadRequest("two Content-Length fields (RFC 9112 section 6.3)")
                length = pair[1]
                headers.append(pair)
            elif kind == _CONNECTION:
                connection = [*(connection or ()), pair[1]]
            elif kind == _TRANSFER_ENCODING:
                if coding is not None:
                    raise BadRequest("two Transfer-Encoding fields (RFC 9112 section 6.1)")
                coding = pair[1]
            elif kind == _UPGRADE:
                upgrade = pair[1] if upgrade is None else upgrade + b", " + pair[1]
            elif kind != _HOP:
                if pair[1].lower() != b"100-continue":
                    raise BadRequest(
                        "unknown expectation (RFC 9110 section 10.1.1)",
                        status=417,
                        code="expectation_failed",
                    )
                # RFC 9110 section 10.1.1: an HTTP/1.0 client cannot take an interim answer.
                if not head.http10:
                    head.expect = True
                    headers.append(pair)
        if hosts != 1 and (hosts or not head.http10):
            raise BadRequest("exactly one Host is needed (RFC 9112 section 3.2)")
        if coding is not None:
            if length is not None:
                raise BadRequest("Content-Length beside Transfer-Encoding (RFC 9112 section 6.3)")
            if head.http10 or coding.lower() != b"chunked":
                raise BadRequest("Transfer-Encoding may only be chunked (RFC 9112 section 6.1)")
            head.chunked = True
            head.length = None
        elif length is not None:
            if not _LENGTH.fullmatch(length):
                raise BadRequest("malformed Content-Length (RFC 9110 section 8.6)")
            head.length = int(length)
        if connection is not None:
            self._apply_connection(head, connection, upgrade)

    def _apply_connection(self, head: Head, values: list[bytes], upgrade: bytes | None) -> None:
        value = values[0].lower()
        if len(values) == 1 and value == b"keep-alive":
            head.keep_alive = True
            return
        options = connection_options(values)
        if b"close" in options:
            head.keep_alive = False
        elif b"keep-alive" in options:
            head.keep_alive = True
        named = options - {b"close", b"keep-alive", b"upgrade", b""}
        if named:
            head.headers = without(head.headers, named)
        # An upgrade with a body (Java's h2c attempt) is an ordinary request whose sender could
        # also speak something else; a server may ignore that (RFC 9110 section 7.8). One to HTTP
        # or TLS would carry requests past every route and layer.
        if upgrade and b"upgrade" in options and not head.http10 and head.length == 0:
            head.upgrade = upgrade if not _HTTP_AGAIN.search(upgrade) else None

    def _other_target_form(self, head: Head) -> None:
        """Absolute-form becomes origin-form, its authority the Host (RFC 9112 section 3.2.2)."""
        if head.method == b"CONNECT":
            raise BadRequest(
                "CONNECT is not for a reverse proxy", status=405, code="method_not_allowed"
            )
        if head.target == b"*" and head.method == b"OPTIONS":
            return
        parts = _ABSOLUTE.fullmatch(head.target)
        if parts is None:
            raise BadRequest("malformed request target (RFC 9112 section 3.2)")
        authority, path = parts.groups()
        if not _AUTHORITY.fullmatch(authority) or authority.startswith(b":"):
            raise BadRequest("malformed authority in the target (RFC 9112 section 3.2.2)")
        if not path and head.method == b"OPTIONS":
            head.target = b"*"  # RFC 9112 section 3.2.4
        else:
            head.target = path if path.startswith(b"/") else b"/" + path
        others = [pair for pair in head.headers if kind_of(pair[0]) != _HOST]
        head.headers = [(b"Host", authority), *others]

    # -- the body

    def body(self) -> bytes:
        """What is here of the body and was not pulled yet. Sets `done` at its end."""
        buffer = self._buffer
        chunked = self._chunked
        if chunked is not None:
            piece, self._buffer = chunked.read(buffer)
            if self.max_body is not None and chunked.size > self.max_body:
                raise BodyTooLarge(f"the body is over {self.max_body} bytes")
            self.done = chunked.done
            return piece
        remaining = self._remaining
        if len(buffer) > remaining:
            self._buffer = buffer[remaining:]
            buffer = buffer[:remaining]
        else:
            self._buffer = b""
        self._remaining = remaining - len(buffer)
        if not self._remaining:
            self.done = True
        return buffer

    @property
    def in_chunks(self) -> int:
        """Bytes in the chunks that began so far; 0 where the body is not chunked."""
        return self._chunked.size if self._chunked is not None else 0

    @property
    def trailers(self) -> Headers:
        return self._chunked.trailers if self._chunked is not None else []

    def next(self, max_body: int | None = None) -> None:
        """The request was read to its end and answered: on to the one behind it."""
        self._chunked = None
        self.max_body = max_body

    # -- refusals

    @staticmethod
    def _too_large() -> BadRequest:
        return BadRequest("request head too large", status=431, code="headers_too_large")

    @staticmethod
    def _bad_byte(bad: re.Match[bytes]) -> BadRequest:
        if bad[0] == b"\n":
            return BadRequest("bare LF in the head (RFC 9112 section 2.2)")
        if bad[0] == b"\r":
            return BadRequest("bare CR in the head (RFC 9112 section 2.2)")
        return BadRequest("control character in the head (RFC 9110 section 5.5)")

    @staticmethod
    def _bad_request_line(buffer: bytes) -> BadRequest:
        if _OTHER_VERSION.match(buffer.partition(b"\r\n")[0]):
            return BadRequest(
                "only HTTP/1.0 and HTTP/1.1 are spoken here", status=505, code="http_version"
            )
        return BadRequest("malformed request line (RFC 9112 section 3)")

    def _bad_field(self, buffer: bytes, start: int, end: int) -> BadRequest:
        if bad := _NEVER_IN_A_HEAD.search(buffer, start, end + 2):
            return self._bad_byte(bad)
        for line in buffer[start:end].split(b"\r\n"):
            if line[:1] in (b" ", b"\t"):
                return BadRequest("folded header line (RFC 9112 section 5.2)")
            if line.partition(b":")[0][-1:] in (b" ", b"\t"):
                return BadRequest("white space before the colon (RFC 9112 section 5.1)")
        return BadRequest("malformed header line (RFC 9112 section 5)")
