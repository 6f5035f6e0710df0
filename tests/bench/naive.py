"""The proxy that aiohttp's documentation leads to: a server, one ClientSession, bodies streamed.

`python -m tests.bench.naive PORT UPSTREAM_PORT`.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, TCPConnector, web

HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


async def main(port: int, upstream: str) -> None:
    session = ClientSession(connector=TCPConnector(limit=0), auto_decompress=False)

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = [pair for pair in request.headers.items() if pair[0].lower() not in HOP]
        async with session.request(
            request.method,
            upstream + request.raw_path,
            headers=headers,
            data=request.content if request.body_exists else None,
            allow_redirects=False,
        ) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in HOP:
                    response.headers.add(name, value)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), f"http://127.0.0.1:{sys.argv[2]}"))
