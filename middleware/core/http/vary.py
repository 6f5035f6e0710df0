"""Which request fields an answer depends on (RFC 9110 section 12.5.5, RFC 9111 section 4.1)."""

from __future__ import annotations

from proxy.exchange import Headers

from .fields import TOKEN, members, values

ABSENT = b"\x00"
"""Value of a field that the request did not have. No field can carry it, not even an empty one."""
MAX_FIELDS = 64
"""An answer that names more is not stored: each of its hits would read them all."""

_CASELESS = frozenset({b"accept-charset", b"accept-encoding", b"accept-language"})


def selecting_fields(response_headers: Headers, request_headers: Headers) -> Headers | None:
    """The fields that `Vary` names, each (lower-case name, normalised value or ABSENT), sorted.

    None where no other request can match: `*` anywhere, a name that is none, over MAX_FIELDS.
    """
    names = {name.lower() for name in members(response_headers, b"vary")}
    if len(names) > MAX_FIELDS:
        return None
    if any(name == b"*" or TOKEN.fullmatch(name) is None for name in names):
        return None
    return [(name, _normalised(request_headers, name)) for name in sorted(names)]


def matches(vary: Headers, request_headers: Headers) -> bool:
    """Whether an answer stored with these selecting fields may serve this request."""
    return all(_normalised(request_headers, name) == value for name, value in vary)


def _normalised(headers: Headers, name: bytes) -> bytes:
    """Lines combined, white space around commas dropped, case where the field has none.

    The order of members stays: servers do prefer the first of two languages of equal weight,
    although RFC 9110 section 12.5.4 promises nothing.
    """
    if not values(headers, name):
        return ABSENT
    value = b",".join(members(headers, name))
    return value.lower() if name in _CASELESS else value
