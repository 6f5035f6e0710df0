"""Timeouts that cost the hot path a dict entry, not a timer each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Deadlines that are all `timeout` seconds long: they come due in the order they were set.

    So a dict in insertion order is a queue, and one timer at its head serves everyone in it.
    `expire` is called with each item that comes due; it has left the queue by then.
    """

    __slots__ = ("_due", "_expire", "_loop", "_timer", "timeout")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeout: float | None, expire: Callable[[T], None]
    ) -> None:
        self._loop = loop
        self.timeout = timeout
        """Seconds, or None: never."""
        self._expire = expire
        self._due: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def set(self, item: T) -> None:
        """`item` has `timeout` seconds from now; a deadline it had is forgotten."""
        if self.timeout is None:
            return
        self._due.pop(item, None)
        due = self._due[item] = self._loop.time() + self.timeout
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._tick)

    def clear(self, item: T) -> None:
        self._due.pop(item, None)

    def close(self) -> None:
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __len__(self) -> int:
        return len(self._due)

    def _tick(self) -> None:
        now = self._loop.time()
        try:
            while self._due:
                item, due = next(iter(self._due.items()))
                if due > now:
                    break
                del self._due[item]
                self._expire(item)
        finally:
            # Not before: an `expire` that sets one again must not start a second timer.
            self._timer = None
            if self._due:
                self._timer = self._loop.call_at(next(iter(self._due.values())), self._tick)


CHECKS = 4
"""Looks of an IdleTimer within its timeout."""


class IdleTimer:
    """Fires when `moved` was not set for `timeout` seconds, or up to a quarter later.

    Whatever moves bytes sets `moved`, an assignment per chunk; the timer looks now and then.
    """

    __slots__ = ("_expire", "_handle", "_loop", "_still", "_timeout", "moved")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeout: float, expire: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._timeout = timeout
        self._expire = expire
        self._still = 0
        self.moved = False
        self._handle: asyncio.TimerHandle | None = loop.call_later(timeout / CHECKS, self._look)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        self._still = 0 if self.moved else self._still + 1
        self.moved = False
        if self._still < CHECKS:
            self._handle = self._loop.call_later(self._timeout / CHECKS, self._look)
        else:
            self._handle = None
            self._expire()
