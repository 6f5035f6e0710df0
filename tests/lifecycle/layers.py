"""Layers that fail, each in its own way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from proxy.chain import Env, Handler, RouteInfo
from proxy.exchange import Request, Response


class Nothing(BaseModel):
    """No keys."""


class Passive:
    """Passes everything on."""

    Config: ClassVar[type] = Nothing

    def __init__(self, config: Any, env: Env) -> None:
        self.env = env

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        return next


class Raises(Passive):
    """Fails with each request."""

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            raise LookupError("a bug\nin a layer")

        return handle


class FailsToStart(Passive):
    """Cannot start."""

    async def start(self) -> None:
        raise RuntimeError("no store")


class Where(BaseModel):
    """A path."""

    path: Path


class FailsWhere(Passive):
    """Cannot start where its path is one of a file."""

    Config = Where

    def __init__(self, config: Where, env: Env) -> None:
        super().__init__(config, env)
        self._path = config.path

    async def start(self) -> None:
        if self._path.exists():
            raise OSError("the store is gone")


class NeverStarts(Passive):
    """Waits for something that does not come."""

    async def start(self) -> None:
        await asyncio.Event().wait()


class Spawns(Passive):
    """Leaves work behind each request. `work` is what."""

    work: ClassVar[Callable[[], Awaitable[None]]]

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        async def work() -> None:
            await type(self).work()

        async def handle(request: Request) -> Response:
            self.env.spawn(work(), "left-over work")
            return await next(request)

        return handle
