"""From the first signal to the exit."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from .client import Client, Lost, get, listening, refused
from .conftest import Serve
from .process import PATIENCE
from .upstream import PIECE, Upstream


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_drain(serve: Serve, room: Path, upstream: Upstream, number: signal.Signals) -> None:
    """A signal fails readiness at once and serving goes on, each answer the last on its connection;
    then nobody new is let in, what is in flight finishes, and the exit status is 0.
    """
    remora = await serve(drain="{quiet: 1s, timeout: 10s}")
    (address,) = await remora.serving()
    admin = f"unix:{room}/admin"
    assert (await get(admin, "/readyz")).status == 200
    async with await Client.to(address) as kept, await Client.to(address) as slow:
        assert not (await kept.get("/")).last
        begun = await slow.begin("/slow")
        assert not begun.last

        remora.send(number)
        await remora.said("draining")
        assert (await get(admin, "/readyz")).status == 503
        assert (await get(admin, "/healthz")).status == 200
        for client in (kept, await Client.to(address)):
            answer = await client.get("/")
            assert (answer.status, answer.last) == (200, True)
            assert await client.gone()
            await client.close()

        await refused(address)
        upstream.go.set()
        await slow.rest(begun)
        assert begun.body == PIECE * 2
    assert await remora.ended() == 0


async def test_a_promise_to_keep_the_connection_is_kept(serve: Serve, upstream: Upstream) -> None:
    """An answer begun before the signal did not say `close`: its connection takes one more."""
    remora = await serve(drain="{quiet: 1m, timeout: 5s}")
    (address,) = await remora.serving()
    async with await Client.to(address) as client:
        begun = await client.begin("/slow")
        remora.send()
        await remora.said("draining")
        upstream.go.set()
        await client.rest(begun)
        answer = await client.get("/")
        assert (answer.status, answer.last) == (200, True)


async def test_idle_connections_end_the_drain(serve: Serve) -> None:
    """A kept connection that nobody uses is closed long before `drain.timeout`."""
    remora = await serve(drain="{quiet: 0s, timeout: 1m}")
    (address,) = await remora.serving()
    async with await Client.to(address) as client:
        assert not (await client.get("/")).last
        remora.send()
        assert await client.gone()
    assert await remora.ended() == 0


async def test_over_the_timeout(serve: Serve, upstream: Upstream) -> None:
    """What is not done by `drain.timeout` is aborted, never ended as if it were whole."""
    remora = await serve(drain="{quiet: 0s, timeout: 200ms}")
    (address,) = await remora.serving()
    async with await Client.to(address) as client:
        begun = await client.begin("/slow")
        assert await client.chunk() == PIECE
        remora.send()
        with pytest.raises(Lost):
            await client.rest(begun)
    assert await remora.ended() == 0
    assert any("1 exchanges unfinished" in line for line in remora.lines)
    await asyncio.wait_for(upstream.left.wait(), PATIENCE)


@pytest.mark.parametrize("drain", ["{quiet: 1m, timeout: 1m}", "{quiet: 0s, timeout: 1m}"])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal(serve: Serve, drain: str, second: signal.Signals) -> None:
    """A second signal stops at once, in `quiet` and after it, and the exit status is 0."""
    remora = await serve(drain=drain)
    (address,) = await remora.serving()
    async with await Client.to(address) as client:
        begun = await client.begin("/slow")
        remora.send()
        await remora.said("draining")
        remora.send(second)
        with pytest.raises(Lost):
            await client.rest(begun)
    assert await remora.ended() == 0


async def test_signal_amid_the_start(serve: Serve, room: Path) -> None:
    """A signal ends a start that hangs; until then remora lives and is not ready."""
    remora = await serve(chain='["tests.lifecycle.layers:NeverStarts"]')
    await listening(f"unix:{room}/admin")
    assert (await get(f"unix:{room}/admin", "/healthz")).status == 200
    assert (await get(f"unix:{room}/admin", "/readyz")).status == 503
    remora.send()
    assert await remora.ended() == 0
