"""A store on its way from the file to a layer, and its end."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, ClassVar

from pydantic import BaseModel

from proxy.chain import Env, Handler, RouteInfo, Store
from proxy.exchange import Request, Response
from proxy.file.layer import Layer
from tests.conftest import Serve, UpstreamMaker
from tests.road.scripted import answering
from tests.road.wire import ok

from .server import RedisServer


class Config(BaseModel):
    """No keys."""


class Remembers:
    """Keeps each path it sees."""

    Config: ClassVar[type] = Config

    def __init__(self, config: Any, env: Env) -> None:
        self.store: Store | None = env.store("redis")
        self.memory = env.store("memory")

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        if self.store is not None:
            await self.store.set(b"stopped", b"yes", 60)

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            if self.store is not None:
                await self.store.set(request.path, b"seen", 60)
            return await next(request)

        return handle


LAYER = Layer("tests.stores.test_env:Remembers", Remembers, Config())


async def test_a_layer_gets_what_the_file_defines(
    serve: Serve, upstream: UpstreamMaker, server: RedisServer
) -> None:
    """At its making; `memory` is no store of the house; it is open until the layers have ended."""
    remora = await serve(
        await upstream(answering(ok())),
        chain=[LAYER],
        stores={"redis": {"url": server.url, "timeout": 1, "prefix": "test"}},
    )
    layer = remora.layer(Remembers)
    assert layer.memory is None
    client = await remora.connect()
    await client.exchange(target="/a")
    assert await server.command("GET", "test:1:/a") == b"seen"
    await remora.server.stop()
    assert await server.command("GET", "test:1:stopped") == b"yes"
    told = await server.command("INFO", "clients")
    assert told["connected_clients"] == 1, "a connection was left open"
    assert await layer.store.get(b"/a") is None


async def test_without_one_there_is_none(serve: Serve, upstream: UpstreamMaker) -> None:
    """A file without `stores` gives layers None."""
    remora = await serve(await upstream(answering(ok())), chain=[LAYER])
    assert remora.layer(Remembers).store is None


def test_a_file_without_one_does_not_pay_for_it() -> None:
    """Redis's client is imported only where a file names a Redis."""
    program = "import sys, proxy.server, proxy.loader; sys.exit('redis' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
