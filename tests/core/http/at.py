"""A moment that the tables share, and dates around it."""

from __future__ import annotations

from email.utils import formatdate

from proxy.exchange import Headers

NOW = 1_790_000_000.0


def http_date(seconds: float = 0.0) -> bytes:
    """IMF-fixdate, so many seconds after NOW."""
    return formatdate(NOW + seconds, usegmt=True).encode()


def head(*lines: str) -> Headers:
    """`Name: value` lines as headers; `@-60` in a value's place is the date a minute before NOW."""
    headers: Headers = []
    for line in lines:
        name, _, value = line.partition(": ")
        raw = value.encode("latin-1")
        if value.startswith("@"):
            raw = http_date(float(value[1:]))
        headers.append((name.encode(), raw))
    return headers
