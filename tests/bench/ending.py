"""How a bench ends that is told to: with everything it started."""

from __future__ import annotations

import signal
import sys
from typing import Any


def ends_on_sigterm() -> None:
    """From here on a SIGTERM ends this process as Ctrl-C does: each `with` is left, and what was
    started there is stopped. For the main of every bench that starts processes.
    """
    signal.signal(signal.SIGTERM, _end)


def _end(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would interrupt the stopping
    sys.exit(128 + signal.SIGTERM)
