"""How the demo tells what it does."""

from __future__ import annotations

import time


class DemoFailed(Exception):
    """A step did not do what it is there to show."""


class Printer:
    """Numbered steps on stdout, each line at once, the same with and without a terminal."""

    def __init__(self, steps: int) -> None:
        self._began = time.monotonic()
        self._steps = steps
        self._number = 0

    def step(self, title: str) -> None:
        self._number += 1
        elapsed = time.monotonic() - self._began
        print(f"\n[{self._number}/{self._steps}] {elapsed:5.1f} s  {title}", flush=True)

    def line(self, text: str) -> None:
        print(f"      {text}", flush=True)

    def piece(self, text: str) -> None:
        print(text, end="", flush=True)
