"""Reads a chunked body strictly (RFC 9112 section 7.1). No I/O."""

from __future__ import annotations

import re

from ..errors import BadRequest
from ..exchange import Headers
from ..headers import FORBIDDEN_TRAILERS

MAX_LINE = 4 * 1024
"""Bytes of a chunk's size line, extensions included."""
MAX_TRAILERS = 8 * 1024
"""Bytes of all trailer lines."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
# RFC 9112 section 7.1.1: unknown extensions are ignored, but they must be extensions.
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16}+)(?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?+)*+"
    % (_TOKEN, _TOKEN, _QUOTED)
)
_TRAILER = re.compile(rb"(%b):[ \t]*+([\t\x20-\x7e\x80-\xff]*+)" % _TOKEN)

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class ChunkedReader:
    """Takes the framing off. `read` is given all that is unread and gives back what it left."""

    __slots__ = ("_left", "_state", "_trailer_bytes", "done", "size", "trailers")

    def __init__(self) -> None:
        self._state = _SIZE
        self._left = 0
        self._trailer_bytes = 0
        self.size = 0
        """Bytes of body announced so far: what a bound on the body is compared with."""
        self.trailers: Headers = []
        self.done = False

    def read(self, buffer: bytes) -> tuple[bytes, bytes]:
        """(body bytes that are here, unread bytes). Raises BadRequest."""
        pieces: list[bytes] = []
        at = 0
        while True:
            if self._state == _DATA:
                piece = buffer[at : at + self._left]
                if piece:
                    pieces.append(piece)
                    at += len(piece)
                    self._left -= len(piece)
                if self._left:
                    break
                self._state = _DATA_END
            if self._state == _DATA_END:
                end = buffer[at : at + 2]
                if end != b"\r\n":
                    if end not in (b"", b"\r"):
                        raise BadRequest(
                            "chunk data is longer than its size (RFC 9112 section 7.1)"
                        )
                    break
                at += 2
                self._state = _SIZE
            if self._state == _DONE:
                break
            line = self._line(buffer, at)
            if line is None:
                break
            at += len(line) + 2
            if self._state == _SIZE:
                self._size_line(line)
            else:
                self._trailer_line(line)
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), buffer[at:]

    def _line(self, buffer: bytes, at: int) -> bytes | None:
        """The line at `at` without its CRLF, or None until it is whole."""
        end = buffer.find(b"\n", at)
        if end < 0:
            if len(buffer) - at > MAX_LINE:
                raise BadRequest("chunk line too long", status=431, code="headers_too_large")
            if buffer.find(b"\r", at, len(buffer) - 1) >= 0:
                raise BadRequest("bare CR in a chunk line (RFC 9112 section 2.2)")
            return None
        if end == at or buffer[end - 1] != 0x0D:
            raise BadRequest("bare LF in a chunk line (RFC 9112 section 2.2)")
        if end - at > MAX_LINE:
            raise BadRequest("chunk line too long", status=431, code="headers_too_large")
        return buffer[at : end - 1]

    def _size_line(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise BadRequest("malformed chunk size or extension (RFC 9112 section 7.1)")
        self._left = int(match[1], 16)
        self.size += self._left
        self._state = _DATA if self._left else _TRAILERS

    def _trailer_line(self, line: bytes) -> None:
        if not line:
            self._state = _DONE
            self.done = True
            return
        self._trailer_bytes += len(line)
        if self._trailer_bytes > MAX_TRAILERS:
            raise BadRequest("trailers too large", status=431, code="headers_too_large")
        match = _TRAILER.fullmatch(line)
        if match is None:
            raise BadRequest("malformed trailer (RFC 9112 section 7.1.2)")
        if match[1].lower() in FORBIDDEN_TRAILERS:
            raise BadRequest("a trailer may not frame or route (RFC 9110 section 6.5.1)")
        self.trailers.append((match[1], match[2].rstrip(b" \t")))
