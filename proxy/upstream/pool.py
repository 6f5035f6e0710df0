"""Keep-alive connections to one endpoint: how many there may be, and who waits for one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import deque

from .. import config
from ..deadline import Deadlines
from ..errors import ConnectFailed, Unavailable
from ..exchange import Gate, Request, Response
from .body import BodyWriter
from .endpoint import Endpoint as Endpoint
from .http1 import UpstreamConnection
from .stale import StaleConnection, may_repeat


class Pool:
    """Connections to one endpoint. A free one is used again, the most recent first.

    Over `max_connections` a request waits its turn, first come first served; a client that
    leaves gives up its place. Names are resolved anew for each connection, so that a kept one
    follows a changed address after `max_lifetime` at the latest.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        loop: asyncio.AbstractEventLoop,
        pool: config.Pool,
        timeouts: config.Timeouts,
        limits: config.ResponseLimits,
    ) -> None:
        self.endpoint = endpoint
        self.who = endpoint.told
        """The server, as errors call it."""
        self.alone = False
        """Nobody chooses before it: it asks a request's gate itself."""
        self.timeouts = timeouts
        self.limits = limits
        self._loop = loop
        self._bounds = pool
        self._idle: list[UpstreamConnection] = []
        self._waiting: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self.open = 0
        """Connections there are or that are being made."""
        self.opened = 0
        """Connections ever made."""
        self.first_byte: Deadlines[UpstreamConnection] = Deadlines(
            loop, timeouts.first_byte, UpstreamConnection.first_byte_late
        )

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def busy(self) -> int:
        """Exchanges under way, and those that wait for a connection: what balancing counts."""
        return self.open - len(self._idle) + len(self._waiting)

    async def send(self, request: Request) -> Response:
        """One exchange. Raises UpstreamError, or Unavailable when too many wait already."""
        if request.gate is not None and self.alone:
            self._ask(request.gate)
        request.endpoint = self.endpoint.name
        body = request.body
        writer = None
        if not isinstance(body, bytes):
            # The length of a body that a layer put in the place of the client's is not known.
            writer = BodyWriter(body, request.chunked or body is not request.declared)
        connection = self._take() or await self._get()
        try:
            return await connection.exchange(request, writer)
        except StaleConnection as stale:
            if writer is not None and not writer.replayable:
                raise
            if stale.sent and not may_repeat(request):
                raise
            try:
                connection = await self._get(fresh=True)
            except ConnectFailed as error:
                # That nothing was sent is true of the fresh one only.
                stale.detail = error.detail
                raise stale from None
        return await connection.exchange(request, writer)

    def _ask(self, gate: Gate) -> None:
        name = self.endpoint.name
        if not gate.admits(name):
            raise no_endpoint()
        gate.chosen(name)

    # -- what connections tell

    def release(self, connection: UpstreamConnection) -> None:
        """An exchange has ended and the connection can carry another."""
        bounds = self._bounds
        now = self._loop.time()
        if now - connection.born > bounds.max_lifetime:
            connection.close()
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if len(self._idle) >= bounds.max_idle:
            connection.close()
            return
        connection.idle_since = now
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(bounds.idle_timeout, self._sweep)

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection is no more."""
        if connection.used:
            with contextlib.suppress(ValueError):
                self._idle.remove(connection)
        self._slot_freed()

    # -- getting one

    def _take(self) -> UpstreamConnection | None:
        idle, bounds = self._idle, self._bounds
        while idle:
            connection = idle.pop()
            now = self._loop.time()
            if (
                connection.usable
                and now - connection.idle_since < bounds.idle_timeout
                and now - connection.born <= bounds.max_lifetime
            ):
                return connection
            connection.close()
        return None

    async def _get(self, fresh: bool = False) -> UpstreamConnection:
        """A kept connection or a new one; `fresh` asks for a new one, surely alive."""
        if not fresh and (connection := self._take()):
            return connection
        while self.open >= self._bounds.max_connections:
            handed = self._idle.pop(0) if fresh and self._idle else await self._wait()
            if handed is None:
                return await self._connect()
            if not fresh:
                return handed
            if handed.usable:
                handed.close()  # only its slot is wanted, which its end gives up
                break
        self.open += 1
        return await self._connect()

    async def _wait(self) -> UpstreamConnection | None:
        """Until a connection is handed over, or (None) a slot to make one."""
        if self.waiting >= self._bounds.max_waiting:
            raise Unavailable(
                f"{self._bounds.max_waiting} requests wait for a connection to {self.who}",
                code="upstream_pool_full",
                retry_after=1,
            )
        waiter = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._bounds.wait_timeout):
                connection: UpstreamConnection | None = await waiter
                return connection
        except TimeoutError:
            self._pass_on(waiter)
            raise Unavailable(
                f"no connection to {self.who} became free in time",
                code="upstream_pool_timeout",
                retry_after=1,
            ) from None
        except asyncio.CancelledError:
            self._pass_on(waiter)
            raise

    def _pass_on(self, waiter: asyncio.Future[UpstreamConnection | None]) -> None:
        """What a waiter got in the moment it gave up belongs to the next one."""
        if waiter.done() and not waiter.cancelled():
            if (handed := waiter.result()) is not None:
                self.release(handed)
            else:
                self._slot_freed()
        else:
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)

    def _slot_freed(self) -> None:
        self.open -= 1
        while self._waiting and self.open < self._bounds.max_connections:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self.open += 1  # the slot changes hands
                waiter.set_result(None)
                return

    async def _connect(self) -> UpstreamConnection:
        """A new connection in a slot that is ours. Raises ConnectFailed."""
        endpoint = self.endpoint
        connection = UpstreamConnection(self, self._loop)
        try:
            async with asyncio.timeout(self.timeouts.connect):
                if endpoint.path:
                    await self._loop.create_unix_connection(
                        lambda: connection,
                        endpoint.path,
                        ssl=endpoint.tls,
                        server_hostname=endpoint.server_name if endpoint.tls else None,
                    )
                else:
                    await self._loop.create_connection(
                        lambda: connection,
                        endpoint.host,
                        endpoint.port,
                        ssl=endpoint.tls,
                        server_hostname=endpoint.server_name if endpoint.tls else None,
                    )
        except BaseException as error:
            # uvloop tells no end of a connection that was made in the moment of a cancellation.
            connection.counted = False
            connection.abort()
            self._slot_freed()
            if isinstance(error, TimeoutError):
                raise ConnectFailed(
                    f"no connection to {self.who} within {self.timeouts.connect:g} s",
                    detail=endpoint.name,
                    status=504,
                    code="upstream_connect_timeout",
                ) from None
            if isinstance(error, OSError):
                raise ConnectFailed(
                    f"cannot connect to {self.who}: {_why(error)}",
                    detail=f"{endpoint.name}: {getattr(error, 'verify_message', error)}",
                ) from error
            raise
        self.opened += 1
        return connection

    def _sweep(self) -> None:
        """Closes what has been idle too long; they stand in the order they fell idle."""
        self._sweeper = None
        oldest = self._loop.time() - self._bounds.idle_timeout
        while self._idle and self._idle[0].idle_since <= oldest:
            self._idle.pop(0).close()
        if self._idle:
            due = self._idle[0].idle_since + self._bounds.idle_timeout
            self._sweeper = self._loop.call_at(due, self._sweep)

    def close(self) -> None:
        """Closes what is idle and lets go of timers; what is busy ends with its exchange."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        while self._idle:
            self._idle.pop().close()
        self.first_byte.close()


def no_endpoint() -> Unavailable:
    """Every endpoint there is was refused by the request's gate."""
    return Unavailable("no endpoint may take the request now", code="no_endpoint", retry_after=1)


def _why(error: OSError) -> str:
    """Without what the error itself may quote: an address, the name in a certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not trusted"
    if isinstance(error, ssl.SSLError):
        return "the TLS handshake failed"
    if isinstance(error, socket.gaierror):
        return "its name was not found"
    return os.strerror(error.errno) if error.errno else "no address takes connections"
