"""How a bench ends that is told to: with everything it started."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

from . import cpu

GRACE = 5.0
"""Seconds that what it started has to stop."""


def ends_on_sigterm() -> None:
    """From here on a SIGTERM ends this process and all that it started. For the main of every bench
    that starts processes. An exception would not do: it may come amid a callback of the event
    loop, whose tasks then wait for each other. Temporary files stay.
    """
    signal.signal(signal.SIGTERM, _end)


def _end(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    started = cpu.tree(os.getpid())[1:]
    _tell(started, signal.SIGTERM)
    limit = time.monotonic() + GRACE
    while any(map(cpu.alive, started)) and time.monotonic() < limit:
        time.sleep(0.02)
    _tell(started, signal.SIGKILL)
    os._exit(128 + signal.SIGTERM)


def _tell(processes: list[int], number: signal.Signals) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
