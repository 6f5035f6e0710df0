"""A TCP relay in front of a server: for TLS, and for an address that moves to another server."""

from __future__ import annotations

import asyncio
import ssl
from typing import Self

from .server import RedisServer


class Relay:
    """Each connection goes to what `target` is when it comes. delay: seconds of a connection's
    first bytes on their way there.
    """

    def __init__(
        self, target: RedisServer, context: ssl.SSLContext | None = None, delay: float = 0.0
    ) -> None:
        self.target = target
        self._delay = delay
        self.port = 0
        self._context = context
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._relay, "localhost", 0, ssl=self._context, family=2
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self.target.port)
        self._writers += writer, forth
        await asyncio.sleep(self._delay)
        await asyncio.gather(self._copy(reader, forth), self._copy(back, writer))

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()
