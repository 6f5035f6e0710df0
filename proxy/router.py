"""Which route a request takes. Everything about a route is decided before the first request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .apis import Api
from .chain import Handler
from .errors import NoRoute
from .exchange import Request
from .telemetry import RouteStats

MEMO_ENTRIES = 1024
"""Distinct (method, path) pairs remembered; paths come from clients, so it is emptied when full."""

MAX_DOUBTFUL = 1024
"""Bytes of a path that servers may read in several ways; a longer one has no route, where routes
go by the path. Each way costs time, and clients choose how many there are.
"""

MAX_READINGS = 32
"""Ways to read a path; one with more has no route, where routes go by the path."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route, ready to serve. path: the whole path, or with `prefix` its beginning."""

    name: str
    handler: Handler
    path: bytes = b"/"
    prefix: bool = True
    methods: frozenset[bytes] | None = None
    host: bytes | None = None
    api: Api | None = None
    max_body: int | None = None
    stats: RouteStats = field(default_factory=RouteStats)

    def takes(self, method: bytes, path: bytes) -> bool:
        if self.methods is not None and method not in self.methods:
            return False
        if not self.prefix:
            return path == self.path
        # `OPTIONS *` asks about the server as a whole: whoever has every path has that, too.
        return path.startswith(self.path) or (path == b"*" and self.path == b"/")


class Router:
    """The first route that matches takes the request. The path is matched as the client wrote it,
    because the upstream gets those very bytes. Where a server may read them as another path, the
    routes must be the same for both, or there is none.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = routes
        self._by_path = any(route.path != b"/" or not route.prefix for route in routes)
        self._memo: dict[tuple[bytes, bytes], tuple[Route, ...]] = {}

    def find(self, request: Request) -> Route:
        """Raises NoRoute."""
        key = (request.method, request.path)
        candidates = self._memo.get(key)
        if candidates is None:
            candidates = self._candidates(*key)
            if len(self._memo) >= MEMO_ENTRIES:
                self._memo.clear()
            self._memo[key] = candidates
        for route in candidates:
            if route.host is None or route.host == _host(request):
                return route
        raise NoRoute("no route of this proxy takes this method, host and path")

    def _candidates(self, method: bytes, path: bytes) -> tuple[Route, ...]:
        """None where a server may read the path otherwise, and other routes would take it so: its
        layers, `auth` among them, must not be walked around.
        """
        written = tuple(route for route in self.routes if route.takes(method, path))
        if not self._by_path or not _DOUBTFUL.search(path):
            return written
        if len(path) > MAX_DOUBTFUL:
            return ()
        ways = readings(path)
        if len(ways) > MAX_READINGS:
            return ()
        for reading in ways:
            if tuple(route for route in self.routes if route.takes(method, reading)) != written:
                return ()
        return written


_DOUBTFUL = re.compile(rb"//|/\.|[%\\;]")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_ESCAPED_BUT_SLASHES = re.compile(rb"%((?!2[Ff]|5[Cc])[0-9A-Fa-f]{2})")
_PARAMETERS = re.compile(rb";[^/]*")
_SLASHES = re.compile(rb"/{2,}")


def readings(path: bytes) -> set[bytes]:
    """What servers make of a path: escapes decoded, with or without those of slashes, parameters
    dropped, empty segments joined, dot segments removed (RFC 3986 section 6.2.2), in any order and
    any number of times. One more than MAX_READINGS at most.
    """
    found = {path}
    looked_at: list[bytes] = [path]
    for one in looked_at:
        for reading in (
            _ESCAPED.sub(_decoded, one),
            _ESCAPED_BUT_SLASHES.sub(_decoded, one),
            one.replace(b"\\", b"/"),
            _PARAMETERS.sub(b"", one),
            _SLASHES.sub(b"/", one),
            _without_dots(one),
        ):
            if reading not in found:
                found.add(reading)
                looked_at.append(reading)
                if len(found) > MAX_READINGS:
                    return found
    return found


def _decoded(escape: re.Match[bytes]) -> bytes:
    return bytes((int(escape[1], 16),))


def _without_dots(path: bytes) -> bytes:
    """RFC 3986 section 5.2.4."""
    kept: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments:
        if segment == b"..":
            if len(kept) > 1:
                kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/".join(kept)


def _host(request: Request) -> bytes:
    host = (request.header(b"host") or b"").lower()
    if host.startswith(b"["):
        return host.partition(b"]")[0] + b"]"
    return host.partition(b":")[0]
