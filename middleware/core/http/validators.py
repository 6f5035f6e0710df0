"""Entity-tags and dates: asking whether an answer still holds, and telling (RFC 9110 section 13).

Also what a 304 and an answer to HEAD change of what is stored (RFC 9111 sections 3.2, 4.3).
"""

from __future__ import annotations

from proxy.exchange import Headers, header

from .dates import parse_date
from .fields import OWS, members, values
from .storing import storable_headers

_CONDITIONS = frozenset({
    b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range",
    b"range",
})  # fmt: skip
_KEPT = frozenset({b"content-length", b"content-encoding", b"content-range"})
_ONLY_WITH_BODY = frozenset({
    b"content-encoding", b"content-language", b"content-length", b"content-md5", b"content-range",
    b"content-type",
})  # fmt: skip


def conditional_headers(stored_headers: Headers) -> Headers:
    """The fields that ask the origin whether the stored answer still holds; empty: none can."""
    asked: Headers = []
    etag = header(stored_headers, b"etag")
    if etag:
        asked.append((b"if-none-match", etag))
    modified = header(stored_headers, b"last-modified")
    if modified:
        asked.append((b"if-modified-since", modified))
    return asked


def revalidation(request_headers: Headers, stored_headers: Headers) -> Headers:
    """The request's fields with the cache's conditions in place of the client's and of Range."""
    kept = [pair for pair in request_headers if pair[0].lower() not in _CONDITIONS]
    return kept + conditional_headers(stored_headers)


def not_modified(
    method: bytes, request_headers: Headers, stored_headers: Headers, status: int, now: float
) -> bool:
    """Whether the client holds this answer already and gets 304 (RFC 9110 section 13.2.2)."""
    if method not in (b"GET", b"HEAD") or not 200 <= status <= 299:
        return False
    if values(request_headers, b"if-none-match"):
        return _any_matches(request_headers, header(stored_headers, b"etag"))
    since = values(request_headers, b"if-modified-since")
    if len(since) != 1:
        return False
    limit = parse_date(since[0].strip(OWS), now)
    # Without Last-Modified, the answer is as old as its Date (RFC 9111 section 4.3.2).
    changed = header(stored_headers, b"last-modified") or header(stored_headers, b"date")
    modified = None if changed is None else parse_date(changed.strip(OWS), now)
    return limit is not None and modified is not None and modified <= limit


def not_modified_headers(stored_headers: Headers) -> Headers:
    """The fields of a 304: the stored ones but those that describe a body (section 15.4.5)."""
    return [pair for pair in stored_headers if pair[0].lower() not in _ONLY_WITH_BODY]


def confirms(stored_headers: Headers, fresh_headers: Headers) -> bool:
    """Whether a 304 speaks of the stored answer (RFC 9111 section 4.3.4).

    If not, nothing may be updated by it: ask again without conditions.
    """
    stored, fresh = header(stored_headers, b"etag"), header(fresh_headers, b"etag")
    if fresh is not None and not fresh.startswith(b"W/"):
        return fresh == stored
    if fresh is not None and stored is not None:
        return _opaque(fresh) == _opaque(stored)
    modified = header(fresh_headers, b"last-modified")
    return modified is None or modified == header(stored_headers, b"last-modified")


def merge_304(stored_headers: Headers, fresh_headers: Headers, shared: bool = True) -> Headers:
    """The stored fields, each replaced by the 304's own of that name (RFC 9111 section 3.2).

    Content-Length, Content-Encoding and Content-Range stay: the stored bytes depend on them. Date
    goes where the 304 has none: the answer is as new as the 304 is.
    """
    fresh = [
        pair for pair in storable_headers(fresh_headers, shared) if pair[0].lower() not in _KEPT
    ]
    replaced = {name.lower() for name, _ in fresh_headers} - _KEPT | {b"age", b"date"}
    return [pair for pair in stored_headers if pair[0].lower() not in replaced] + fresh


def head_from_get(stored_headers: Headers, length: int) -> Headers:
    """The fields that answer HEAD from a stored GET. length: bytes of the stored body."""
    if values(stored_headers, b"content-length"):
        return list(stored_headers)
    return [*stored_headers, (b"content-length", b"%d" % length)]


def _any_matches(request_headers: Headers, etag: bytes | None) -> bool:
    """If-None-Match: weak comparison with each member; `*` matches anything that is stored."""
    asked = members(request_headers, b"if-none-match", escapes=False)
    if asked == [b"*"]:
        return True
    return etag is not None and any(_opaque(one) == _opaque(etag) for one in asked)


def _opaque(etag: bytes) -> bytes:
    etag = etag.strip(OWS)
    return etag[2:] if etag.startswith(b"W/") else etag
