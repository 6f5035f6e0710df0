"""A stored answer as the answer to a request."""

from __future__ import annotations

import math
from hashlib import blake2b

from proxy.exchange import Headers, Request, Response, Stream, header

from ..core.entry import Entry
from ..core.http.fields import members
from ..core.http.freshness import current_age
from ..core.http.ranges import partial_headers, pick
from ..core.http.validators import head_from_get, not_modified, not_modified_headers
from .replay import Replay

NAME = b"remora"


def etag_of(body: bytes) -> bytes:
    """A strong validator of these bytes (RFC 9110 section 8.8.3)."""
    return b'"%b"' % blake2b(body, digest_size=12).hexdigest().encode()


class Answers:
    """Makes responses of entries. told: add `cache-status`, `age` and `etag`. paced: play stored
    streams back as they came.
    """

    def __init__(self, told: bool, paced: bool = False) -> None:
        self._told = told
        self._paced = paced

    def of(self, request: Request, entry: Entry, now: float, status: bytes = b"hit") -> Response:
        """The whole entry, or 304 where the client has it already (`if-none-match`)."""
        response = self.whole(entry, now, status)
        if _matches(request.headers, response.headers):
            if isinstance(response.body, Stream):
                response.body.abort()
            return Response(304, not_modified_headers(response.headers))
        return response

    def page(self, request: Request, entry: Entry, now: float, status: bytes) -> Response:
        """The answer to GET or HEAD: the whole entry, a range of it, its head, or 304."""
        response = self.whole(entry, now, status)
        method, length = request.method, len(entry.body)
        if not_modified(method, request.headers, response.headers, entry.status, now):
            return Response(304, not_modified_headers(response.headers))
        if method == b"HEAD":
            response.headers = head_from_get(response.headers, length)
            response.body = b""
            return response
        part = pick(method, request.headers, entry.status, response.headers, length, now)
        if part is None:
            return response
        first, last = part
        headers = partial_headers(response.headers, first, last, length)
        cut = Response(206, headers, entry.body[first : last + 1])
        cut.declared = cut.body
        return cut

    def whole(self, entry: Entry, now: float, status: bytes = b"hit") -> Response:
        """status: the `cache-status` parameters (RFC 9211), to which the ttl is added."""
        age = current_age(entry.age, entry.stored_at, now)
        # Worked out at the first hit: bench `cache` pays for it.
        shown, counted = entry.shown or self._show(entry)
        headers = [*shown]
        if self._told:
            headers.append((b"age", b"%d" % age))
            ttl = math.floor(entry.lifetime - age)
            headers.append((b"cache-status", b"%b; %b; ttl=%d" % (NAME, status, ttl)))
        response = Response(entry.status, headers, entry.body, entry.reason)
        if entry.trailers:
            response.trailers = list(entry.trailers)
        if counted:
            response.declared = entry.body
        if entry.pieces:
            response.chunked = True
            if self._paced:
                response.body = Replay(entry.body, entry.pieces, entry.cost).stream
        return response

    def _show(self, entry: Entry) -> tuple[Headers, bool]:
        """The fields of every answer made of it, and whether they count its bytes."""
        headers = list(entry.headers)
        if self._told and header(headers, b"etag") is None:
            headers.append((b"etag", etag_of(entry.body)))
        shown = headers, header(headers, b"content-length") is not None
        object.__setattr__(entry, "shown", shown)
        return shown

    def tell(self, response: Response, status: bytes) -> Response:
        """Adds what the cache did to an answer that did not come from it."""
        if self._told:
            response.headers.append((b"cache-status", b"%b; %b" % (NAME, status)))
        return response


def _matches(headers: Headers, answer: Headers) -> bool:
    """If-None-Match, by weak comparison (RFC 9110 section 13.1.2)."""
    if header(headers, b"if-none-match") is None:
        return False
    tag = header(answer, b"etag")
    if tag is None:
        return False
    mine = tag.removeprefix(b"W/")
    return any(
        one == b"*" or one.removeprefix(b"W/") == mine
        for one in members(headers, b"if-none-match", escapes=False)
    )
