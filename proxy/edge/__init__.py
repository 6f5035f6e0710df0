"""The edge: where clients connect."""

from __future__ import annotations

import asyncio

from .. import config
from ..headers import Forwarder
from ..router import Router
from ..telemetry import RouteStats
from .connection import ClientConnection
from .parser import HeadLimits


class Edge:
    """What all client connections of a process share."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        router: Router,
        limits: config.Limits,
        forward: Forwarder | None,
    ) -> None:
        self.loop = loop
        self.router = router
        self.limits = limits
        self.head_limits = HeadLimits(limits.request_line, limits.head, limits.headers)
        self.forward = forward
        self.unrouted = RouteStats()
        """Numbers of what no route took: refused heads, and paths that nobody owns."""
        self.connections: set[ClientConnection] = set()
        self.draining = False
        # One timer looks after all connections: their waits are long, and a request then costs
        # an assignment instead of a timer.
        self._tick = max(0.05, min(1.0, limits.head_timeout / 4, limits.idle_timeout / 4))
        self._timer: asyncio.TimerHandle | None = None

    def plain(self) -> ClientConnection:
        return ClientConnection(self, "http")

    def secure(self) -> ClientConnection:
        return ClientConnection(self, "https")

    def start(self) -> None:
        self._timer = self.loop.call_later(self._tick, self._expire)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def in_flight(self) -> int:
        return self.unrouted.in_flight + sum(route.stats.in_flight for route in self.router.routes)

    def close_idle(self, idle_for: float) -> None:
        """Closes connections without a request for `idle_for` seconds."""
        now = self.loop.time()
        for connection in list(self.connections):
            connection.drained(idle_for, now)

    async def abort_all(self) -> None:
        """Aborts every connection; done when each exchange has told its `on_end`."""
        tasks = [client.task for client in self.connections if client.task is not None]
        for connection in list(self.connections):
            connection.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _expire(self) -> None:
        now = self.loop.time()
        for connection in list(self.connections):
            connection.expire(now)
        self._timer = self.loop.call_later(self._tick, self._expire)
