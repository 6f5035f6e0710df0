"""One connection to Redis, shared by callers: commands of one turn of the loop leave together."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, ResponseError
from redis.typing import EncodableT

MAX_LEFT = 1024
"""Replies due to callers who have left; a connection that owes more hangs, and is closed."""


class Line:
    """Replies come in the order of the commands, so each caller waits for its own alone, and
    whoever leaves disturbs nobody. connection: is connected, and used by nobody else; calls: that
    may be under way at once. Whoever makes one closes it, also one that has ended by itself.
    """

    def __init__(self, connection: AbstractConnection, calls: int) -> None:
        self._connection = connection
        self._most = calls + MAX_LEFT
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []
        self._asked = asyncio.Event()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._tasks = [
            self._loop.create_task(self._write(), name="commands to Redis"),
            self._loop.create_task(self._read(), name="replies of Redis"),
        ]
        self.open = True

    def ask(self, words: tuple[EncodableT, ...]) -> asyncio.Future[Any]:
        """The reply to a command. Raises ResponseError, or another error where none comes."""
        if len(self._waiting) >= self._most:
            self._end(ConnectionError("too many replies are due"))
        if not self.open:
            raise ConnectionError("the connection has been closed")
        self._unsent += self._connection.pack_command(*words)
        self._asked.set()
        reply = self._loop.create_future()
        self._waiting.append(reply)
        return reply

    async def close(self) -> None:
        """Ends what is under way."""
        self._end(ConnectionError("the connection was closed"))
        await self._connection.disconnect(nowait=True)
        await asyncio.wait(self._tasks)

    async def _write(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            commands, self._unsent = self._unsent, []
            try:
                await self._connection.send_packed_command(commands, check_health=False)
            except Exception as error:
                return self._end(error)

    async def _read(self) -> None:
        while True:
            value = refusal = None
            try:
                value = await self._connection.read_response(disable_decoding=True)
            except ResponseError as error:
                refusal = error
            except Exception as error:
                return self._end(error)
            if not self._waiting:
                return self._end(ConnectionError("a reply came that nobody had asked for"))
            reply = self._waiting.popleft()
            if reply.done():
                continue  # its caller has left
            if refusal is None:
                reply.set_result(value)
            else:
                reply.set_exception(refusal)

    def _end(self, error: Exception) -> None:
        # At once: redis-py would connect anew for commands that are sent after an end.
        self.open = False
        for task in self._tasks:
            task.cancel()
        while self._waiting:
            reply = self._waiting.popleft()
            if not reply.done():
                reply.set_exception(error)
