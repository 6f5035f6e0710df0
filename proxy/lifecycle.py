"""From the first line of a file to the last byte of an answer: start, serve, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from aiohttp import http_parser

from . import config
from .address import Address, parse_address
from .admin import Admin
from .server import Server, bind, remove_paths

log = logging.getLogger("remora")


class CannotStart(Exception):
    """Something that serving needs is not there; the message says what to do."""


def require_c_extensions() -> None:
    """aiohttp without its C parser is slower, and more lenient in what it takes for a request."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise CannotStart(
            "aiohttp runs without its C extensions: unset AIOHTTP_NO_EXTENSIONS, or install a "
            "wheel for this platform: pip install --force-reinstall aiohttp"
        )


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
class Place:
    """A worker's place among others: where it tells its numbers, and where they tell theirs."""

    own: Path
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
    """SIGTERM (and SIGINT, outside of workers) drains; a second one stops at once."""
    server = Server(file, sockets.listeners)
    admin = Admin(
        server.telemetry,
        lambda: server.ready,
        sockets.admin,
        place.own if place else None,
        place.peers if place else (),
    )
    drain, stop_now = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (stop_now if drain.is_set() else drain).set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, on_signal)
    if place is None:
        loop.add_signal_handler(signal.SIGINT, on_signal)
    try:
        await admin.start()
        await server.start()
        log.info("serving on %s", ", ".join(server.addresses))
        await drain.wait()
        log.info("draining; a second signal stops at once")
        await server.drain(stop_now)
    finally:
        await server.stop()
        await admin.stop()
    log.info("stopped")
    return 0
