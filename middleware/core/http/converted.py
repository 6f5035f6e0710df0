"""Fields of a message whose body was put into another form (RFC 9110 sections 8.8, 12.5.5)."""

from __future__ import annotations

from proxy.exchange import Headers

from .fields import members

# They count, describe or sign the very bytes that are gone.
_OF_THE_BYTES = frozenset({
    b"accept-ranges", b"content-digest", b"content-length", b"content-md5", b"digest",
    b"repr-digest",
})  # fmt: skip


def converted(headers: Headers, content_type: bytes) -> Headers:
    """`headers` of the same content as `content_type`, the field in its old place.

    An entity-tag becomes weak: a strong one names one form's bytes, and two forms of one content
    may share a weak one (RFC 9110 section 8.8.1).
    """
    kept: Headers = []
    typed = False
    for pair in headers:
        name = pair[0].lower()
        if name == b"content-type":
            if not typed:
                typed = True
                kept.append((pair[0], content_type))
        elif name == b"etag":
            kept.append(weak(pair))
        elif name not in _OF_THE_BYTES:
            kept.append(pair)
    if not typed:
        kept.append((b"content-type", content_type))
    return kept


def weak(etag: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    name, value = etag
    return etag if value.startswith(b"W/") else (name, b"W/" + value)


def weakened(headers: Headers) -> Headers:
    """`headers` with weak entity-tags alone: of a 304, which has no body to describe."""
    return [weak(pair) if pair[0].lower() == b"etag" else pair for pair in headers]


def varying(headers: Headers, field: bytes) -> Headers:
    """`headers` that say that the answer depends on `field`, given as it is to be written."""
    named = {name.lower() for name in members(headers, b"vary")}
    if b"*" in named or field.lower() in named:
        return headers
    return [*headers, (b"vary", field)]
