"""The watch over every async test catches what it is there for."""

from __future__ import annotations

import asyncio
import gc
import time

from tests.loop_watch import MOST_CPU, MOST_KEPT, LoopWatch, leftover_tasks


async def watched(misbehave: object, strict: bool = True) -> list[str]:
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    watch = LoopWatch(loop)
    watch.strict = strict
    watch.start()
    await asyncio.sleep(0.03)
    misbehave()  # type: ignore[operator]
    await asyncio.sleep(0.03)
    watch.stop()
    loop.set_exception_handler(handler)
    return watch.complaints() + watch.held()


def compute() -> None:
    until = time.thread_time() + MOST_CPU + 0.05
    while time.thread_time() < until:
        pass


async def test_computing(loop_watch: LoopWatch) -> None:
    """A callback that computes for longer than MOST_CPU is told."""
    assert any("computed" in told for told in await watched(compute, strict=False))
    loop_watch.most_cpu = 0


async def test_blocking(loop_watch: LoopWatch) -> None:
    """One that sleeps is told where remora itself runs in the loop, and not elsewhere."""

    def block() -> None:
        time.sleep(MOST_KEPT + 0.1)

    assert any("blocked" in told for told in await watched(block))
    assert await watched(block, strict=False) == []


async def test_nothing_wrong() -> None:
    """A test that waits has nothing to answer for."""
    assert await watched(lambda: None) == []


async def test_unhandled() -> None:
    """What a task or a transport tells the loop's exception handler fails the test."""
    loop = asyncio.get_running_loop()
    told = await watched(lambda: loop.call_exception_handler({"message": "lost"}))
    assert len(told) == 1 and "lost" in told[0]


async def test_left_behind() -> None:
    """A task that does not end is named; one that ends soon is not."""
    stays = asyncio.create_task(asyncio.Event().wait(), name="stays")
    ends = asyncio.create_task(asyncio.sleep(0.01), name="ends")
    left = await leftover_tasks(within=0.1)
    assert len(left) == 1 and "stays" in left[0]
    assert ends.done()
    stays.cancel()


async def test_the_collector_is_not_the_callback(loop_watch: LoopWatch) -> None:
    """What Python's garbage collector takes is not held against the callback it interrupts."""

    def collect() -> None:
        until = time.thread_time() + MOST_CPU + 0.05
        while time.thread_time() < until:
            gc.collect()

    assert not any("computed" in told for told in await watched(collect, strict=False))
