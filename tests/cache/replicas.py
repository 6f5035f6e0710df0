"""Replicas of remora in one process, each with a cache, on one upstream and one Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from middleware.cache import Cache
from middleware.core.entry import Entry
from proxy.errors import StoreDown
from proxy.server import Server
from tests.contract.road import ModelServer, client, post, remora
from tests.stores.server import RedisServer

PATIENT = "30s"
"""Of a call to Redis: a machine that stands still for a moment is not a store that is down."""
HASTY = "250ms"
"""The same, where a test takes the Redis away."""

PATH = "/v1/embeddings"
ANSWER = b'{"data": [1]}'
JSON = b"Content-Type: application/json"


@asynccontextmanager
async def replica(
    model: ModelServer,
    redis: RedisServer | None = None,
    /,
    store_timeout: str = PATIENT,
    **keys: Any,
) -> AsyncIterator[Server]:
    """One remora with a cache of these keys; on `redis` the stores are memory and redis."""
    stores: dict[str, Any] = {}
    if redis is not None:
        stores = {"stores": {"redis": {"url": redis.url, "timeout": store_timeout}}}
        keys = {"stores": ["memory", "redis"], "secret": "shared by all", **keys}
    async with remora(model.url, [{"middleware.cache:Cache": keys}], **stores) as server:
        yield server


def cache_of(server: Server) -> Cache:
    assert server._assembly is not None
    (layer,) = server._assembly._layers
    assert isinstance(layer, Cache)
    return layer


async def ask(server: Server, text: str = "a", *fields: bytes) -> tuple[bytes, bytes]:
    """(head, body) of the answer to a question, on a connection of its own."""
    async with client(server) as user:
        await user.send(post(PATH, json.dumps({"input": text}).encode(), *fields))
        return await user.read_answer()


async def answered(
    model: ModelServer, asking: Awaitable[tuple[bytes, bytes]], body: bytes = ANSWER
) -> tuple[bytes, bytes]:
    """The upstream is asked once, and answers."""
    task = asyncio.ensure_future(asking)
    await (await model.asked()).answer(body, JSON)
    return await task


async def settled(server: Server) -> None:
    """Until what the server does besides its answers is done."""
    assert server._assembly is not None
    await eventually(lambda: server._assembly.env.spawned == 0)  # type: ignore[union-attr]


async def eventually(condition: Callable[[], Any], within: float = 10.0) -> None:
    """For what tells of no event when it changes."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)


def entry(**fields: Any) -> Entry:
    """An entry of just now."""
    plain: dict[str, Any] = {
        "status": 200, "reason": b"OK", "headers": [(b"content-type", b"application/json")],
        "body": ANSWER, "stored_at": 1000.0, "lifetime": 300.0, "keep": 300.0,
    }  # fmt: skip
    return Entry(**{**plain, **fields})


class Store:
    """`proxy.chain.Store` in a dict: for what a real one cannot be made to do at a given time."""

    name = "redis"
    compress: Callable[[bytes], bytes] | None = None
    decompress: Callable[[bytes, int], bytes] | None = None

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.up = True
        self.calls = 0
        self.go = asyncio.Event()
        self.go.set()

    async def _call(self) -> None:
        self.calls += 1
        await self.go.wait()

    async def get(self, key: bytes) -> bytes | None:
        await self._call()
        return self.values.get(key) if self.up else None

    async def get_many(self, keys: Any) -> list[bytes | None]:
        return [await self.get(key) for key in keys]

    async def set(self, key: bytes, value: bytes, ttl_s: float) -> None:
        await self._call()
        if self.up:
            self.values[key] = value

    async def delete(self, key: bytes) -> None:
        await self._call()
        if self.up:
            self.values.pop(key, None)

    async def add(self, key: bytes, value: bytes, ttl_s: float) -> bool:
        await self._call()
        if not self.up:
            raise StoreDown("down")
        return self.values.setdefault(key, value) is value

    async def extend(self, key: bytes, value: bytes, ttl_s: float) -> bool:
        await self._call()
        if not self.up:
            raise StoreDown("down")
        return self.values.get(key) == value

    async def compare_delete(self, key: bytes, value: bytes) -> bool:
        await self._call()
        if not self.up or self.values.get(key) != value:
            return False
        del self.values[key]
        return True

    async def increment(self, key: bytes) -> int:
        raise NotImplementedError
