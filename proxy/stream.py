"""A body on its way, and the two ends of the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from .errors import BodyTooLarge

Headers = list[tuple[bytes, bytes]]

HIGH_WATER = 64 * 1024
"""Bytes a Stream holds before it pauses its source: one socket buffer's worth."""


class Source(Protocol):
    """Where a Stream's bytes come from; told to hold, to go on, or to give up."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def abort(self) -> None: ...


class Sink(Protocol):
    """Where a Stream's bytes go, each the moment it arrives."""

    def write(self, chunk: bytes) -> None: ...
    def end(self, trailers: Headers) -> None: ...
    def fail(self, error: Exception) -> None: ...


class Stream:
    """A body on its way: one producer, one consumer, bounded in between.

    The producer calls `feed`, then `end` or `fail`. The consumer either pulls (`await read()`)
    or attaches a sink (`pipe`), which then gets every chunk in the producer's own call: no task
    is woken per chunk (tests/bench: sse_relay).
    """

    # fmt: off
    __slots__ = (
        "_chunks", "_error", "_first", "_held", "_last", "_sink", "_size", "_source", "_waiter",
        "done", "trailers",
    )
    # fmt: on

    def __init__(self, source: Source | None = None) -> None:
        self._source = source
        self._chunks: list[bytes] = []
        self._size = 0
        self._sink: Sink | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._first: Callable[[], None] | None = None
        self._last: Callable[[], None] | None = None
        self._held = False
        self.done = False
        """The producer has said end or fail."""
        self.trailers: Headers = []

    # -- producer

    def feed(self, chunk: bytes) -> None:
        if not chunk:
            return  # framed as a chunk it would end the body
        if self._first is not None:
            first, self._first = self._first, None
            first()
        if self._sink is not None:
            self._sink.write(chunk)
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > HIGH_WATER:
            self.pause()
        self._wake()

    def end(self, trailers: Headers | None = None) -> None:
        if self.done:
            return
        self._is_done()
        if trailers:
            self.trailers = trailers
        if self._sink is not None:
            self._sink.end(self.trailers)
        self._wake()

    def fail(self, error: Exception) -> None:
        """The rest will never come. What was fed before is still delivered first."""
        if self.done:
            return
        self._is_done()
        self._error = error
        if self._sink is not None:
            self._sink.fail(error)
        self._wake()

    def _is_done(self) -> None:
        self.done = True
        if self._last is not None:
            last, self._last = self._last, None
            last()

    # -- consumer

    def on_done(self, callback: Callable[[], None]) -> None:
        """Run `callback` once, when the producer has said end or fail; at once where it has."""
        if self.done:
            callback()
        else:
            self._last = callback

    def on_first(self, callback: Callable[[], None]) -> None:
        """Run `callback` once, when the first byte comes; at once where one is here to be read."""
        if self._chunks:
            callback()
        else:
            self._first = callback

    def pipe(self, sink: Sink) -> None:
        """Hand over what has come, then everything else as it comes."""
        self._sink = sink
        chunks, self._chunks, self._size = self._chunks, [], 0
        for chunk in chunks:
            sink.write(chunk)
        if self.done:
            if self._error is not None:
                sink.fail(self._error)
            else:
                sink.end(self.trailers)
        else:
            self.resume()

    def take(self) -> bytes:
        """What has come and was not read, without waiting; b"" when nothing has."""
        chunks, self._chunks, self._size = self._chunks, [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def unread(self, data: bytes) -> None:
        """Puts back what was read, before anything else: whoever reads or pipes next gets it.

        Not once a sink is attached. Also where the stream has ended or failed meanwhile.
        """
        assert self._sink is None, "what was piped is gone"
        if data:
            self._chunks.insert(0, data)
            self._size += len(data)
            if self._size > HIGH_WATER:
                self.pause()

    @property
    def piped(self) -> bool:
        """A sink has had some of it, or all: no other reader can have it from its beginning."""
        return self._sink is not None

    async def read(self) -> bytes:
        """The next piece, or b"" at the end. Raises what the producer failed with."""
        while not self._chunks:
            if self.done:
                if self._error is not None:
                    raise self._error
                return b""
            self.resume()
            if self._chunks or self.done:
                continue  # the source had more at hand, and gave it within the call
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.take()

    async def read_all(self, max_bytes: int, put_back: bool = False) -> bytes:
        """The whole body. Raises BodyTooLarge, or what the producer failed with.

        put_back: what was read of a body that is too large is there to be read again; else the
        body is aborted.
        """
        parts: list[bytes] = []
        size = 0
        while piece := await self.read():
            parts.append(piece)
            size += len(piece)
            if size > max_bytes:
                if put_back:
                    self.unread(b"".join(parts))
                else:
                    self.abort()
                raise BodyTooLarge(f"the body is over {max_bytes} bytes")
        return b"".join(parts)

    def pause(self) -> None:
        if not self._held and not self.done and self._source is not None:
            self._held = True
            self._source.pause()

    def resume(self) -> None:
        if self._held and self._source is not None:
            self._held = False
            if not self.done:
                self._source.resume()

    @property
    def held(self) -> bool:
        """The consumer has enough for now."""
        return self._held

    def abort(self) -> None:
        """The consumer wants no more. The source closes what it reads from."""
        if not self.done and self._source is not None:
            source, self._source = self._source, None
            source.abort()

    @property
    def complete(self) -> bool:
        """Everything has come and ended well; `take()` gives what was not read yet."""
        return self.done and self._error is None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
