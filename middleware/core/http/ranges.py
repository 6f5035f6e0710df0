"""One range of bytes out of a stored answer (RFC 9110 section 14)."""

from __future__ import annotations

import re

from proxy.exchange import Headers, header

from .dates import parse_date
from .fields import OWS, values

_ONE_RANGE = re.compile(rb"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)


def is_range(request_headers: Headers) -> bool:
    """Whether the client asks for a part."""
    return bool(values(request_headers, b"range"))


def pick(
    method: bytes,
    request_headers: Headers,
    status: int,
    stored_headers: Headers,
    length: int,
    now: float,
) -> tuple[int, int] | None:
    """First and last byte, counted from 0, of the part to answer 206 with.

    length: bytes of the stored body. None: answer with the whole, or ask upstream: there is no
    Range, it names several parts or none that is there, or If-Range finds another version.
    """
    asked = values(request_headers, b"range")
    if method != b"GET" or status != 200 or len(asked) != 1:
        return None
    found = _ONE_RANGE.fullmatch(asked[0])
    if found is None or not _same_version(request_headers, stored_headers, now):
        return None
    first, last = found.groups()
    if not first:
        start = length - min(int(last or b"0"), length)
        end = length - 1
    else:
        start = int(first)
        end = min(int(last), length - 1) if last else length - 1
    return (start, end) if start <= end else None


def partial_headers(stored_headers: Headers, first: int, last: int, length: int) -> Headers:
    """The stored fields as those of a 206. Raises nothing; `pick` gives first and last."""
    kept = [pair for pair in stored_headers if pair[0].lower() != b"content-length"]
    return [
        *kept,
        (b"content-range", b"bytes %d-%d/%d" % (first, last, length)),
        (b"content-length", b"%d" % (last - first + 1)),
    ]


def _same_version(request_headers: Headers, stored_headers: Headers, now: float) -> bool:
    """If-Range: strong comparison, or the very Last-Modified (section 13.1.5)."""
    condition = header(request_headers, b"if-range")
    if condition is None:
        return True
    condition = condition.strip(OWS)
    if condition[:1] == b'"':
        return condition == header(stored_headers, b"etag")
    modified = parse_date(header(stored_headers, b"last-modified") or b"", now)
    sent = parse_date(header(stored_headers, b"date") or b"", now)
    if modified is None or sent is None or parse_date(condition, now) != modified:
        return False
    # A file may change twice within one second (section 8.8.2.2).
    return sent - modified >= 1
