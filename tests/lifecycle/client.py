"""A client that keeps one connection and never tries anything twice."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from .process import PATIENCE


@dataclass
class Answer:
    """status, fields by their lower-case names, and the body when all of it was read."""

    status: int
    fields: dict[str, str]
    body: bytes = b""

    @property
    def last(self) -> bool:
        """It says that the connection ends with it."""
        return self.fields.get("connection", "").lower() == "close"


class Lost(Exception):
    """The connection ended before a whole answer."""


class Client:
    """One connection. address: `host:port`, `[host]:port` or `unix:/path`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, address: str, tls: ssl.SSLContext | None = None) -> Self:
        if address.startswith("unix:"):
            return cls(*await asyncio.open_unix_connection(address.removeprefix("unix:")))
        host, _, port = address.rpartition(":")
        name = "localhost" if tls else None
        return cls(
            *await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=tls, server_hostname=name
            )
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass

    async def get(self, path: str, method: str = "GET", body: bytes = b"", *fields: str) -> Answer:
        """A whole exchange. Raises Lost."""
        answer = await self.begin(path, method, body, *fields)
        await self.rest(answer)
        return answer

    async def begin(
        self, path: str, method: str = "GET", body: bytes = b"", *fields: str
    ) -> Answer:
        """Sends a request, reads the head of its answer. Raises Lost."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        more = "".join(f"{field}\r\n" for field in fields)
        head = f"{method} {path} HTTP/1.1\r\nHost: remora.test\r\n{length}{more}\r\n"
        try:
            async with asyncio.timeout(PATIENCE):
                self.writer.write(head.encode() + body)
                lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        except (OSError, EOFError) as error:
            raise Lost(repr(error)) from error
        pairs = (line.split(":", 1) for line in lines[1:-1])
        fields = {name.lower(): value.strip() for name, value in pairs}
        return Answer(int(lines[0].split()[1]), fields)

    async def rest(self, answer: Answer) -> None:
        """Reads the body. Raises Lost."""
        try:
            async with asyncio.timeout(PATIENCE):
                if answer.fields.get("transfer-encoding") != "chunked":
                    size = int(answer.fields["content-length"])
                    answer.body = await self.reader.readexactly(size)
                    return
                while piece := await self.chunk():
                    answer.body += piece
        except (OSError, EOFError) as error:
            raise Lost(repr(error)) from error

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; b"" is the last."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def gone(self) -> bool:
        """Waits until the other side ends the connection; False when it sends something."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.reader.read(1) == b""
        except OSError:
            return True


async def get(
    address: str, path: str = "/", tls: ssl.SSLContext | None = None, *fields: str
) -> Answer:
    """One exchange on a connection of its own."""
    async with await Client.to(address, tls) as client:
        return await client.get(path, "GET", b"", *fields)


async def listening(address: str) -> None:
    """Waits until somebody listens there."""
    async with asyncio.timeout(PATIENCE):
        while not await _accepts(address):
            await asyncio.sleep(0.01)


async def refused(address: str) -> None:
    """Waits until nobody listens there any more."""
    async with asyncio.timeout(PATIENCE):
        while await _accepts(address):
            await asyncio.sleep(0.01)


async def _accepts(address: str) -> bool:
    try:
        client = await Client.to(address)
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    await client.close()
    return True
