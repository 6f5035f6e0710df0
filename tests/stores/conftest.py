"""A Redis for each test, and stores on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.env import Env
from proxy.stores.redis import RedisStore
from proxy.stores.settings import Redis
from proxy.telemetry import Telemetry
from tests.loop_watch import LoopWatch

from .server import RedisServer

TIMEOUT = 1.0
"""Seconds. For tests of what a timeout costs: it is paid once or twice, and never per call."""
PATIENT = 30.0
"""Seconds. For all others: a machine that stands still for a moment is not a store that is down."""


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
async def env(loop_watch: LoopWatch, telemetry: Telemetry) -> AsyncIterator[Env]:
    made = Env(asyncio.get_running_loop(), telemetry)
    yield made
    await made.stop()


@pytest.fixture
async def server(loop_watch: LoopWatch, tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A redis-server that runs."""
    async with RedisServer(tmp_path) as one:
        yield one


Store = Callable[..., RedisStore]
"""`store(**keys of stores.redis)`, by default on `server`"""


@pytest.fixture
async def store(env: Env, server: RedisServer) -> AsyncIterator[Store]:
    """Makes stores; each is closed with the test."""
    made: list[RedisStore] = []

    def make(**keys: Any) -> RedisStore:
        one = RedisStore(Redis(**{"url": server.url, "timeout": PATIENT, **keys}), env)
        made.append(one)
        return one

    yield make
    for one in made:
        await one.close()


Calls = Callable[[str, str], float]
"""`calls(call, outcome)`: how often that was counted."""


@pytest.fixture
def calls(telemetry: Telemetry) -> Calls:
    """Counted of all stores of a test."""

    def counted(call: str, outcome: str) -> float:
        labels = {"store": "redis", "call": call, "outcome": outcome}
        value = telemetry.registry.get_sample_value("remora_store_calls_total", labels)
        return value or 0.0

    return counted
