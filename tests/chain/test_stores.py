"""The whole chain on a Redis that dies and comes back."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from middleware.cache import Cache
from middleware.rate_limit import RateLimit
from tests.chain.asking import auth, bearer, embed, is_about
from tests.chain.client import User
from tests.chain.conftest import MakeModel, Serve
from tests.chain.faults import at_random
from tests.chain.model import Model, tokens
from tests.chain.rig import Running, entry, whole
from tests.loop_watch import LoopWatch
from tests.road.wire import until
from tests.stores.server import RedisServer


@pytest.fixture
async def redis(loop_watch: LoopWatch, tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path) as one:
        yield one


def shared(**keys: Any) -> list[dict[str, Any]]:
    """Every layer that can share does."""
    return whole(
        cache={"stores": ["memory", "redis"], "coalesce": "cluster", "secret": "of all replicas",
               "ttl": "1m", "stale_if_error": "1m"},
        rate_limit={"store": "redis", "limits": ["1000000/hour"]},
        circuit_breaker={"store": "redis"},
        **keys,
    )  # fmt: skip


async def two(
    serve: Serve, models: list[Model], redis: RedisServer, timeout: str = "30s",
    patience: str = "30s", **keys: Any,
) -> list[Running]:  # fmt: skip
    """Replicas on one store.

    timeout: of the store, patience: with the servers. A test that takes them away wants short
    ones; for any other a machine that stands still for a moment is nothing that is down.
    """
    file = {"stores": {"redis": {"url": redis.url, "timeout": timeout}},
            "upstream": {"timeouts": {"first_byte": patience, "idle": patience}}}  # fmt: skip
    return [await serve(models, shared(**keys), **file) for _ in range(2)]


async def test_replicas_compute_once(serve: Serve, model: MakeModel, redis: RedisServer) -> None:
    """What one has computed the other one gives, for calls about one item and about several."""
    server = await model()
    first, second = await two(serve, [server], redis)
    assert is_about(await embed(first, "a", "b"), "a", "b")
    await first.quiet()
    assert is_about(await embed(second, "b"), "b")
    assert is_about(await embed(second, "b", "a"), "b", "a")
    assert len(server.asked) == 1


async def test_tokens_in_the_store(serve: Serve, model: MakeModel, redis: RedisServer) -> None:
    """What is settled by two replicas comes to what their clients used."""
    server = await model()
    limit = entry("rate_limit", cost="tokens", store="redis", limits=["1000000/day"],
                  strategy="fixed_window", key="api_key")  # fmt: skip
    chain = [auth(anna={}), limit, entry("cache"), entry("aggregate")]
    stores = {"redis": {"url": redis.url, "timeout": "30s"}}
    replicas = [await serve([server], chain, stores=stores) for _ in range(2)]
    texts = [f"{number} and some more" for number in range(20)]
    answers = await asyncio.gather(
        *[embed(replicas[at % 2], text, fields=(bearer("anna"),)) for at, text in enumerate(texts)]
    )
    assert all(is_about(answer, text) for answer, text in zip(answers, texts, strict=True))
    for replica in replicas:
        await replica.quiet()
    used = sum(map(tokens, texts))
    layer: RateLimit = replicas[0].layer(RateLimit)
    assert layer.shared is not None
    quota = layer.everyone[0]
    verdict = await layer.shared.take(quota.id + b"=anna", quota, 1)
    assert verdict.left == [1000000 - used - 1]


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_store_that_dies(
    serve: Serve, model: MakeModel, redis: RedisServer, seed: int
) -> None:
    """While it is killed, stopped and started under load, every client gets its own answer."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    models = [await model() for _ in range(3)]
    replicas = await two(serve, models, redis, "250ms", concurrency={"queue": 1000})
    users = [
        User(chance.choice(replicas), random.Random(chance.random()), None, leaves=0.1, texts=200)
        for _ in range(12)
    ]

    async def troubles() -> None:
        for trouble in chance.sample(("kill", "pause", "kill"), 3):
            await asyncio.sleep(chance.random() * 0.1)
            if trouble == "kill":
                await redis.kill()
                await asyncio.sleep(chance.random() * 0.2)
                await redis.start()
            else:
                redis.pause()
                await asyncio.sleep(chance.random() * 0.3)
                redis.resume()

    async with asyncio.TaskGroup() as group:
        for user in users:
            group.create_task(user.run(40))
        group.create_task(troubles())
    for replica in replicas:
        await replica.quiet()
    assert set(sum((user.seen for user in users), Counter())) <= {"answered", "left"}
    cache: Cache = replicas[0].layer(Cache)
    await until(lambda: cache.tiers.stores[0].up)


async def test_a_store_and_servers_that_fail(
    serve: Serve, model: MakeModel, redis: RedisServer
) -> None:
    """Both at once: a client gets its own answer or a clear error, and nothing is held."""
    chance = random.Random(7)
    models = [await model(at_random(chance, 0.2)) for _ in range(3)]
    replicas = await two(serve, models, redis, "250ms", "1s")
    users = [
        User(chance.choice(replicas), random.Random(chance.random()), None, leaves=0.2, texts=500,
             faults=True)
        for _ in range(12)
    ]  # fmt: skip
    async with asyncio.TaskGroup() as group:
        for user in users:
            group.create_task(user.run(20))
        await asyncio.sleep(0.1)
        await redis.kill()
        await asyncio.sleep(0.2)
        await redis.start()
    for replica in replicas:
        await replica.quiet()
