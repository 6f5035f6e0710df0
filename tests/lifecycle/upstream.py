"""A server behind remora whose slow answers end when a test says so."""

from __future__ import annotations

import asyncio

from aiohttp import web

PIECE = b"x" * 1000


class Upstream:
    """`/slow` sends one PIECE, and a second one after `go`; `/status/NNN` answers NNN; anything
    else is `ok`.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.slow = 0
        """Slow answers that have begun and not ended."""
        self.left = asyncio.Event()
        """The reader of a slow answer went away before its end."""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/slow", self._slow)
        app.router.add_get(r"/status/{status:\d+}", self._status)
        app.router.add_route("*", "/{rest:.*}", self._ok)
        return app

    async def _slow(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        self.slow += 1
        try:
            await answer.write(PIECE)
            await self.go.wait()
            await answer.write(PIECE)
        except (ConnectionError, asyncio.CancelledError):
            self.left.set()
            raise
        finally:
            self.slow -= 1
        return answer

    async def _status(self, request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["status"]))

    async def _ok(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(text="ok")
