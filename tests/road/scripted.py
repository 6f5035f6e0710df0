"""An upstream whose every byte a test scripts."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

from tests.road.wire import End, Gone, Message


class Peer(End):
    """The upstream's end of a connection that remora opened."""

    number = 0
    """Of the upstream's connections, from 0."""

    async def request(self) -> Message:
        """The next request, with its body. Raises Gone when remora closes instead."""
        message = await self.head()
        if message.chunked:
            message.body = await self.chunks()
            message.trailers = self.trailers
        elif (length := message["content-length"]) is not None:
            message.body = await self.exactly(int(length))
        return message


Script = Callable[[Peer], Awaitable[None]]


class Upstream:
    """An upstream that runs `script` for each connection, and closes it when the script returns.

    A script that meets Gone has seen remora leave, and that is no failure; any other exception
    fails the test when the upstream is stopped.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.peers: list[Peer] = []
        self.url = ""
        self.address: tuple[str, int] = ("", 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._server: asyncio.Server | None = None

    @property
    def made(self) -> int:
        """Connections that were ever accepted."""
        return len(self.peers)

    @property
    def open(self) -> int:
        return len(self._tasks)

    async def start(self, path: str | None = None, context: ssl.SSLContext | None = None) -> None:
        if path is not None:
            self._server = await asyncio.start_unix_server(self._accepted, path, ssl=context)
            self.url = f"unix:{path}"
            return
        self._server = await asyncio.start_server(
            self._accepted, "127.0.0.1", 0, ssl=context, backlog=1024
        )
        self.address = self._server.sockets[0].getsockname()[:2]
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.address[1]}"

    async def stop(self) -> None:
        """Closes everything. Raises what a script failed with."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self.peers:
            peer.abort()
        if self._failures:
            raise self._failures[0]

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        peer.number = len(self.peers)
        self.peers.append(peer)
        task = asyncio.get_running_loop().create_task(self._play(peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, peer: Peer) -> None:
        try:
            await self.script(peer)
        except Gone:
            pass
        except Exception as error:
            self._failures.append(error)
        finally:
            peer.close()


def answering(*answers: bytes) -> Script:
    """A script that gives these answers, the last one again and again, on every connection."""

    async def script(peer: Peer) -> None:
        for turn in range(1_000_000):
            await peer.request()
            peer.send(answers[min(turn, len(answers) - 1)])

    return script
