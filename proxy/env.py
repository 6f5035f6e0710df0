"""What layers may use of the house: the clock, counters, and work that outlives its client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from time import monotonic
from typing import Any, Literal

from .chain import Control, Handler, Numbers, Store
from .control import Controls
from .telemetry import Telemetry

log = logging.getLogger("remora")


class Env:
    """The Env that layers get. Spawned work is counted, and whoever drains waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, telemetry: Telemetry) -> None:
        self.clock: Callable[[], float] = monotonic
        self._loop = loop
        self._telemetry = telemetry
        self._spawned: set[asyncio.Task[Any]] = set()
        self._background: set[asyncio.Task[Any]] = set()
        self.stores: dict[str, Store] = {}
        self.upstreams: dict[str, Handler] = {}
        self.controls = Controls()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = self._loop.create_task(work, name=name)
        self._spawned.add(task)
        task.add_done_callback(self._ended)
        return task

    def background(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = self._loop.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._ended)
        return task

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Any:
        return self._telemetry.counter(name, documentation, labels)

    def numbers(
        self,
        kind: Literal["counter", "gauge"],
        name: str,
        documentation: str,
        labels: Sequence[str],
        read: Numbers,
    ) -> None:
        self._telemetry.numbers(kind, name, documentation, labels, read)

    def control(self, name: str, control: Control) -> None:
        self.controls.add(name, control)

    def store(self, name: str) -> Store | None:
        return self.stores.get(name)

    def upstream(self, name: str) -> Handler | None:
        return self.upstreams.get(name)

    @property
    def spawned(self) -> int:
        """Pieces of work under way, those in the background left out."""
        return len(self._spawned)

    async def stop(self) -> None:
        """Cancels what is still under way; done when all of it has ended."""
        for _ in range(3):  # what is cancelled may spawn its own clean-up
            left = [*self._spawned, *self._background]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._spawned.discard(task)
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)
