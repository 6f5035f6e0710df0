"""A layer that notes what passes where it stands."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from proxy.chain import Env, Handler, RouteInfo
from proxy.errors import UpstreamError
from proxy.exchange import Outcome, Request, Response


class NotedConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Noted:
    """seen: requests that came by. outcomes: what they were told at their ends."""

    Config: ClassVar[type] = NotedConfig
    unique: ClassVar[bool] = False

    def __init__(self, config: NotedConfig, env: Env) -> None:
        self.seen: list[Request] = []
        self.outcomes: list[Outcome] = []

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            self.seen.append(request)
            request.on_end(self.outcomes.append)
            return await next(request)

        return handle


class Spoils(Noted):
    """Fails within the second piece of each streamed answer."""

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            response = await next(request)
            response.filters.append(_Spoiler())
            return response

        return handle


class _Spoiler:
    def __init__(self) -> None:
        self.pieces = 0

    def feed(self, chunk: bytes) -> bytes:
        self.pieces += 1
        if self.pieces == 2:
            raise UpstreamError("spoiled", code="spoiled")
        return chunk

    def end(self) -> bytes:
        return b""


NOTED: dict[str, Any] = {"tests.chain.layers:Noted": {}}
SPOILS: dict[str, Any] = {"tests.chain.layers:Spoils": {}}
