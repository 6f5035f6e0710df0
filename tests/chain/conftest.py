"""Endpoints and remoras with whole chains; each must be at rest when its test is over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from tests.cache.rig import Clock
from tests.chain.model import Choose, Model
from tests.chain.rig import Ends, Running, server_of
from tests.contract.road import ModelServer
from tests.loop_watch import LoopWatch

MakeModel = Callable[..., Awaitable[Model]]
"""`await model(choose=…, pace=…)`"""
Serve = Callable[..., Awaitable[Running]]
"""`await serve(models, chain, upstream=…, more=…, **keys of the file)`"""


@pytest.fixture
async def model(loop_watch: LoopWatch) -> AsyncIterator[MakeModel]:
    started: list[Model] = []

    async def start(choose: Choose = lambda message: "", pace: float = 0.0) -> Model:
        one = Model(choose, pace)
        await one.start()
        started.append(one)
        return one

    yield start
    for one in started:
        await one.stop()


Held = ModelServer


@pytest.fixture
async def held(loop_watch: LoopWatch) -> AsyncIterator[Held]:
    """An endpoint for which the test answers, request by request."""
    async with ModelServer().listening() as server:
        yield server


@pytest.fixture
async def serve(model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    """Starts remoras. When the test is over, everything is at rest but what it left connected."""
    running: list[Running] = []
    ends = Ends(monkeypatch)

    async def start(models: Sequence[Model], chain: Sequence[Any], **keys: Any) -> Running:
        one = Running(server_of(models, chain, **keys), models, ends)
        running.append(one)
        await one.server.start()
        return one

    yield start
    try:
        for one in running:
            for client in one.clients:
                client.abort()
            await one.quiet()
    finally:
        for one in running:
            await one.server.stop()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What layers take for time. It stands still until told."""
    clock = Clock()
    monkeypatch.setattr("proxy.env.monotonic", clock)
    return clock
