"""A server in a process of its own: started, waited for, and ended with all that it started."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import IO, Self


class ChildFailed(Exception):
    """The process ended or did not answer in time; the message ends with what it printed last."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """A server on 127.0.0.1 as a child process, as a context manager, sync or async.

    name: for messages. argv: the command. port: where it will listen. ready: the path that answers
    200 once it is ready; None where an accepted connection says enough. ready_port: the port of
    `ready`, where it is another. within: seconds it may take to be ready. grace: seconds from
    SIGTERM to a second one, and from there to SIGKILL.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        port: int,
        *,
        ready: str | None = None,
        ready_port: int | None = None,
        within: float = 20.0,
        grace: float = 3.0,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.port = port
        self.ready = ready
        self.ready_port = ready_port or port
        self.within = within
        self.grace = grace
        self.ready_after = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, without a path: `http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id, also its process group's. Raises ChildFailed before the start."""
        if self._process is None:
            raise ChildFailed(f"{self.name} was not started")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it is ready. Raises ChildFailed, with nothing left running."""
        self._spawn()
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """SIGTERM, a second one after `grace`, then SIGKILL to the whole process group."""
        process, self._process = self._process, None
        if process is not None:
            for _ in range(2):
                process.terminate()
                try:
                    process.wait(self.grace)
                    break
                except subprocess.TimeoutExpired:
                    continue
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
            process.wait()
        if self._log is not None:
            self._log.close()
            self._log = None

    def printed(self, limit: int = 2000) -> str:
        """The last `limit` bytes of what it printed."""
        if self._log is None:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        start = max(0, size - limit)
        return os.pread(self._log.fileno(), limit, start).decode("utf-8", "replace").strip()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self._spawn()
        try:
            await asyncio.to_thread(self._wait_ready)
        except BaseException:
            self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.shield(asyncio.to_thread(self.stop))

    def _spawn(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed by stop()
        # A session of its own: Ctrl-C in a terminal reaches the parent alone, which then cleans up.
        try:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self.stop()
            raise ChildFailed(f"{self.name} cannot be started: {error}") from error

    def _wait_ready(self) -> None:
        began = time.monotonic()
        while not self._answers():
            process = self._process
            if process is None:
                raise ChildFailed(f"{self.name} was stopped before it was ready")
            if process.poll() is not None:
                raise ChildFailed(
                    f"{self.name} ended with status {process.returncode}:\n{self.printed()}"
                )
            if time.monotonic() - began > self.within:
                raise ChildFailed(
                    f"{self.name} was not ready in {self.within:g} s:\n{self.printed()}"
                )
            time.sleep(0.01)
        self.ready_after = time.monotonic() - began

    def _answers(self) -> bool:
        try:
            if self.ready is None:
                socket.create_connection(("127.0.0.1", self.ready_port), timeout=1).close()
                return True
            return get(self.ready_port, self.ready)[0] == 200
        except (OSError, http.client.HTTPException):
            return False


class ModelServer(Child):
    """A child that generates, and can tell how much it is at."""

    def busy(self) -> int:
        """How many generations are under way. Raises OSError when it does not answer."""
        raise NotImplementedError

    async def settled(
        self, generations: int = 0, *, within: float = 10.0, every: float = 0.005
    ) -> float:
        """Wait until exactly `generations` are under way; seconds that took.

        Raises TimeoutError after `within` seconds.
        """
        return await settled(self.busy, generations, within=within, every=every)


async def settled(
    read: Callable[[], float], wanted: float, *, within: float = 10.0, every: float = 0.005
) -> float:
    """Wait until `read()` gives `wanted`; seconds that took. Asks each `every` seconds.

    Raises TimeoutError, saying what it gave last, after `within` seconds. A model server has no
    event to await, so this asks again and again, in a thread.
    """
    began = time.monotonic()
    while (value := await asyncio.to_thread(read)) != wanted:
        left = within - (time.monotonic() - began)
        if left <= 0:
            raise TimeoutError(f"still {value:g}, not {wanted:g}, after {within:g} s")
        await asyncio.sleep(min(every, left))
    return time.monotonic() - began


def get(port: int, path: str, timeout: float = 5.0) -> tuple[int, bytes]:
    """Status and body of GET http://127.0.0.1:PORT/PATH. Raises OSError or HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
