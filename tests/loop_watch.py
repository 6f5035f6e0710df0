"""Watches a test's event loop: who kept it from its next callback, and what was left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from pathlib import Path
from typing import Any

INTERVAL = 0.02
"""Seconds between two looks."""
MOST_CPU = 0.5
"""Seconds of the loop's CPU between two looks: no callback may compute that long."""
MOST_KEPT = 1.0
"""Seconds by which a look may be late without the machine being the reason."""


class LoopWatch:
    """Looks at the loop every INTERVAL.

    Wall clocks lie on a busy machine. So the thread's own CPU time is compared; and for calls
    that block without computing, the delay less what the scheduler says the thread waited for a
    core (Linux, /proc/thread-self/schedstat; elsewhere only CPU time is watched). What Python's
    collector takes is left out: it walks all that pytest holds, thousands of tests and no server.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self._seen = (0.0, 0.0, 0.0)
        self._collected = 0.0
        self._collecting = 0.0
        self.strict = False
        """Blocking without computing counts, too. Off where a test starts processes."""
        self.most_cpu = 0.0
        self.most_kept = 0.0
        self.unhandled: list[dict[str, Any]] = []
        """What the loop's exception handler was told."""

    def start(self) -> None:
        gc.callbacks.append(self._on_collection)
        self._loop.set_exception_handler(lambda _, context: self.unhandled.append(context))
        self._seen = self._now()
        self._handle = self._loop.call_later(INTERVAL, self._look)

    def stop(self) -> None:
        with contextlib.suppress(ValueError):
            gc.callbacks.remove(self._on_collection)
        if self._handle is not None:
            self._handle.cancel()
        self._loop.set_exception_handler(None)

    def _look(self) -> None:
        now = self._now()
        wall, cpu, waited = (after - before for after, before in zip(now, self._seen, strict=True))
        collected, self._collected = self._collected, 0.0
        cpu -= collected
        wall -= collected
        self.most_cpu = max(self.most_cpu, cpu)
        if self.strict:
            self.most_kept = max(self.most_kept, wall - waited - INTERVAL)
        self._seen = now
        self._handle = self._loop.call_later(INTERVAL, self._look)

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._collected += time.thread_time() - self._collecting

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Wall clock, CPU time of this thread, its time in the queue for a core; seconds."""
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            waited = int(Path("/proc/thread-self/schedstat").read_bytes().split()[1]) / 1e9
        except OSError:
            waited = wall
        return wall, cpu, waited

    def complaints(self) -> list[str]:
        """What was wrong with this test's use of its loop."""
        return [f"the loop was told: {context}" for context in self.unhandled]

    def held(self) -> list[str]:
        """How long a callback held the loop, if too long. A virtual machine that is stopped while
        a thread computes counts the pause as that thread's: pytest runs a test that fails with
        these words again (`--only-rerun` in pyproject.toml), and one that does compute for so
        long fails each time.
        """
        told = []
        if self.most_cpu > MOST_CPU:
            told.append(f"held the loop: a callback computed for {self.most_cpu:.2f} s")
        if self.most_kept > MOST_KEPT:
            told.append(f"held the loop: a callback blocked it for {self.most_kept:.2f} s")
        return told


async def leftover_tasks(within: float = 1.0) -> list[str]:
    """Tasks of this loop, but the caller's, that do not end by themselves `within` seconds."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(tasks, timeout=within)
    return [repr(task) for task in tasks if not task.done()]
