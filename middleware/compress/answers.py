"""Which answers may be compressed, and what their heads then say. Pure."""

from __future__ import annotations

from proxy.exchange import Headers, Request, Response

from ..core.http.converted import weak, weakened
from ..core.http.fields import members

_TYPES = frozenset((
    b"application/json", b"application/x-ndjson", b"application/jsonl", b"application/xml",
    b"application/javascript",
))  # fmt: skip
_SUFFIXES = (b"+json", b"+xml")

# They tell of the bytes as they are sent (RFC 9530), or of a part of them (RFC 9110 section 14.4).
_OF_THE_BYTES = frozenset(
    {b"content-encoding", b"content-range", b"content-digest", b"repr-digest", b"digest"}
    | {b"content-md5"}
)

_STATUSES = frozenset((200, 201, 202, 203)) | frozenset(range(400, 600))


def compressible(request: Request, response: Response, min_bytes: int) -> bool:
    """Text of some length that nothing forbids to transform (RFC 9110 section 7.7)."""
    if response.tunnel is not None or response.status not in _STATUSES:
        return False
    kind, length = b"", None
    told = response.declared is response.body or request.method == b"HEAD"
    for name, value in response.headers:
        low = name.lower()
        if low in _OF_THE_BYTES and not (low == b"content-encoding" and value == b"identity"):
            return False
        if low == b"cache-control" and b"no-transform" in value.lower():
            return False
        if low == b"content-type":
            kind = value.partition(b";")[0].strip(b" \t").lower()
        elif low == b"content-length" and told:
            length = value
    size = int(length) if length is not None else None
    if size is None and isinstance(response.body, bytes) and request.method != b"HEAD":
        size = len(response.body)
    if size is not None and size < min_bytes:
        return False
    return kind.startswith(b"text/") or kind in _TYPES or kind.endswith(_SUFFIXES)


def head_of_unmodified(request: Request, headers: Headers) -> Headers:
    """A 304 has the entity-tag that its 200 had (RFC 9110 section 15.4.5): the weak one, unless
    the client has the strong one of an answer that was never compressed.
    """
    strong = members(request.headers, b"if-none-match", escapes=False)
    return [
        weak(pair) if pair[0].lower() == b"etag" and pair[1] not in strong else pair
        for pair in headers
    ]


def head_of_compressed(headers: Headers, coding: bytes) -> Headers:
    """A strong etag is one of the bytes, so it becomes a weak one (RFC 9110 section 8.8.1), and
    ranges of these bytes are not served.
    """
    gone = (b"accept-ranges", b"content-encoding", b"content-length")
    kept = [pair for pair in weakened(headers) if pair[0].lower() not in gone]
    return [*kept, (b"content-encoding", coding)]
