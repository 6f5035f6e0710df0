"""Three processes of remora and one Redis enforce one limit."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from proxy.demo.child import Child, free_port
from tests.contract.road import ModelServer, Wire, post
from tests.stores.server import RedisServer

from .test_windows import kinds

REPLICAS = 3
USED = 70
BODY = json.dumps({"messages": [{"role": "user", "content": "x" * 36}], "max_tokens": 100}).encode()
RESERVED = 110


@asynccontextmanager
async def replicas(
    folder: Path, model: ModelServer, redis: RedisServer, **keys: Any
) -> AsyncIterator[list[Child]]:
    """Each a process of its own, all with this layer."""
    async with AsyncExitStack() as running:
        started = []
        for number in range(REPLICAS):
            port = free_port()
            file = folder / f"{number}.yaml"
            told = {
                "listen": f"127.0.0.1:{port}",
                "admin": "off",
                "drain": {"quiet": "0s", "timeout": "1s"},
                "upstreams": {"default": {"endpoints": [model.url]}},
                "stores": {"redis": {"url": redis.url, "timeout": "5s"}},
                "chain": [{"rate_limit": {"store": "redis", "on_store_error": "closed", **keys}}],
            }
            file.write_text(yaml.safe_dump(told))
            argv = [sys.executable, "-m", "proxy", "serve", "-c", str(file)]
            started.append(Child(f"remora {number}", argv, port, grace=0.5))
        await asyncio.gather(*[running.enter_async_context(one) for one in started])
        yield started


async def answering(model: ModelServer) -> None:
    said = json.dumps({"usage": {"total_tokens": USED}}).encode()
    while True:
        asked = await model.asked_some()
        await asked.answer(said, b"Content-Type: application/json")


class Model(ModelServer):
    """Waits for a request for as long as there is none."""

    async def asked_some(self) -> Any:
        return await self._asked.get()


async def client(one: Child, requests: int) -> list[int]:
    """The status of each answer, asked one after another over one connection."""
    wire = Wire(*await asyncio.open_connection("127.0.0.1", one.port))
    statuses = []
    try:
        for _ in range(requests):
            await wire.send(post("/v1/chat/completions", BODY))
            head, _ = await wire.read_answer()
            statuses.append(int(head.split()[1]))
    finally:
        await wire.close()
    return statuses


async def load(running: list[Child], clients: int, requests: int) -> list[int]:
    """Statuses of all, with so many clients on each replica at once."""
    told = await asyncio.gather(*[client(one, requests) for one in running for _ in range(clients)])
    return [status for statuses in told for status in statuses]


@kinds
async def test_one_limit(kind: str, tmp_path: Path) -> None:
    """Of 360 requests at three replicas at once, exactly the 100 of the limit get through."""
    async with (
        RedisServer(tmp_path) as redis,
        Model().listening() as model,
        replicas(tmp_path, model, redis, limits=["100/hour", "5000/day"], strategy=kind) as all_,
    ):
        work = asyncio.ensure_future(answering(model))
        statuses = await load(all_, clients=6, requests=20)
        work.cancel()
    assert statuses.count(200) == model.count == 100
    assert statuses.count(429) == 260


async def test_one_limit_of_tokens(tmp_path: Path) -> None:
    """Of 3300 tokens, each call reserving 110 and using 70: whichever replica settles it, no more
    is used than that, and less than one call's reserve is left over.
    """
    limits = ["3300/hour"]
    async with (
        RedisServer(tmp_path) as redis,
        Model().listening() as model,
        replicas(tmp_path, model, redis, limits=limits, cost="tokens") as all_,
    ):
        work = asyncio.ensure_future(answering(model))
        statuses = await load(all_, clients=4, requests=10)
        statuses += await load(all_, clients=1, requests=3)  # after all is settled
        work.cancel()
    used = statuses.count(200) * USED
    assert 3300 - RESERVED < used <= 3300
    assert set(statuses) == {200, 429}
