"""Which answers may be stored, and which of their fields (RFC 9111 section 3)."""

from __future__ import annotations

from proxy.exchange import Headers

from .cache_control import parse
from .fields import members, values
from .freshness import HEURISTIC, explicit
from .vary import selecting_fields

UNDERSTOOD = frozenset(
    {200, 201, 202, 203, 204, 205, 300, 301, 302, 303, 307, 308, *range(400, 418), 421, 422, 426}
    | set(range(500, 506))
)
"""Final statuses of RFC 9110 section 15 that this cache stores: what `must-understand` asks for."""

_CONNECTION = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade",
    b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization",
})  # fmt: skip
_NEEDED = frozenset({
    b"cache-control", b"content-encoding", b"content-length", b"content-type", b"vary",
})  # fmt: skip


def storable(
    method: bytes,
    request_headers: Headers,
    status: int,
    response_headers: Headers,
    shared: bool = True,
) -> bool:
    """Whether an answer may be stored and is of use later: fresh, or to be revalidated.

    Only of GET. For another method that a layer knows to be safe, ask `forbidden`. shared: several
    clients are served from it (obey `private`, `s-maxage` and the rules on Authorization).
    """
    if method != b"GET" or forbidden(request_headers, status, response_headers, shared):
        return False
    if explicit(response_headers, shared):
        return True
    validated = values(response_headers, b"etag") or values(response_headers, b"last-modified")
    return bool(validated) and (status in HEURISTIC or b"public" in parse(response_headers))


def forbidden(
    request_headers: Headers, status: int, response_headers: Headers, shared: bool = True
) -> bool:
    """Whether client or origin forbids to store the answer, whatever the method.

    So is what this cache could not serve: 1xx, 206, 304, `Vary: *`, and answers of which
    `no-cache` or `private` names a field that the rest means nothing without.
    """
    if not 200 <= status <= 599 or status in (206, 304):
        return True
    rules = parse(response_headers)
    if b"must-understand" in rules:
        if status not in UNDERSTOOD:
            return True
    elif b"no-store" in rules:
        return True
    if b"no-store" in parse(request_headers):
        return True
    if shared and rules.unqualified(b"private"):
        return True
    if shared and values(request_headers, b"authorization") and not _for_others(response_headers):
        return True
    if _withheld(response_headers, shared) & _NEEDED:
        return True
    return selecting_fields(response_headers, request_headers) is None


def is_of_the_call(name: bytes) -> bool:
    """Whether a field, its name in lower case, tells of one exchange and not of what was asked for:
    Age, how much a client may still ask, and what remora did.
    """
    return name == b"age" or name.startswith((b"ratelimit", b"x-ratelimit-", b"x-remora-"))


def storable_headers(response_headers: Headers, shared: bool = True) -> Headers:
    """The fields to store (section 3.1).

    Without those of the connection or of a proxy's own credentials, without what `no-cache` or
    `private` names, and without those of the call, such as Age, which whoever serves the answer
    writes anew.
    """
    dropped = _CONNECTION | _withheld(response_headers, shared)
    dropped |= {name.lower() for name in members(response_headers, b"connection")}
    return [
        pair
        for pair in response_headers
        if (low := pair[0].lower()) not in dropped and not is_of_the_call(low)
    ]


def _for_others(response_headers: Headers) -> bool:
    """Whether an answer to a request with credentials may serve one without (section 3.5)."""
    rules = parse(response_headers)
    return b"public" in rules or b"must-revalidate" in rules or b"s-maxage" in rules


def _withheld(response_headers: Headers, shared: bool) -> frozenset[bytes]:
    """Fields that need a validation before each use, and those of one person."""
    rules = parse(response_headers)
    named = rules.fields(b"no-cache")
    return named | rules.fields(b"private") if shared else named
