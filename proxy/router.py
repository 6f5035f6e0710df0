"""Which route a request takes. Everything about a route is decided before the first request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .apis import Api
from .chain import Handler
from .errors import NoRoute
from .exchange import Request
from .telemetry import RouteStats

MEMO_ENTRIES = 1024
"""Distinct (method, path) pairs remembered; paths come from clients, so it is emptied when full."""


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
    """The first route that matches takes the request. The path is matched as the client wrote it:
    nothing is decoded or normalised, because the upstream gets those very bytes.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = routes
        self._memo: dict[tuple[bytes, bytes], tuple[Route, ...]] = {}

    def find(self, request: Request) -> Route:
        """Raises NoRoute."""
        key = (request.method, request.path)
        candidates = self._memo.get(key)
        if candidates is None:
            candidates = tuple(route for route in self.routes if route.takes(*key))
            if len(self._memo) >= MEMO_ENTRIES:
                self._memo.clear()
            self._memo[key] = candidates
        for route in candidates:
            if route.host is None or route.host == _host(request):
                return route
        raise NoRoute("no route of this proxy takes this method, host and path")


def _host(request: Request) -> bytes:
    host = (request.header(b"host") or b"").lower()
    if host.startswith(b"["):
        return host.partition(b"]")[0] + b"]"
    return host.partition(b":")[0]
