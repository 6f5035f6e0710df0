"""`workers: N`: N processes on one set of sockets, and one that watches over them.

The sockets are bound once and inherited, so a worker that dies takes no queued connection with
it. The supervisor runs no event loop: it waits for signals and for children.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import config
from .lifecycle import Place, Sockets, run

log = logging.getLogger("remora")

FIRST_BACKOFF = 0.1
MAX_BACKOFF = 30.0
"""Seconds before a dead worker is started again: doubled each time, up to this."""
STABLE_AFTER = 60.0
"""Seconds a worker must have lived for its next death to count as the first."""
TICK = 0.2
"""Seconds between looks at who is due to be started again."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class Backoff:
    """How long to wait before a worker is started again."""

    def __init__(self) -> None:
        self._next = FIRST_BACKOFF

    def after(self, lived: float) -> float:
        """Seconds to wait, given how long the worker lived."""
        if lived >= STABLE_AFTER:
            self._next = FIRST_BACKOFF
        wait = min(MAX_BACKOFF, self._next)
        self._next = 2 * wait
        return wait


class Supervisor:
    """Starts workers, starts dead ones again with back-off, passes SIGTERM on.

    release: lets go of what only a worker yet to be started would need.
    """

    def __init__(
        self, workers: int, work: Callable[[int], int], release: Callable[[], None]
    ) -> None:
        self._work = work
        self._release = release
        self._backoff = [Backoff() for _ in range(workers)]
        self._running: dict[int, tuple[int, float]] = {}
        self._due: dict[int, float] = dict.fromkeys(range(workers), 0.0)
        self._stopping = False

    def run(self) -> int:
        """Until every worker has ended after a signal; the exit status."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        failed = 0
        while self._running or not self._stopping:
            self._start_due()
            caught = signal.sigtimedwait(_SIGNALS, TICK)
            if caught is not None and caught.si_signo in (signal.SIGTERM, signal.SIGINT):
                if not self._stopping:
                    self._stopping = True
                    self._release()
                for pid in self._running:
                    os.kill(pid, signal.SIGTERM)
            failed |= self._reap()
        return failed

    def _start_due(self) -> None:
        if self._stopping:
            return
        now = time.monotonic()
        for index in [index for index, due in self._due.items() if due <= now]:
            del self._due[index]
            pid = os.fork()
            if pid == 0:
                self._child(index)
            self._running[pid] = (index, now)

    def _child(self, index: int) -> None:
        status = 1
        try:
            # Ctrl-C reaches the whole group: the supervisor makes one SIGTERM of it.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            status = self._work(index)
        except OSError as error:  # what only starting shows, as in the command itself
            log.error("worker %d failed: %s", index, error)
        except BaseException:
            log.exception("worker %d failed", index)
        finally:
            logging.shutdown()
            os._exit(status)

    def _reap(self) -> int:
        failed = 0
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid not in self._running:
                continue
            index, born = self._running.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if self._stopping:
                # SIGTERM's own: it came before the worker could take it for a wish to drain.
                failed |= int(code not in (0, -signal.SIGTERM))
                continue
            wait = self._backoff[index].after(time.monotonic() - born)
            self._due[index] = time.monotonic() + wait
            log.error("worker %d ended with %d; starting it again in %.1f s", index, code, wait)
        return failed


def supervise(file: config.Config, sockets: Sockets) -> int:
    """Serves with `file.workers` processes; the exit status.

    Where there is an admin port the workers tell each other their numbers over unix sockets, and
    these need a temporary directory; without one this raises OSError.
    """
    room = Path(tempfile.mkdtemp(prefix="remora-")) if sockets.admin is not None else None

    def work(index: int) -> int:
        return run(file, sockets, _place(room, index, file.workers))

    try:
        # A listener that we still held would take connections which no worker accepts any more.
        return Supervisor(file.workers, work, sockets.close).run()
    finally:
        if room is not None:
            shutil.rmtree(room, ignore_errors=True)


def _place(room: Path | None, index: int, workers: int) -> Place:
    if room is None:
        return Place(None, ())
    paths = [room / f"worker-{number}.sock" for number in range(workers)]
    own = paths.pop(index)
    own.unlink(missing_ok=True)  # a worker that died has left its own behind
    return Place(own, paths)
