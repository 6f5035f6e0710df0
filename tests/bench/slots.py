"""The model server of the overload bench: so many slots, and slower with each request beyond them.

`python -m tests.bench.slots PORT SLOTS PENALTY`. A request says in `x-work` how many seconds it
takes alone. Where its client leaves, the work ends. `GET /most` answers how many it had at once
since it was last asked. The arithmetic is that of `tests.concurrency.servers.SharedSlots`.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

from tests.concurrency.servers import SharedSlots

WORK = re.compile(rb"\r\nx-work: ([0-9.]+)\r\n", re.IGNORECASE)
ANSWER = b'{"object":"list","data":[],"model":"m"}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Slots:
    """The server's state, and its one timer: for the next answer that is due."""

    def __init__(self, loop: asyncio.AbstractEventLoop, slots: int, penalty: float) -> None:
        self.loop = loop
        self.model = SharedSlots(slots, penalty)
        self.most = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, connection: Connection, work: float) -> None:
        self.model.start(connection, work, self.loop.time())
        self.most = max(self.most, len(self.model))
        self._wait()

    def leave(self, connection: Connection) -> None:
        self.model.leave(connection, self.loop.time())
        self._wait()

    def _answer(self) -> None:
        now = self.loop.time()
        # A timer of the loop is up to a millisecond late: what became due meanwhile goes, too.
        while (due := self.model.due()) is not None and due <= now + 0.0005:
            cast("Connection", self.model.answer(max(due, now))).answer()
        self._wait()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self.model.due()
        self._timer = None if due is None else self.loop.call_at(due, self._answer)


class Connection(asyncio.Protocol):
    """One connection: a request at a time, heads without a body."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.buffer = b""
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.buffer.endswith(b"\r\n\r\n"):
            return
        head, self.buffer = self.buffer, b""
        work = WORK.search(head)
        if work is None:
            most = b"%d" % self.slots.most
            self.slots.most = 0
            self.transport.write(HEAD % len(most) + most)
            return
        self.busy = True
        self.slots.start(self, float(work[1]))

    def answer(self) -> None:
        self.busy = False
        self.transport.write(HEAD % len(ANSWER) + ANSWER)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            self.busy = False
            self.slots.leave(self)


async def main(port: int, number: int, penalty: float) -> None:
    loop = asyncio.get_running_loop()
    slots = Slots(loop, number, penalty)
    server = await loop.create_server(lambda: Connection(slots), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
