"""`workers: N`: one port, several processes, and the one that watches over them."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from pathlib import Path

import pytest

from proxy.supervisor import MAX_BACKOFF, STABLE_AFTER, Backoff, Supervisor, Tie

from .client import Client, Lost, get, refused
from .conftest import Serve
from .numbers import numbers
from .process import Remora
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


async def test_a_file_that_cannot_be_served(serve: Serve) -> None:
    """The first worker's failure ends it all, once and with 1: an orchestrator sees that."""
    remora = await serve(workers="2", chain='["tests.lifecycle.layers:FailsToStart"]')
    assert await remora.ended() == 1
    assert any("RuntimeError: no store" in line for line in remora.lines)
    assert remora.lines[-1] == (
        "remora: the first worker ended with 1 before it served; the others were not started"
    )
    assert not any("worker 1" in line for line in remora.lines)


async def test_a_worker_that_cannot_start_again(serve: Serve, room: Path) -> None:
    """Where one has served, a failure may pass: it is tried again ever more slowly, with its
    reason logged, while the other serves.
    """
    gone = room / "gone"
    chain = f'[{{"tests.lifecycle.layers:FailsWhere": {{path: "{gone}"}}}}]'
    remora, address = await two(serve, chain=chain)
    gone.touch()
    os.kill(remora.workers()[1], signal.SIGKILL)
    for wait in ("0.2", "0.4"):
        await remora.said(rf"worker \d ended with 1; starting it again in {wait} s")
        assert (await get(address)).status == 200
    await remora.said(r"worker \d failed: the store is gone")
    gone.unlink()
    await remora.serving(times=3)
    remora.send()
    assert await remora.ended() == 0


async def test_workers_outlive_their_supervisor_for_a_drain(
    serve: Serve, upstream: Upstream
) -> None:
    """Without their supervisor nobody could end them: they drain by themselves, and are gone."""
    remora, address = await two(serve)
    async with await Client.to(address) as slow:
        begun = await slow.begin("/slow")
        remora.send(signal.SIGKILL)
        await remora.said("the supervisor is gone", times=2)
        await refused(address)
        upstream.go.set()
        await slow.rest(begun)
        assert begun.body == PIECE * 2
    assert await remora.ended() == -signal.SIGKILL
    assert len([line for line in remora.lines if "stopped" in line]) == 2


def test_no_process_left_for_a_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fork that the system refuses is tried again; it ends no worker that serves."""

    def refuses() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuses)
    supervisor, tie = Supervisor(2, lambda index, parent: 0, lambda: None), Tie()
    try:
        with pytest.raises(BlockingIOError):
            supervisor._start_due(tie)
        os.write(tie._worker.served, b".")
        supervisor._served = tie.has_served()
        supervisor._due = {0: 0.0, 1: 0.0}
        supervisor._start_due(tie)
    finally:
        tie.close()
    assert sorted(supervisor._due) == [0, 1] and min(supervisor._due.values()) > 0
    assert "worker 1 cannot be started: Resource temporarily unavailable" in caplog.text
