"""What the house does for layers: work that outlives its client, counters, start and stop."""

from __future__ import annotations

import asyncio

import pytest

from proxy.env import Env
from proxy.telemetry import Telemetry

from .layers import Lifecycle, Probe, Spawns, named
from .road import ModelServer, client, post, remora


async def test_spawned_work_outlives_its_client(model: ModelServer) -> None:
    """The client leaves; the work goes on, is counted, and ends by itself."""
    Spawns.release = asyncio.Event()
    async with remora(model.url, [named(Probe, "outer"), named(Spawns)]) as server:
        assert server._assembly is not None
        async with client(server) as user:
            await user.send(post("/x"))
            asked = await model.asked()
        await asked.closed()
        await Probe.of("outer")
        (work,) = Spawns.work
        assert not work.done() and server._assembly.env.spawned == 1
        Spawns.release.set()
        assert await work == "done"
        assert server._assembly.env.spawned == 0


async def test_a_drain_waits_for_spawned_work(model: ModelServer) -> None:
    """No client is connected, but somebody may wait for what was begun for one."""
    Spawns.release = asyncio.Event()
    async with remora(model.url, [named(Spawns)]) as server:
        async with client(server) as user:
            await user.send(post("/x"))
            await (await model.asked()).answer(b"")
            await user.read_answer()
        drained = asyncio.create_task(server.drain(asyncio.Event()))
        done, _ = await asyncio.wait((drained,), timeout=0.2)
        assert not done
        Spawns.release.set()
        await asyncio.wait_for(drained, 5)
        assert Spawns.work[0].result() == "done"


async def test_a_stop_cancels_spawned_work(model: ModelServer) -> None:
    """Whoever stops now is not kept waiting; the work is told before the layers stop."""
    Spawns.release = asyncio.Event()
    async with remora(model.url, [named(Spawns)]) as server, client(server) as user:
        await user.send(post("/x"))
        await (await model.asked()).answer(b"")
        await user.read_answer()
    assert Spawns.work[0].cancelled()


async def test_spawned_work_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody awaits it, so nobody else would hear of it."""

    async def fails() -> None:
        raise RuntimeError("the refresh failed")

    env = Env(asyncio.get_running_loop(), Telemetry())
    await asyncio.wait((env.spawn(fails(), "refresh of /x"),))
    await asyncio.sleep(0)
    assert "refresh of /x failed" in caplog.text and "the refresh failed" in caplog.text


def test_a_counter_is_made_once() -> None:
    """However many routes ask for it, it is one series per set of labels."""
    telemetry = Telemetry()
    env = Env(asyncio.new_event_loop(), telemetry)
    env._loop.close()
    for _ in range(2):
        env.counter("things", "Things.", ["route"]).labels("r").inc()
    assert telemetry.registry.get_sample_value("remora_things_total", {"route": "r"}) == 2


async def test_layers_start_outermost_first_and_stop_in_reverse(model: ModelServer) -> None:
    """So that an inner layer can lean on what an outer one has opened."""
    async with remora(model.url, [named(Lifecycle, "a"), named(Lifecycle, "b")]):
        assert Lifecycle.told == ["start a", "start b"]
    assert Lifecycle.told == ["start a", "start b", "stop b", "stop a"]


async def test_a_layer_that_cannot_stop_stops_no_other(
    model: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The others still give back what they hold, and the connections are closed."""
    chain = [named(Lifecycle, "a"), named(Lifecycle, "bad stop"), named(Lifecycle, "c")]
    async with remora(model.url, chain):
        pass
    assert Lifecycle.told[3:] == ["stop c", "stop bad stop", "stop a"]
    assert "this layer cannot stop" in caplog.text
