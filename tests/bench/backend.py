"""The model server of the bench: answers that are ready made, raw bytes on uvloop.

`python -m tests.bench.backend PORT`. A request that is not the bench's own gets 400, so that a
proxy that damages one is seen.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import uvloop

from . import wire

TICK = 0.001
"""Seconds: what uvloop's timers resolve. The streams are spread over the ticks of their period."""
BAD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


class Clockwork:
    """Writes each stream's events when they are due: one write an event. Counts the requests."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.streams: list[Connection] = []
        self.opened = 0
        self.requests = 0

    def add(self, stream: Connection) -> None:
        period = 1 / wire.EVENTS_PER_SECOND
        stream.due = (time.monotonic() // period + 1) * period + self.opened * TICK % period
        self.opened += 1
        self.streams.append(stream)
        if len(self.streams) == 1:
            self.loop.call_later(TICK, self.tick)

    def tick(self) -> None:
        now = time.monotonic()
        for stream in self.streams:
            while stream.due <= now and stream.left:
                stream.event()
        self.streams = [stream for stream in self.streams if stream.left]
        if self.streams:
            self.loop.call_later(TICK, self.tick)


class Connection(asyncio.Protocol):
    """One connection: no pipelining, since the load waits for each answer."""

    def __init__(self, clockwork: Clockwork) -> None:
        self.clockwork = clockwork
        self.buffer = b""
        self.due = 0.0
        self.left = 0
        self.sent = 0
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
            self.buffer = b""
        if data.endswith((wire.UNARY_END, wire.EMBEDDINGS_END)):
            whole = data.find(b"\r\n\r\n") + 4 + wire.REQUEST_BYTES == len(data)
            self.answer(wire.ANSWER if whole else BAD)
        elif data.endswith(wire.STREAM_END):
            self.left = int(data.rpartition(wire.TOKENS)[2].split(b",")[0])
            self.sent = 0
            self.answer(wire.STREAM_HEAD)
            self.clockwork.add(self)
        elif data == wire.COUNT:
            self.transport.write(wire.counted(self.clockwork.requests))
        elif data.startswith(b"GET ") and data.endswith(b"\r\n\r\n"):
            self.answer(wire.PAGE)
        else:
            self.buffer = data

    def answer(self, data: bytes) -> None:
        self.clockwork.requests += 1
        self.transport.write(data)

    def event(self) -> None:
        """The next event; one that back-pressure holds is never made up for."""
        self.due += 1 / wire.EVENTS_PER_SECOND
        self.left -= 1
        if not self.paused:
            self.sent += 1
            self.transport.write(wire.EVENT_BEFORE + wire.stamp() + wire.EVENT_AFTER)
        if not self.left:
            self.transport.write(wire.closing(self.sent))

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.left = 0
        self.paused = True


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    clockwork = Clockwork(loop)
    server = await loop.create_server(
        lambda: Connection(clockwork), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
