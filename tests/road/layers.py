"""Layers that tests put into a chain to see what becomes of an exchange."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from proxy.chain import Env, Handler, RouteInfo
from proxy.exchange import Outcome, Request, Response, Stream


class NoKeys(BaseModel):
    """A layer without keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Layer:
    """Passes everything on."""

    Config: ClassVar[type] = NoKeys

    def __init__(self, config: Any, env: Env) -> None:
        self.config = config

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        return next


class Witness(Layer):
    """Keeps each request and each Outcome. `ended` is set anew by every end."""

    def __init__(self, config: Any, env: Env) -> None:
        super().__init__(config, env)
        self.requests: list[Request] = []
        self.outcomes: list[Outcome] = []
        self.ended = asyncio.Event()

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            self.requests.append(request)
            request.on_end(self._end)
            return await next(request)

        return handle

    def _end(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.ended.set()


class Reader(Layer):
    """Reads the request's body into memory before it goes on."""

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            await request.read(1 << 20)
            return await next(request)

        return handle


class Restreams(Layer):
    """Puts a Stream of its own in the place of the request's body."""

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            body = await request.read()
            request.body = stream = Stream()
            stream.feed(body.upper())
            stream.feed(b"")
            stream.feed(b"!")
            stream.end()
            return await next(request)

        return handle


class Upper:
    """A body filter that changes letters to capitals and keeps a mark for the end."""

    def feed(self, chunk: bytes) -> bytes:
        return chunk.upper()

    def end(self) -> bytes:
        return b"!"


class Capitals(Layer):
    """Appends `Upper` to every answer."""

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            response = await next(request)
            response.filters.append(Upper())
            return response

        return handle
