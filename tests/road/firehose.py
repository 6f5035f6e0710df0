"""A fast server in a process of its own: `python -m tests.road.firehose PORT BYTES`.

GET is answered with BYTES bytes of a pattern, as fast as they are taken. `GET /ready` is empty.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys

import uvloop

BLOCK = b"".join(hashlib.blake2b(b"%d" % number).digest() for number in range(1024))
"""64 KiB that repeat."""


def pattern(at: int, size: int) -> bytes:
    """`size` bytes of an answer from offset `at`."""
    start = at % len(BLOCK)
    return (BLOCK * (2 + size // len(BLOCK)))[start : start + size]


async def main(port: int, size: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = 0 if head.startswith(b"GET /ready") else size
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
                for _ in range(length // len(BLOCK)):
                    writer.write(BLOCK)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), int(sys.argv[2])))
