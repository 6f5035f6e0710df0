"""A stored stream played back at the pace it came."""

from __future__ import annotations

import asyncio

from proxy.exchange import Stream

MAX_PAUSE = 0.25
"""Seconds between two pieces at most: a model that once was slow is not slow for ever."""


class Replay:
    """The Source of a Stream that gets `pieces` of `body`, one each `pause` seconds."""

    __slots__ = ("_at", "_body", "_held", "_loop", "_pause", "_pieces", "_timer", "stream")

    def __init__(self, body: bytes, pieces: tuple[int, ...], took: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._body = body
        self._pieces = iter(pieces)
        self._pause = min(MAX_PAUSE, took / len(pieces))
        self._at = 0
        self._held = False
        self._timer: asyncio.TimerHandle | None = None
        self.stream = Stream(self)
        self._next()

    def _next(self) -> None:
        self._timer = None
        if self._held:
            return
        size = next(self._pieces, None)
        if size is None:
            self.stream.end()
            return
        self.stream.feed(self._body[self._at : self._at + size])
        self._at += size
        self._timer = self._loop.call_later(self._pause, self._next)

    def pause(self) -> None:
        self._held = True

    def resume(self) -> None:
        self._held = False
        if self._timer is None:
            self._next()

    def abort(self) -> None:
        self._held = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
