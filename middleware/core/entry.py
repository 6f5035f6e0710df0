"""A stored answer, and what is known of it. Immutable once stored; shared by tiers and replicas."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proxy.exchange import Headers


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer, whole.

    stored_at: wall-clock seconds when its head came. age: seconds old already by then (RFC 9111
    section 4.2.3). lifetime: seconds of freshness, counted from age 0. keep: seconds from
    stored_at during which it is of any use: fresh, stale within a window, or to revalidate.
    vary: the request fields (lower-case name, value) that its answer depends on. cost: seconds
    that the upstream took; tokens: what it counted. pieces: sizes of a stream's events, for
    playing it back; () for a plain body. shown: a place where whoever serves it keeps what all
    answers made of it have in common.
    """

    status: int
    reason: bytes
    headers: Headers
    body: bytes
    stored_at: float
    lifetime: float
    keep: float
    age: float = 0.0
    trailers: Headers = field(default_factory=list)
    vary: Headers = field(default_factory=list)
    route: str = ""
    model: str = ""
    tags: tuple[str, ...] = ()
    cost: float = 0.0
    tokens: int = 0
    pieces: tuple[int, ...] = ()
    shown: Any = field(default=None, init=False, repr=False, compare=False)
