"""From the first line of a file to the last byte of an answer: start, serve, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.machinery
import importlib.util
import logging
import os
import resource
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from . import config
from .address import Address, parse_address
from .server import Server, bind, remove_paths
from .tls import client_context, server_context

if TYPE_CHECKING:
    from .admin import Admin

log = logging.getLogger("remora")


class CannotStart(Exception):
    """Something that serving needs is not there; the message says what to do."""


def require_c_extensions() -> None:
    """aiohttp without its C parser is slower, and more lenient in what it takes for a request.

    Looked for without importing aiohttp, which serving without an admin port does not need.
    Raises CannotStart.
    """
    package = importlib.util.find_spec("aiohttp")
    places = package.submodule_search_locations if package is not None else None
    found = importlib.machinery.PathFinder.find_spec("aiohttp._http_parser", places)
    if found is None or os.environ.get("AIOHTTP_NO_EXTENSIONS"):
        raise CannotStart(
            "aiohttp runs without its C extensions: unset AIOHTTP_NO_EXTENSIONS, or install a "
            "wheel for this platform: pip install --force-reinstall aiohttp"
        )


def require_certificates(file: config.Config) -> None:
    """Certificates and keys are there and fit. Raises CannotStart: what no restart mends is told
    once, by name, before there are workers to find out.
    """
    for listener in file.listen:
        if listener.tls is not None:
            try:
                server_context(listener.tls)
            except OSError as error:
                raise CannotStart(f"the TLS files of {listener.address} fail: {error}") from error
    for name, upstream in file.upstreams.items():
        if any(url.startswith("https:") for url in upstream.endpoints):
            try:
                client_context(upstream.tls)
            except OSError as error:
                raise CannotStart(f"the TLS files of upstream `{name}` fail: {error}") from error


def allow_open_files(file: config.Config) -> None:
    """As many as the system lets this process have: a connection takes one, and most shells and
    service managers begin with 1,024. Says so where the file's bounds are above that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS has a bound below its hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    needed = file.limits.connections + sum(
        upstream.pool.max_connections * len(upstream.endpoints)
        for upstream in file.upstreams.values()
    )
    if soft != resource.RLIM_INFINITY and soft < needed:
        log.warning(
            "%d files may be open, and the file allows %d connections: raise `ulimit -Hn`, or "
            "lower limits.connections or pool.max_connections", soft, needed,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sockets:
    """What a process listens on: bound before it starts, so that workers can share them."""

    listeners: Sequence[socket.socket]
    admin: socket.socket | None

    def close(self) -> None:
        """Closes this process's hold on them. A second call does nothing."""
        for sock in (*self.listeners, *((self.admin,) if self.admin is not None else ())):
            sock.close()


@dataclass(frozen=True, slots=True)
class Parent:
    """A worker's ends of the pipes to its supervisor, as file descriptors.

    gone: reads as ended once the supervisor is no more. served: a byte says that a worker serves.
    """

    gone: int
    served: int


@dataclass(frozen=True, slots=True)
class Place:
    """A worker's place among others: where it tells its numbers, and where they tell theirs."""

    parent: Parent
    own: Path | None
    peers: Sequence[Path]


def addresses(file: config.Config) -> list[Address]:
    """Every place where a process listens, the admin's last."""
    places = [listener.parsed for listener in file.listen]
    return [*places, parse_address(file.admin)] if file.admin else places


def bind_all(file: config.Config) -> Sockets:
    """Raises CannotListen, with nothing left bound."""
    bound: list[socket.socket] = []
    places = addresses(file)
    try:
        for place in places:
            bound.append(bind(place))
    except OSError:
        for sock in bound:
            sock.close()
        remove_paths(places[: len(bound)])
        raise
    count = len(file.listen)
    return Sockets(bound[:count], bound[count] if file.admin else None)


def run(file: config.Config, sockets: Sockets, place: Place | None = None) -> int:
    """Serves until a signal ends it; the exit status. Signals: see `serve`."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(file, sockets, place))


async def serve(file: config.Config, sockets: Sockets, place: Place | None) -> int:
    """SIGTERM (and SIGINT, outside of workers) drains; a second one stops at once, and so does the
    first while the start is not over. A worker drains when its supervisor is gone, too.
    """
    server = Server(file, sockets.listeners)
    admin = _admin(server, sockets.admin, place) if sockets.admin is not None else None
    drain, stop_now = asyncio.Event(), asyncio.Event()
    starting = asyncio.timeout(None)
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if drain.is_set():
            stop_now.set()
        elif not server.ready:
            starting.reschedule(loop.time())
        drain.set()

    def on_orphaned(parent: Parent) -> None:
        loop.remove_reader(parent.gone)
        if not drain.is_set():
            log.error("the supervisor is gone")
            on_signal()

    loop.add_signal_handler(signal.SIGTERM, on_signal)
    if place is None:
        loop.add_signal_handler(signal.SIGINT, on_signal)
    else:
        loop.add_reader(place.parent.gone, on_orphaned, place.parent)
    try:
        async with starting:
            if admin is not None:
                await admin.start()
            await server.start()
        if place is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(place.parent.served, b".")
        log.info("serving on %s", ", ".join(server.addresses))
        await drain.wait()
        log.info("draining; a second signal stops at once")
        await server.drain(stop_now)
    except TimeoutError:
        if not starting.expired():
            raise
    finally:
        await server.stop()
        if admin is not None:
            await admin.stop()
    log.info("stopped")
    return 0


def _admin(server: Server, sock: socket.socket, place: Place | None) -> Admin:
    from .admin import Admin  # 12 MiB of aiohttp: only where it is wanted

    own, peers = (place.own, place.peers) if place is not None else (None, ())
    return Admin(
        server.telemetry, lambda: server.ready, sock, own, peers, lambda: server.controls,
        server.config.admin_token,
    )  # fmt: skip
