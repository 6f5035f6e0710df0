"""A layer that does nothing, so that what a layer costs can be measured."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from proxy.chain import Env, Handler, RouteInfo
from proxy.exchange import Request, Response


class Noop:
    """Passes every request on; with `on: false` it is not in the handler at all."""

    unique: ClassVar[bool] = False

    class Config(BaseModel):
        """`on`: whether the layer stands in the chain."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        on: bool = True

    def __init__(self, config: Any, env: Env) -> None:
        self.on: bool = config.on

    async def start(self) -> None:
        return None

    async def stop(self) -> None:
        return None

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        if not self.on:
            return next

        async def handle(request: Request) -> Response:
            return await next(request)

        return handle
