"""`remora serve` as a process of its own, and what it says on standard error."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 10.0
"""Seconds that anything may take which a test waits for."""


class Remora:
    """A running command. `serving` and `said` await log lines; `ended` awaits the exit status."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pid = process.pid
        self.lines: list[str] = []
        self._more = asyncio.Condition()
        self._reader = asyncio.ensure_future(self._read())

    async def serving(self, times: int = 1) -> list[str]:
        """Where it listens, once it has said so `times` times."""
        line = await self.said("serving on ", times)
        return line.partition("serving on ")[2].rstrip('"}').split(", ")

    async def said(self, pattern: str, times: int = 1) -> str:
        """The last of the first `times` lines that match. Fails when it ends before, or is late."""
        try:
            async with asyncio.timeout(PATIENCE), self._more:
                while True:
                    found = [line for line in self.lines if re.search(pattern, line)]
                    if len(found) >= times:
                        return found[times - 1]
                    assert not self._reader.done(), f"ended without {pattern!r}: {self.lines}"
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"never said {pattern!r}: {self.lines}") from None

    def send(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit status, when everything it wrote was read."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._reader
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"did not end: {self.lines}") from None

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    async def kill(self) -> None:
        """Ends it and its workers, whatever they are at."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self.process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            await self._tell(line.decode().rstrip("\n"))
        await self._tell(None)

    async def _tell(self, line: str | None) -> None:
        async with self._more:
            if line is not None:
                self.lines.append(line)
            self._more.notify_all()


@asynccontextmanager
async def command(*arguments: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Remora]:
    """`remora ARGUMENTS`, killed at the end if it is still there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", *arguments,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    remora = Remora(process)
    try:
        yield remora
    finally:
        await remora.kill()
