"""`workers: N`: one port, several processes, and the one that watches over them."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from proxy.supervisor import MAX_BACKOFF, STABLE_AFTER, Backoff

from .client import Client, Lost, get, refused
from .conftest import Serve
from .numbers import numbers
from .process import PATIENCE, Remora
from .upstream import PIECE, Upstream


def test_backoff() -> None:
    """Each early death doubles the wait up to a bound; a long life starts it anew."""
    backoff = Backoff()
    assert [backoff.after(1.0) for _ in range(4)] == [0.1, 0.2, 0.4, 0.8]
    for _ in range(2000):
        assert backoff.after(STABLE_AFTER - 1) <= MAX_BACKOFF
    assert backoff.after(1.0) == MAX_BACKOFF
    assert [backoff.after(STABLE_AFTER), backoff.after(1.0)] == [0.1, 0.2]


async def two(serve: Serve, **keys: str) -> tuple[Remora, str]:
    """Two workers that serve, and where."""
    remora = await serve(workers="2", **keys)
    (address,) = await remora.serving(times=2)
    return remora, address


async def test_both_serve_one_port(serve: Serve, room: Path) -> None:
    """Either worker serves while the other one stands still, and /metrics counts for both."""
    remora, address = await two(serve)
    for pid in remora.workers():
        os.kill(pid, signal.SIGSTOP)
        for _ in range(3):
            assert (await get(address)).status == 200
        os.kill(pid, signal.SIGCONT)
    told = await numbers(f"unix:{room}/admin")
    assert told("remora_requests_total", route="/*", status="200") == 6
    assert told("remora_request_duration_seconds_count", route="/*") == 6
    assert told("remora_response_bytes_total", route="/*") == 6 * len(b"ok")


async def test_a_killed_worker_is_replaced(serve: Serve) -> None:
    """Requests go on while a killed worker is started again, and SIGTERM then ends all with 0."""
    remora, address = await two(serve)
    victim, survivor = remora.workers()
    os.kill(victim, signal.SIGKILL)
    again = asyncio.ensure_future(remora.serving(times=3))
    while not again.done():
        assert (await get(address)).status == 200
    await again
    await remora.said(r"worker \d ended with -9; starting it again in 0\.1 s")
    after = remora.workers()
    assert len(after) == 2 and survivor in after and victim not in after
    remora.send()
    assert await remora.ended() == 0
    assert len([line for line in remora.lines if "stopped" in line]) == 2


async def test_all_drain(serve: Serve, room: Path, upstream: Upstream) -> None:
    """SIGTERM to the supervisor drains all workers: nobody new is let in, a slow answer ends."""
    path = room / "client"
    remora, address = await two(serve, listen=f"unix:{path}")
    async with await Client.to(address) as slow:
        begun = await slow.begin("/slow")
        remora.send()
        await refused(address)
        upstream.go.set()
        await slow.rest(begun)
        assert begun.body == PIECE * 2
    assert await remora.ended() == 0
    assert not path.exists()


async def test_second_signal(serve: Serve) -> None:
    """A second SIGTERM to the supervisor stops every worker at once, with 0."""
    remora, address = await two(serve, drain="{quiet: 1m, timeout: 1m}")
    async with await Client.to(address) as slow:
        begun = await slow.begin("/slow")
        remora.send()
        await remora.said("draining", times=2)
        remora.send()
        with pytest.raises(Lost):
            await slow.rest(begun)
    assert await remora.ended() == 0


async def test_ctrl_c_reaches_the_whole_group(serve: Serve) -> None:
    """A Ctrl-C, which the terminal sends to workers too, drains once and ends with 0."""
    remora, address = await two(serve, drain="{quiet: 300ms, timeout: 5s}")
    os.killpg(remora.pid, signal.SIGINT)
    await remora.said("draining", times=2)
    assert (await get(address)).status == 200
    assert await remora.ended() == 0


async def test_a_worker_that_cannot_start(serve: Serve) -> None:
    """It is tried again ever more slowly, its reason is logged, and SIGTERM still ends all."""
    remora = await serve(workers="2", chain='["tests.lifecycle.layers:FailsToStart"]')
    async with asyncio.timeout(PATIENCE):
        for count, wait in enumerate(("0.1", "0.2", "0.4"), start=1):
            line = await remora.said("worker 0 ended with 1", times=count)
            assert line.endswith(f"starting it again in {wait} s")
    assert any("RuntimeError: no store" in line for line in remora.lines)
    remora.send()
    await remora.ended()  # with 1, where the signal met a worker that was failing just then
