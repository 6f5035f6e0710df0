"""A child process that is ended with everything it started, and says why when it does not start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from urllib.error import URLError
from urllib.request import urlopen

READY_TIMEOUT = 120.0
"""Seconds until a server must answer: torch takes 8 s to import on two busy cores."""

STOP_TIMEOUT = 15.0


def free_port() -> int:
    """A loopback port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server in a process group of its own; a context manager that waits until it answers.

    ready: a URL that answers 200 when it is up, or None where an accepted connection on `port` is
    enough. A SIGTERM during start can leave a grandchild on its port (Triton does), so it is the
    group that is ended.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        log: Path,
        *,
        ready: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.command = list(command)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self.ready = ready
        self.environ = {**os.environ, **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id, also its group's."""
        assert self._process is not None, "it was not started"
        return self._process.pid

    def __enter__(self) -> Server:
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environ,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the group: TERM, once more (remora's drain then stops at once), then KILL."""
        if self._process is None:
            return
        process, self._process = self._process, None
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            if self._gone(process, 1.0 if number == signal.SIGTERM else STOP_TIMEOUT):
                break
        process.wait(STOP_TIMEOUT)

    @staticmethod
    def _gone(process: subprocess.Popen[bytes], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            process.poll()
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.05)
        return False

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._answers():
            if process.poll() is not None:
                raise AssertionError(self._story(f"ended with {process.returncode}"))
            if time.monotonic() > deadline:
                raise AssertionError(self._story(f"did not answer in {READY_TIMEOUT} s"))
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            if self.ready is None:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return True
            with urlopen(self.ready, timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def _story(self, what: str) -> str:
        last = self.log.read_text(errors="replace").splitlines()[-30:]
        return "\n".join([f"{' '.join(self.command)}: {what}", *last])
