"""Remora in front of an upstream, in this process or as one of its own."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from proxy.loader import load_text
from proxy.server import Server

from .process import Remora, command
from .upstream import Upstream

Serve = Callable[..., Awaitable[Remora]]
Front = Callable[..., Awaitable[Server]]


@pytest.fixture
def room() -> Iterator[Path]:
    """A directory whose name leaves room for a unix socket's (108 bytes in all)."""
    with tempfile.TemporaryDirectory(prefix="remora-") as name:
        yield Path(name)


@pytest.fixture
async def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
async def url(upstream: Upstream) -> AsyncIterator[str]:
    """Where the upstream is."""
    server = TestServer(upstream.app(), handler_cancellation=True, shutdown_timeout=0.1)
    await server.start_server()
    yield f"http://127.0.0.1:{server.port}"
    upstream.go.set()
    await server.close()


@pytest.fixture
def file(room: Path, url: str) -> Callable[..., str]:
    """The text of a file: the keys given, and what is needed besides. Values are YAML."""

    def file(**keys: str) -> str:
        defaults = {
            "listen": "127.0.0.1:0",
            "admin": f"unix:{room}/admin",
            "drain": "{quiet: 0s, timeout: 5s}",
            "upstreams": f'{{default: {{endpoints: ["{url}"]}}}}',
        }
        return "".join(f"{key}: {value}\n" for key, value in {**defaults, **keys}.items())

    return file


@pytest.fixture
async def serve(room: Path, file: Callable[..., str]) -> AsyncIterator[Serve]:
    """`await serve(key="YAML", ...)`: `remora serve` as a process of its own."""
    async with AsyncExitStack() as stack:
        count = 0

        async def serve(**keys: str) -> Remora:
            nonlocal count
            count += 1
            path = room / f"{count}.yaml"
            path.write_text(file(**keys))
            return await stack.enter_async_context(command("serve", "-c", str(path)))

        yield serve


@pytest.fixture
async def front(file: Callable[..., str]) -> AsyncIterator[Front]:
    """`await front(key="YAML", ...)`: a Server in this process, started."""
    async with AsyncExitStack() as stack:

        async def front(**keys: str) -> Server:
            server = Server(load_text(file(**keys), "test.yaml"))
            stack.push_async_callback(server.stop)
            await server.start()
            return server

        yield front


class Logged(logging.Handler):
    """Remora's log records in this process; `said` awaits one, from whatever thread it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self._loop.call_soon_threadsafe(self._more.set)

    async def said(self, text: str, times: int = 1) -> None:
        """Waits for `times` records with `text` in them."""
        async with asyncio.timeout(5):
            while True:
                if sum(text in record.getMessage() for record in self.records) >= times:
                    return
                self._more.clear()
                await self._more.wait()


@pytest.fixture
async def logged() -> AsyncIterator[Logged]:
    logger = logging.getLogger("remora")
    handler, level = Logged(), logger.level
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)
