"""What a client wishes of the cache: Cache-Control (RFC 9111 section 5.2.1), `x-remora-cache`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.exchange import Headers

from ..core.http.cache_control import Directives, parse


@dataclass(frozen=True, slots=True)
class Wishes:
    """read, write: whether a stored answer may be used, the new one stored. Seconds otherwise."""

    read: bool = True
    write: bool = True
    only_if_cached: bool = False
    max_age: float | None = None
    min_fresh: float = 0.0
    max_stale: float | None = None


NONE = Wishes()

SWITCH = b"x-remora-cache"
_SWITCHES = {
    b"on": (True, True),
    b"read-only": (True, False),
    b"write-only": (False, True),
}


def wishes(headers: Iterable[tuple[bytes, bytes]]) -> Wishes | None:
    """None: the client wants the cache left out."""
    controlled = pragma = False
    switch: bytes | None = None
    for name, value in headers:
        low = name.lower()
        if low == b"cache-control":
            controlled = True
        elif low == SWITCH:
            switch = value.strip().lower()
        elif low == b"pragma":
            pragma = b"no-cache" in value.lower()
    if not controlled and switch is None and not pragma:
        return NONE
    if switch == b"off":
        return None
    read, write = _SWITCHES.get(switch or b"on", (True, True))
    if not controlled:
        # Pragma counts only where there is no Cache-Control (RFC 9111 section 5.4).
        return Wishes(read and not pragma, write)
    rules = parse(list(headers))
    stored = b"no-store" not in rules
    return Wishes(
        read and stored and b"no-cache" not in rules,
        write and stored,
        b"only-if-cached" in rules,
        _seconds(rules, b"max-age"),
        _seconds(rules, b"min-fresh") or 0.0,
        _stale(rules),
    )


def without_switch(headers: Headers) -> Headers:
    """`headers` less remora's own switch, which is none of the upstream's business."""
    for name, _ in headers:
        if len(name) == len(SWITCH) and name.lower() == SWITCH:
            return [pair for pair in headers if pair[0].lower() != SWITCH]
    return headers


def _seconds(rules: Directives, name: bytes) -> float | None:
    return float(rules.seconds(name)) if name in rules else None


def _stale(rules: Directives) -> float | None:
    if b"max-stale" in rules and rules.argument(b"max-stale") is None:
        return float("inf")
    return _seconds(rules, b"max-stale")
