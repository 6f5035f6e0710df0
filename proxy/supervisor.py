"""`workers: N`: N processes on one set of sockets, and one that watches over them.

The sockets are bound once and inherited, so a worker that dies takes no queued connection with
it. The supervisor runs no event loop: it waits for signals and for children. Two pipes tie the
workers to it: one tells it that a worker serves, the other tells them when it is no more.
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
from .lifecycle import CannotStart, Parent, Place, Sockets, run

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


class Tie:
    """The pipes between a supervisor and its workers, as the supervisor has them."""

    def __init__(self) -> None:
        gone, self._alive = os.pipe()
        self._told, served = os.pipe()
        os.set_blocking(self._told, False)
        self._worker = Parent(gone, served)

    def of_worker(self) -> Parent:
        """The ends of a worker that was forked just now; it keeps no others."""
        os.close(self._alive)
        os.close(self._told)
        return self._worker

    def has_served(self) -> bool:
        """Whether a worker has said that it serves, since this was asked last."""
        try:
            return bool(os.read(self._told, 4096))
        except BlockingIOError:
            return False

    def close(self) -> None:
        for end in (self._alive, self._told, self._worker.gone, self._worker.served):
            os.close(end)


class Supervisor:
    """Starts workers, starts dead ones again with back-off, passes SIGTERM on.

    The first goes ahead alone: what keeps it from serving would keep all of them. release: lets
    go of what only a worker yet to be started would need.
    """

    def __init__(
        self, workers: int, work: Callable[[int, Parent], int], release: Callable[[], None]
    ) -> None:
        self._work = work
        self._release = release
        self._backoff = [Backoff() for _ in range(workers)]
        self._running: dict[int, tuple[int, float]] = {}
        self._due: dict[int, float] = dict.fromkeys(range(workers), 0.0)
        self._stopping = False
        self._served = False
        """A worker has served: whatever ends one from now on may pass."""

    def run(self) -> int:
        """Until every worker has ended after a signal; the exit status. Raises CannotStart when
        the first ends before it has served.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        tie = Tie()
        try:
            return self._watch(tie)
        finally:
            tie.close()

    def _watch(self, tie: Tie) -> int:
        failed = 0
        while self._running or not self._stopping:
            self._start_due(tie)
            caught = signal.sigtimedwait(_SIGNALS, TICK)
            if caught is not None and caught.si_signo in (signal.SIGTERM, signal.SIGINT):
                if not self._stopping:
                    self._stopping = True
                    self._release()
                for pid in self._running:
                    os.kill(pid, signal.SIGTERM)
            ended = self._reap()
            # Behind the look at who has ended: what a worker said it said before.
            self._served = tie.has_served() or self._served
            for index, lived, code in ended:
                failed |= self._ended(index, lived, code)
        return failed

    def _start_due(self, tie: Tie) -> None:
        if self._stopping:
            return
        now = time.monotonic()
        due = [index for index, at in self._due.items() if at <= now]
        if not self._served:
            due = [] if self._running else due[:1]
        for index in due:
            del self._due[index]
            try:
                pid = os.fork()
            except OSError as error:  # the system has no process left for us, now
                if not self._served:
                    raise
                self._again(index, 0.0, f"cannot be started: {error.strerror}")
                continue
            if pid == 0:
                self._child(index, tie.of_worker())
            self._running[pid] = (index, now)

    def _child(self, index: int, parent: Parent) -> None:
        status = 1
        try:
            # Ctrl-C reaches the whole group: the supervisor makes one SIGTERM of it.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            status = self._work(index, parent)
        except OSError as error:  # what only starting shows, as in the command itself
            log.error("worker %d failed: %s", index, error)
        except BaseException:
            log.exception("worker %d failed", index)
        finally:
            logging.shutdown()
            os._exit(status)

    def _reap(self) -> list[tuple[int, float, int]]:
        """Workers that have ended: which, how many seconds each lived, its exit code."""
        ended = []
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid in self._running:
                index, born = self._running.pop(pid)
                lived = time.monotonic() - born
                ended.append((index, lived, os.waitstatus_to_exitcode(status)))
        return ended

    def _ended(self, index: int, lived: float, code: int) -> int:
        """What becomes of a worker's place; 1 where its end is a failure of the whole."""
        if self._stopping:
            # SIGTERM's own: it came before the worker could take it for a wish to drain.
            return int(code not in (0, -signal.SIGTERM))
        if not self._served:
            raise CannotStart(
                f"the first worker ended with {code} before it served; the others were not started"
            )
        self._again(index, lived, f"ended with {code}")
        return 0

    def _again(self, index: int, lived: float, why: str) -> None:
        wait = self._backoff[index].after(lived)
        self._due[index] = time.monotonic() + wait
        log.error("worker %d %s; starting it again in %.1f s", index, why, wait)


def supervise(file: config.Config, sockets: Sockets) -> int:
    """Serves with `file.workers` processes; the exit status.

    Where there is an admin port the workers tell each other their numbers over unix sockets, and
    these need a temporary directory; without one this raises OSError. Raises CannotStart.
    """
    room = Path(tempfile.mkdtemp(prefix="remora-")) if sockets.admin is not None else None

    def work(index: int, parent: Parent) -> int:
        return run(file, sockets, _place(parent, room, index, file.workers))

    try:
        # A listener that we still held would take connections which no worker accepts any more.
        return Supervisor(file.workers, work, sockets.close).run()
    finally:
        if room is not None:
            shutil.rmtree(room, ignore_errors=True)


def _place(parent: Parent, room: Path | None, index: int, workers: int) -> Place:
    if room is None:
        return Place(parent, None, ())
    paths = [room / f"worker-{number}.sock" for number in range(workers)]
    own = paths.pop(index)
    own.unlink(missing_ok=True)  # a worker that died has left its own behind
    return Place(parent, own, paths)
