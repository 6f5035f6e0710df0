"""A stored answer as the answer to a request."""

from __future__ import annotations

from hashlib import blake2b

from proxy.exchange import Headers, Request, Response

from ..core.entry import Entry
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
        """The whole entry, or 304 where the client has it already.

        status: the `cache-status` parameters (RFC 9211), to which a hit's ttl is added.
        """
        age = int(max(0.0, now - entry.stored_at + entry.age))
        headers = list(entry.headers)
        tag = _field(headers, b"etag")
        if self._told:
            if tag is None:
                tag = etag_of(entry.body)
                headers.append((b"etag", tag))
            headers.append((b"age", b"%d" % age))
            ttl = int(entry.lifetime - (now - entry.stored_at))
            headers.append((b"cache-status", b"%b; %b; ttl=%d" % (NAME, status, ttl)))
        wanted = request.header(b"if-none-match")
        if wanted is not None and tag is not None and _matches(wanted, tag):
            return Response(304, _of_304(headers))
        response = Response(entry.status, headers, entry.body, entry.reason)
        response.trailers = list(entry.trailers)
        response.declared = response.body if _field(headers, b"content-length") else None
        if entry.pieces:
            response.chunked = True
            if self._paced:
                response.body = Replay(entry.body, entry.pieces, entry.cost).stream
        return response

    def tell(self, response: Response, status: bytes) -> Response:
        """Adds what the cache did to an answer that did not come from it."""
        if self._told:
            response.headers.append((b"cache-status", b"%b; %b" % (NAME, status)))
        return response


def _field(headers: Headers, name: bytes) -> bytes | None:
    for key, value in headers:
        if key.lower() == name:
            return value
    return None


def _matches(wanted: bytes, tag: bytes) -> bool:
    """If-None-Match, by weak comparison (RFC 9110 section 13.1.2)."""
    mine = tag.removeprefix(b"W/")
    return any(
        one == b"*" or one.removeprefix(b"W/") == mine
        for one in (part.strip(b" \t") for part in wanted.split(b","))
    )


_NOT_IN_304 = frozenset((b"content-length", b"content-type", b"content-encoding"))


def _of_304(headers: Headers) -> Headers:
    return [pair for pair in headers if pair[0].lower() not in _NOT_IN_304]
