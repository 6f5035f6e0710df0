"""One serving process: its listeners, and what becomes of them when serving ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from . import config
from .address import Address
from .assembly import Assembly
from .control import Controls
from .edge import Edge
from .headers import forwarder
from .telemetry import Telemetry
from .tls import CertificateWatch, server_context

log = logging.getLogger("remora")

BACKLOG = 1024
"""Connections the kernel keeps for us before they are accepted."""
SETTLE = 1.0
"""Seconds without a request after which a kept connection is closed while draining."""
HANDSHAKE_TIMEOUT = 10.0
"""Seconds for a client's TLS handshake."""


class CannotListen(OSError):
    """An address could not be bound; the message says which and why."""


def bind(address: Address) -> socket.socket:
    """A listening socket. Raises CannotListen."""
    try:
        if address.path is not None:
            return _bind_unix(address.path)
        found = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        if address.host:
            return _bind_tcp(found[0], only_ipv6=True)
        # Of the wildcard's two families IPv6 serves IPv4 clients, too; not every kernel has it.
        found.sort(key=lambda one: one[0] != socket.AF_INET6)
        try:
            return _bind_tcp(found[0], only_ipv6=False)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            return _bind_tcp(found[-1], only_ipv6=False)
    except OSError as error:
        why = "the address is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise CannotListen(f"cannot listen on {describe(address)}: {why}") from error


def _bind_unix(path: str) -> socket.socket:
    _clear_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    return _listening(sock, path)


def _bind_tcp(found: tuple[Any, ...], *, only_ipv6: bool) -> socket.socket:
    family, kind, protocol, _, where = found
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only_ipv6))
    return _listening(sock, where)


def _listening(sock: socket.socket, where: Any) -> socket.socket:
    try:
        sock.bind(where)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def describe(address: Address) -> str:
    if address.path is not None:
        return f"unix:{address.path}"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"


def _clear_stale(path: str) -> None:
    """A socket file that nobody listens on any more is in the way; anything else is not ours."""
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
        except OSError:
            return


class Server:
    """Serves a file's listeners with one loop. sockets: bound already, in the listeners' order."""

    def __init__(self, file: config.Config, sockets: Sequence[socket.socket] | None = None) -> None:
        self.config = file
        self.telemetry = Telemetry()
        self.ready = False
        self._sockets = list(sockets) if sockets is not None else None
        self._owns_paths = sockets is None
        self._listeners: list[asyncio.Server] = []
        self._watch: asyncio.Task[None] | None = None
        self._assembly: Assembly | None = None
        self._edge: Edge | None = None

    @property
    def addresses(self) -> list[str]:
        """Where clients connect, with the port that was chosen where the file said 0."""
        out = []
        for listener, sock in zip(self.config.listen, self._sockets or (), strict=False):
            address = listener.parsed
            if address.path is None:
                address = Address(address.host or "0.0.0.0", sock.getsockname()[1])
            out.append(describe(address))
        return out

    @property
    def edge(self) -> Edge:
        assert self._edge is not None, "the server was not started"
        return self._edge

    @property
    def controls(self) -> Controls:
        """What the layers offer on the admin port; nothing before there are layers."""
        return self._assembly.env.controls if self._assembly is not None else Controls()

    async def start(self) -> None:
        """Builds what the file names and listens. Raises CannotListen, or what a layer raises."""
        loop = asyncio.get_running_loop()
        file = self.config
        self._assembly = assembly = Assembly(file, loop, self.telemetry)
        forward = forwarder(file.forwarded, file.trusted_proxies, file.trace == "make")
        self._edge = edge = Edge(loop, assembly.router, file.limits, forward)
        self.telemetry.watch(
            [*((route.name, route.stats) for route in assembly.router.routes),
             ("other", edge.unrouted)],
            assembly.pool_numbers,
            lambda: len(edge.connections),
        )  # fmt: skip
        await assembly.start()
        if self._sockets is None:
            self._sockets = [bind(listener.parsed) for listener in file.listen]
        watched = []
        for listener, sock in zip(file.listen, self._sockets, strict=True):
            context = None
            if listener.tls is not None:
                context = server_context(listener.tls)
                watched.append((listener.tls, context))
            self._listeners.append(
                await loop.create_server(
                    edge.plain if context is None else edge.secure,
                    sock=sock,
                    ssl=context,
                    ssl_handshake_timeout=HANDSHAKE_TIMEOUT if context else None,
                    backlog=BACKLOG,
                )
            )
        if watched:
            self._watch = assembly.env.spawn(CertificateWatch(watched).run(), "certificate watch")
        edge.start()
        self.ready = True

    async def drain(self, stop_now: asyncio.Event) -> None:
        """Fails readiness and serves on for `drain.quiet`, so that whoever balances looks away;
        then takes no new connections and lets what is in flight finish, up to `drain.timeout`.
        """
        self.ready = False
        edge = self.edge
        edge.draining = True  # answers say `Connection: close` from here on
        drain = self.config.drain
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain.quiet):
                await stop_now.wait()
        self._close_listeners()
        await self._stop_watch()
        deadline = edge.loop.time() + drain.timeout
        while self._busy and not stop_now.is_set() and edge.loop.time() < deadline:
            edge.close_idle(min(SETTLE, drain.timeout))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await stop_now.wait()
        if edge.connections:
            log.warning("stopping with %d exchanges unfinished", edge.in_flight)

    async def stop(self) -> None:
        """Ends everything now. Safe after a failed start."""
        self.ready = False
        self._close_listeners()
        await self._stop_watch()
        if self._edge is not None:
            self._edge.stop()
            await self._edge.abort_all()
        if self._assembly is not None:
            await self._assembly.stop()

    @property
    def _busy(self) -> bool:
        """Somebody is connected, or work that outlived its client is under way."""
        assert self._assembly is not None
        return bool(self.edge.connections) or self._assembly.env.spawned > 0

    async def _stop_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait((watch,))

    def _close_listeners(self) -> None:
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        if listeners and self._owns_paths:
            remove_paths(listener.parsed for listener in self.config.listen)


def remove_paths(addresses: Iterable[Address]) -> None:
    """Takes away the files that closed unix sockets leave behind.

    A successor may have bound its own under the same name while we were draining: that one stays.
    """
    for address in addresses:
        if address.path is not None:
            _clear_stale(address.path)
