"""What every test may use: remora in the test's own loop, a scripted upstream, a raw client.

Async tests run on uvloop, as remora does; each is watched for blocking its loop and for tasks
that it leaves behind.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
import uvloop
from hypothesis import HealthCheck, settings

from proxy.config import Config
from proxy.server import Server
from proxy.upstream.pool import Pool
from tests.loop_watch import LoopWatch, leftover_tasks
from tests.road.scripted import Script, Upstream
from tests.road.wire import Client, until

# How long a machine takes is no property of the code: on a busy one examples are slow to make. In
# CI they are the same each time, for a change lands or not for what it is; elsewhere they are
# drawn anew, and what fails stays in .hypothesis.
settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("any machine")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def _watched(request: pytest.FixtureRequest) -> None:
    if pytest_asyncio.is_async_test(request.node):
        request.getfixturevalue("loop_watch")


@pytest.fixture
async def loop_watch() -> AsyncIterator[LoopWatch]:
    """Fails the test when a callback held the loop, when the loop's exception handler was told
    anything, or when a task is left. A test that expects one empties `loop_watch.unhandled`.
    """
    watch = LoopWatch(asyncio.get_running_loop())
    watch.start()
    yield watch
    left = await leftover_tasks()
    watch.stop()
    complaints = watch.complaints() + [f"left behind: {task}" for task in left]
    assert not complaints, "\n".join(complaints)
    assert not (held := watch.held()), "\n".join(held)


class Running:
    """A remora that serves in this loop."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.clients: list[Client] = []

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.server.addresses[0].rpartition(":")
        return host, int(port)

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.address)

    @property
    def pool(self) -> Pool:
        """The first endpoint's connections."""
        assert self.server._assembly is not None
        return next(iter(self.server._assembly.pools.values()))[0]

    def layer(self, kind: type[Any]) -> Any:
        """The layer of this class that was built."""
        assert self.server._assembly is not None
        return next(one for one in self.server._assembly._layers if isinstance(one, kind))

    async def connect(self, stalled: bool = False) -> Client:
        """A raw client; closed with the test. stalled: it reads nothing until told to."""
        client = await (Client.stalled if stalled else Client.connect)(self.address)
        self.clients.append(client)
        return client


Serve = Callable[..., Awaitable[Running]]
"""`await serve(upstream, pool=…, timeouts=…, tls=…, response_limits=…, **keys of the file)`"""


def configuration(upstream: Upstream | str, **keys: Any) -> Config:
    """A file with one upstream. Durations are seconds, sizes bytes."""
    url = upstream if isinstance(upstream, str) else upstream.url
    default: dict[str, Any] = {"endpoints": [url]}
    for ours, theirs in (
        ("pool", "pool"), ("timeouts", "timeouts"), ("tls", "tls"), ("response_limits", "limits"),
    ):  # fmt: skip
        if ours in keys:
            default[theirs] = keys.pop(ours)
    drain = {"quiet": 0, "timeout": 1}
    return Config.model_validate(
        {"listen": "127.0.0.1:0", "admin": "off", "drain": drain,
         "upstreams": {"default": default}, **keys}
    )  # fmt: skip


@pytest.fixture
async def serve(loop_watch: LoopWatch) -> AsyncIterator[Serve]:
    """Starts remoras; each must let go of every connection when it is stopped."""
    running: list[Running] = []

    async def start(upstream: Upstream | str, **keys: Any) -> Running:
        sockets = keys.pop("sockets", None)
        one = Running(Server(configuration(upstream, **keys), sockets))
        running.append(one)
        await one.server.start()
        return one

    loop_watch.strict = True
    yield start
    for one in running:
        for client in one.clients:
            client.abort()
        await one.server.stop()
        pool, clients = one.pool, one.server.edge.connections
        try:
            await until(lambda pool=pool, clients=clients: not pool.open and not clients)
        except TimeoutError:
            pytest.fail(f"left open: {pool.open} upstream, {len(clients)} client connections")
        assert not pool.first_byte, "a deadline outlived its exchange"
        assert not pool.waiting


UpstreamMaker = Callable[..., Awaitable[Upstream]]
"""`await upstream(script, path=None, context=None)`"""


@pytest.fixture
async def upstream() -> AsyncIterator[UpstreamMaker]:
    """Starts scripted upstreams; a script that failed fails the test."""
    started: list[Upstream] = []

    async def start(script: Script, **where: Any) -> Upstream:
        one = Upstream(script)
        await one.start(**where)
        started.append(one)
        return one

    yield start
    failures = []
    for one in started:
        try:
            await one.stop()
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]
