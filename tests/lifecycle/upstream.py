"""A server behind remora whose slow answers end when a test says so."""

from __future__ import annotations

import asyncio

from aiohttp import web

PIECE = b"x" * 1000
PAUSE = 0.1
"""Seconds."""


class Upstream:
    """`/slow` sends one PIECE, and a second one after `go`; `/never` sends nothing before `go`;
    `/trickle` takes PAUSE between two PIECEs; `/status/NNN` answers NNN; anything else is `ok`.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = asyncio.Event()
        """`/never` was asked for."""
        self.left = asyncio.Event()
        """The reader of a slow answer went away before its end."""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/slow", self._slow)
        app.router.add_get("/never", self._never)
        app.router.add_get("/trickle", self._trickle)
        app.router.add_get(r"/status/{status:\d+}", self._status)
        app.router.add_route("*", "/{rest:.*}", self._ok)
        return app

    async def _slow(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            await answer.write(PIECE)
            await self.go.wait()
            await answer.write(PIECE)
        except (ConnectionError, asyncio.CancelledError):
            self.left.set()
            raise
        return answer

    async def _never(self, request: web.Request) -> web.Response:
        self.asked.set()
        await self.go.wait()
        return web.Response()

    async def _trickle(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(PIECE)
        await asyncio.sleep(PAUSE)
        await answer.write(PIECE)
        return answer

    async def _status(self, request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["status"]))

    async def _ok(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(text="ok")
