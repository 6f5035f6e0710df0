"""A closed loop of connections, each with one request at a time: raw bytes on uvloop.

Requests are made before the clock runs. Of an answer only the head is read: status, length, and
what remora says of batch and cache.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 60.0
"""Seconds that whatever is under way may take after a window."""


class WrongAnswerError(Exception):
    """An answer other than 200, or a connection that was closed."""


@dataclass
class Seen:
    """What the answers of a window said. seconds: of each. calls: to the server, as far as
    `x-remora-batch` tells, else one an answer. known: answers that cost the server nothing, being
    stored or shared with a call under way.
    """

    took: float = 0.0
    spent: float = 0.0
    """CPU microseconds of the proxy."""
    things: int = 0
    seconds: list[float] = field(default_factory=list)
    calls: float = 0.0
    known: int = 0

    @property
    def rate(self) -> float:
        """Things a second."""
        return self.things / self.took

    def percentile(self, percent: int) -> float:
        """Of the latency; milliseconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000

    def add(self, other: Seen) -> None:
        self.took += other.took
        self.spent += other.spent
        self.things += other.things
        self.seconds += other.seconds
        self.calls += other.calls
        self.known += other.known


class Asker(asyncio.Protocol):
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.transport: Any = None
        self.held = bytearray()
        self.need = 0
        self.asked_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self) -> None:
        self.asked_at = time.perf_counter()
        self.transport.write(next(self.loop.requests))

    def data_received(self, data: bytes) -> None:
        self.held += data
        if not self.need:
            end = self.held.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.held[:end]).lower()
            length = _field(head, b"content-length")
            if not head.startswith(b"http/1.1 200") or length is None:
                self.loop.fail(bytes(self.held[:400]).decode(errors="replace"))
                return
            self.need = end + 4 + int(length)
            self.loop.read(head)
        if len(self.held) >= self.need:
            self.held.clear()
            self.need = 0
            self.loop.answered(self, time.perf_counter() - self.asked_at)

    def connection_lost(self, exc: Exception | None) -> None:
        self.loop.fail(f"a connection was closed: {exc}")


def _field(head: bytes, name: bytes) -> bytes | None:
    _, found, rest = head.partition(b"\r\n" + name + b":")
    return rest.partition(b"\r\n")[0].strip() if found else None


class Loop:
    """Askers on one port. requests: whole ones, without end. things: that each asks about."""

    def __init__(self, port: int, requests: Iterable[bytes], things: int = 1) -> None:
        self.port = port
        self.requests = iter(requests)
        self.things = things
        self.seen = Seen()
        self.askers: list[Asker] = []
        self.busy = 0
        self.stopping = False
        self.failure = ""
        self.idle = asyncio.Event()

    async def open(self, concurrency: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(concurrency):
            made = await loop.create_connection(lambda: Asker(self), "127.0.0.1", self.port)
            self.askers.append(made[1])

    def close(self) -> None:
        self.stopping = True
        for asker in self.askers:
            if asker.transport is not None:
                asker.transport.abort()

    async def run(self, warm: float, seconds: float, used: Callable[[], float]) -> Seen:
        """What was answered in the `seconds` after `warm`, or longer until something was.
        used: CPU microseconds up to now.

        Returns when nothing is under way any more. Raises WrongAnswerError, TimeoutError.
        """
        self.stopping = False
        self.idle.clear()
        self.busy = len(self.askers)
        for asker in self.askers:
            asker.ask()
        await self._pass(warm)
        self.seen = seen = Seen()
        spent, began = used(), time.perf_counter()
        await self._pass(seconds)
        async with asyncio.timeout(PATIENCE):
            while not seen.things:  # a machine that stood still all that time answered nothing
                await self._pass(seconds)
        seen.took = time.perf_counter() - began
        seen.spent = used() - spent
        self.seen = Seen()
        self.stopping = True
        async with asyncio.timeout(PATIENCE):
            await self.idle.wait()
        self._check()
        return seen

    async def _pass(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._check()

    def _check(self) -> None:
        if self.failure:
            raise WrongAnswerError(self.failure)

    def read(self, head: bytes) -> None:
        seen = self.seen
        status = _field(head, b"cache-status")
        if status is not None and (b"hit" in status or b"collapsed" in status):
            seen.known += self.things
            return
        batch = _field(head, b"x-remora-batch")
        size = int(batch.partition(b"size=")[2].partition(b";")[0]) if batch else self.things
        seen.calls += self.things / size

    def answered(self, asker: Asker, seconds: float) -> None:
        self.seen.seconds.append(seconds)
        self.seen.things += self.things
        if not self.stopping:
            asker.ask()
            return
        self.busy -= 1
        if not self.busy:
            self.idle.set()

    def fail(self, why: str) -> None:
        if not self.stopping or self.busy:
            self.failure = self.failure or why
            self.idle.set()
