"""A process of its own with many clients: `python -m tests.cache.askers PORT REQUEST-IN-HEX N`.

Says `asked` once all have asked, the first one before the others; then a JSON list, for each
client in order, of the milliseconds from the first one's first byte to its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import uvloop


class Asker(asyncio.Protocol):
    """Notes when its first byte came. On Linux all processes read one monotonic clock."""

    first = 0.0
    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.first:
            self.first = time.perf_counter()


async def main(port: int, request: bytes, count: int) -> None:
    loop = asyncio.get_running_loop()
    askers = []
    for _ in range(count):
        _, asker = await loop.create_connection(Asker, "127.0.0.1", port)
        askers.append(asker)
        asker.transport.write(request)
    print("asked", flush=True)
    while not all(asker.first for asker in askers):
        await asyncio.sleep(0.01)
    print(json.dumps([(asker.first - askers[0].first) * 1e3 for asker in askers]), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), bytes.fromhex(sys.argv[2]), int(sys.argv[3])))
