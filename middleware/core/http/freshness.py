"""How long an answer is fresh, and how old it is (RFC 9111 section 4.2). Times in seconds."""

from __future__ import annotations

import math

from proxy.exchange import Headers

from .cache_control import MAX_SECONDS, delta_seconds, parse
from .dates import parse_date
from .fields import OWS, values

HEURISTIC = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""Statuses that may be reused without explicit freshness (RFC 9110 section 15.1)."""
HEURISTIC_SHARE = 0.1
"""Of the time since Last-Modified, the part for which an answer is taken to be fresh."""
HEURISTIC_MAX = 86400.0
CLOCK_SKEW = 2.0
"""How far the clocks of two replicas may be apart."""


def lifetime(
    status: int, response_headers: Headers, response_time: float, shared: bool = True
) -> float:
    """Seconds of freshness, counted from age 0 (section 4.2.1). 0 where nothing tells any.

    response_time: when the head came, wall clock. shared: obey `s-maxage`.
    """
    rules = parse(response_headers)
    if shared and b"s-maxage" in rules:
        return float(rules.seconds(b"s-maxage"))
    if b"max-age" in rules:
        return float(rules.seconds(b"max-age"))
    date = _date(response_headers, b"date", response_time)
    born = response_time if date is None else date
    if values(response_headers, b"expires"):
        expires = _date(response_headers, b"expires", response_time)
        return 0.0 if expires is None else min(max(expires - born, 0.0), float(MAX_SECONDS))
    if status not in HEURISTIC and b"public" not in rules:
        return 0.0
    # An answer that sets a cookie may be one person's; only its origin can say that it is not.
    modified = _date(response_headers, b"last-modified", response_time)
    if modified is None or values(response_headers, b"set-cookie"):
        return 0.0
    return min(max(born - modified, 0.0) * HEURISTIC_SHARE, HEURISTIC_MAX)


def explicit(response_headers: Headers, shared: bool = True) -> bool:
    """Whether the origin says how long, be it zero or nonsense (section 4.2.1)."""
    rules = parse(response_headers)
    return (
        b"max-age" in rules
        or (shared and b"s-maxage" in rules)
        or bool(values(response_headers, b"expires"))
    )


def initial_age(response_headers: Headers, request_time: float, response_time: float) -> float:
    """Seconds that an answer was old already when its head came (section 4.2.3).

    request_time, response_time: wall clock, when the request left and the head came.
    """
    date = _date(response_headers, b"date", response_time)
    # Date has whole seconds, so the clock is read in whole seconds beside it.
    apparent = 0.0 if date is None else max(0.0, math.floor(response_time) - date)
    delay = max(0.0, response_time - request_time)
    return min(max(apparent, _age(response_headers) + delay), float(MAX_SECONDS))


def current_age(age: float, stored_at: float, now: float) -> float:
    """Seconds that an answer is old at `now`, which had `age` at `stored_at`.

    One from the future was stored before the clock was set back. How old it is cannot be known:
    it counts as older than any lifetime.
    """
    if now < stored_at - CLOCK_SKEW:
        return float(MAX_SECONDS)
    return min(age + max(0.0, now - stored_at), float(MAX_SECONDS))


def _age(headers: Headers) -> int:
    """Age's first member; 0 where it is no number (section 5.1)."""
    lines = values(headers, b"age")
    first = lines[0].partition(b",")[0].strip(OWS) if lines else b""
    return delta_seconds(first) or 0


def _date(headers: Headers, name: bytes, now: float) -> float | None:
    lines = values(headers, name)
    return parse_date(lines[0].strip(OWS), now) if lines else None
