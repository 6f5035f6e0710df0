"""`env.spawn`: work that outlives its client."""

from __future__ import annotations

import asyncio

import pytest

from proxy.env import Env
from proxy.telemetry import Telemetry

from .client import get
from .conftest import Front, Logged
from .layers import Spawns

SPAWNS = '["tests.lifecycle.layers:Spawns"]'


@pytest.fixture
async def env() -> Env:
    return Env(asyncio.get_running_loop(), Telemetry())


async def test_counted(env: Env) -> None:
    """Work counts while it is under way, however it ends."""
    go = asyncio.Event()
    first, second = (env.spawn(go.wait(), f"work {number}") for number in range(2))
    assert env.spawned == 2
    second.cancel()
    await asyncio.wait((second,))
    assert env.spawned == 1
    go.set()
    assert await first is True
    assert env.spawned == 0


async def test_a_failure_is_logged(env: Env, logged: Logged) -> None:
    """Work that fails is logged by its name with its traceback, and no longer counts."""

    async def fails() -> None:
        raise ValueError("why")

    await asyncio.wait((env.spawn(fails(), "a refresh"),))
    (record,) = logged.records
    assert record.getMessage() == "a refresh failed"
    assert record.exc_info is not None and isinstance(record.exc_info[1], ValueError)
    assert env.spawned == 0


async def test_stop_ends_what_is_left(env: Env, logged: Logged) -> None:
    """`stop` cancels what is under way, waits for its clean-up, and logs no cancellation."""
    began, cleaned = asyncio.Event(), False

    async def work() -> None:
        nonlocal cleaned
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    env.spawn(work(), "work")
    await began.wait()
    await env.stop()
    assert cleaned and env.spawned == 0 and not logged.records


async def test_drain_waits_for_it(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draining lasts until spawned work has ended, though no client is there any more."""
    began, go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        await go.wait()
        done.set()

    monkeypatch.setattr(Spawns, "work", staticmethod(work), raising=False)
    server = await front(chain=SPAWNS)
    assert (await get(server.addresses[0])).status == 200
    await began.wait()
    draining = asyncio.ensure_future(server.drain(asyncio.Event()))
    # Three looks of the drain: it would be over by now if it looked at connections alone.
    assert not (await asyncio.wait((draining,), timeout=0.2))[0]
    go.set()
    await asyncio.wait_for(draining, 10)
    assert done.is_set()


@pytest.mark.parametrize("hurry", [True, False])
async def test_drain_waits_no_longer_than_it_may(
    front: Front, monkeypatch: pytest.MonkeyPatch, hurry: bool
) -> None:
    """Work that does not end is cancelled after `drain.timeout`, or at once on a second signal."""
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    monkeypatch.setattr(Spawns, "work", staticmethod(work), raising=False)
    timeout = "1m" if hurry else "100ms"
    server = await front(chain=SPAWNS, drain=f"{{quiet: 0s, timeout: {timeout}}}")
    await get(server.addresses[0])
    await began.wait()
    stop_now = asyncio.Event()
    if hurry:
        stop_now.set()
    async with asyncio.timeout(10):
        await server.drain(stop_now)
        await server.stop()
    assert cancelled.is_set()
