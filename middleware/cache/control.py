"""What a client wishes of the cache: Cache-Control (RFC 9111 section 5.2.1), `x-remora-cache`."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.exchange import Headers


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


def wishes(headers: Headers) -> Wishes | None:
    """None: the client wants the cache left out."""
    control: list[bytes] = []
    switch: bytes | None = None
    pragma = False
    for name, value in headers:
        low = name.lower()
        if low == b"cache-control":
            control.append(value)
        elif low == SWITCH:
            switch = value.strip().lower()
        elif low == b"pragma":
            pragma = b"no-cache" in value.lower()
    if not control and switch is None and not pragma:
        return NONE
    if switch == b"off":
        return None
    read, write = _SWITCHES.get(switch or b"on", (True, True))
    return _directives(control, read=read and not (pragma and not control), write=write)


def without_switch(headers: Headers) -> Headers:
    """`headers` less remora's own switch, which is none of the upstream's business."""
    for name, _ in headers:
        if len(name) == len(SWITCH) and name.lower() == SWITCH:
            return [pair for pair in headers if pair[0].lower() != SWITCH]
    return headers


def _directives(control: list[bytes], *, read: bool, write: bool) -> Wishes:
    only = False
    max_age: float | None = None
    min_fresh = 0.0
    max_stale: float | None = None
    for directive in b",".join(control).lower().split(b","):
        name, _, argument = directive.strip(b" \t").partition(b"=")
        seconds = _seconds(argument)
        if name == b"no-store":
            read = write = False
        elif name == b"no-cache":
            read = False
        elif name == b"only-if-cached":
            only = True
        elif name == b"max-age" and seconds is not None:
            max_age = seconds
        elif name == b"min-fresh" and seconds is not None:
            min_fresh = seconds
        elif name == b"max-stale":
            max_stale = seconds if argument else float("inf")
    return Wishes(read, write, only, max_age, min_fresh, max_stale)


def _seconds(argument: bytes) -> float | None:
    text = argument.strip(b'"')
    return float(min(int(text[:11]), 2**31)) if text.isdigit() else None
