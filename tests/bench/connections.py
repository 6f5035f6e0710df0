"""The load's connections: what is sent, and the proof that what comes back is the backend's."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable
from typing import cast

from . import wire

RECENT = 256
"""Bytes of a stream that are kept: its end, in however many pieces it comes."""


class WrongAnswerError(Exception):
    """The proxy did not give back what the backend sent."""


class Connection(asyncio.Protocol):
    """One keep-alive connection to the proxy. `failed` gets what goes wrong first."""

    def __init__(self, failed: asyncio.Future[None]) -> None:
        self.failed = failed
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def wrong(self, what: str, data: bytes = b"") -> None:
        if not self.failed.done():
            self.failed.set_exception(WrongAnswerError(f"{what} {data[:300]!r}".strip()))

    def close(self) -> None:
        self.closing = True
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closing:
            self.wrong(f"the proxy closed a connection ({exc})")


class Calls(Connection):
    """Sends the request, verifies the answer, and tells `answered`."""

    def __init__(
        self,
        failed: asyncio.Future[None],
        answered: Callable[[Calls], None],
        request: bytes = wire.request(),
    ) -> None:
        super().__init__(failed)
        self.answered = answered
        self.request = request
        self.buffer = b""
        self.size = 0
        self.sent_at = 0.0

    def send(self) -> None:
        self.sent_at = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
            self.buffer = b""
        # The size of a head that was parsed once: the load must cost less than the proxy.
        if len(data) != self.size and not self.parse(data):
            return
        if not data.startswith(b"HTTP/1.1 200 ") or not data.endswith(wire.ANSWER_BODY):
            self.wrong("not the backend's answer:", data)
            return
        self.answered(self)

    def parse(self, data: bytes) -> bool:
        head, end, _ = data.partition(b"\r\n\r\n")
        if end:
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0].strip()
            if length != b"%d" % wire.ANSWER_BYTES or not head.startswith(b"HTTP/1.1 200 "):
                self.wrong("not the backend's head:", data)
                return False
            self.size = len(head) + 4 + wire.ANSWER_BYTES
            if len(data) >= self.size:
                return True
        self.buffer = data
        return False


class Stream(Connection):
    """One SSE stream: counts the events, and how old each read's first one is."""

    def __init__(self, failed: asyncio.Future[None], ages: array[float]) -> None:
        super().__init__(failed)
        self.ages = ages
        self.events = 0
        self.recent = b""
        self.started = asyncio.get_running_loop().create_future()
        self.ended = asyncio.get_running_loop().create_future()

    def send(self, events: int) -> None:
        self.transport.write(wire.request(stream_events=events))

    def data_received(self, data: bytes) -> None:
        if not self.started.done():
            if not data.startswith(b"HTTP/1.1 200 "):
                self.wrong("not the backend's head:", data)
            self.started.set_result(None)
        self.events += data.count(b"[")
        at = data.find(wire.STAMP) + len(wire.STAMP)
        stamped = data[at : at + wire.STAMP_DIGITS]
        if at >= len(wire.STAMP) and len(stamped) == wire.STAMP_DIGITS:
            self.ages.append(wire.age(stamped))
        self.recent = (self.recent + data)[-RECENT:]
        if self.recent.endswith(b"0\r\n\r\n"):
            self.verify()

    def verify(self) -> None:
        usage = self.recent.rpartition(wire.USAGE)[2].partition(b"}")[0]
        if usage != b"%d" % (self.events - wire.CLOSING_EVENTS):
            self.wrong(f"{self.events} events came; the end says:", self.recent)
        elif not self.ended.done():
            self.ended.set_result(None)
