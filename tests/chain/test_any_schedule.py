"""The whole chain, or a part of it, under any mix of requests, faults, slow readers, departures."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from typing import Any

import pytest

from tests.chain.client import User
from tests.chain.conftest import MakeModel, Serve
from tests.chain.faults import at_random
from tests.chain.model import Model
from tests.chain.rig import Running, entry, whole

SEEDS = [int(one) for one in os.environ.get("CHAIN_SEEDS", "1,2,3,4").split(",")]
"""CHAIN_SEEDS=7,8 plays others: a test that fails prints its own."""
KEYS = {name: f"key-of-{name}-0123456789" for name in ("anna", "bert", "cleo", "dora")}
AUTH = {
    "keys": [
        {"name": "anna", "key": KEYS["anna"], "priority": 5},
        {"name": "bert", "key": KEYS["bert"], "limits": ["40/hour"]},
        {"name": "cleo", "key": KEYS["cleo"], "models": ["m", "n*"]},
        {"name": "dora", "key": KEYS["dora"]},
    ]
}
TIMEOUTS = {"first_byte": "300ms", "idle": "300ms"}
TOKENS = entry("rate_limit", name="tokens", cost="tokens", strategy="fixed_window",
               limits=["100000000/hour"], own_limits=False)  # fmt: skip


async def play(
    remora: Running, chance: random.Random, users: int, requests: int, **mind: Any
) -> Counter[str]:
    """What became of all requests; then everything is at rest."""
    made = [
        User(remora, random.Random(chance.random()), KEYS[name], named=name == "cleo", **mind)
        for name in chance.choices(list(KEYS), k=users)
    ]
    async with asyncio.TaskGroup() as group:
        for user in made:
            group.create_task(user.run(requests))
    await remora.quiet()
    return sum((user.seen for user in made), Counter())


def with_tokens(chain: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tokens are counted inside of `compress`, where answers can be read."""
    at = next(place for place, one in enumerate(chain) if "compress" in one)
    return [*chain[: at + 1], TOKENS, *chain[at + 1 :]]


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_fails(serve: Serve, model: MakeModel, seed: int) -> None:
    """Where no server fails, every client gets its own answer, whatever the others do."""
    print(f"CHAIN_SEEDS={seed}")
    chance = random.Random(seed)
    models = [await model() for _ in range(3)]
    chain = with_tokens(whole(auth=AUTH, concurrency={"queue": 1000}))
    seen = await play(await serve(models, chain), chance, 16, 25, leaves=0.1)
    assert set(seen) <= {"answered", "left", "limited", "refused"}


class Moody:
    """Endpoints that fail by turns, each some of its requests; now and then one is down."""

    def __init__(self, models: list[Model], chance: random.Random) -> None:
        self.models = models
        self.chance = chance

    async def run(self) -> None:
        while True:
            sick, chance = self.chance.choice(self.models), self.chance
            sick.choose = at_random(chance, chance.choice((0.0, 0.1, 0.3, 0.8)))
            if chance.random() < 0.3:
                await sick.stop()
                await asyncio.sleep(chance.random() * 0.05)
                await sick.start()
            await asyncio.sleep(chance.random() * 0.03)


MAY_LACK = ("compress", "transcode", "prefetch", "cache", "aggregate", "concurrency", "retry",
            "circuit_breaker")  # fmt: skip


def drawn(chance: random.Random) -> list[dict[str, Any]]:
    """A chain in the recommended order, with some of its keys, less a layer now and then."""
    keys: dict[str, Any] = {
        "cache": {
            "ttl": chance.choice(("100ms", "1m")), "stale_if_error": chance.choice(("0s", "1m")),
            "grace": chance.choice(("0s", "100ms")), "items": chance.random() < 0.8,
            "share": chance.choice(("tenant", "public")),
            "refresh_ahead": chance.choice((0.0, 0.5)),
        },
        "concurrency": {"limit": chance.choice((2, 6, "adaptive")), "queue": 30,
                        "queue_timeout": "1s"},
        "aggregate": {"queue_timeout": "2s", "max_queue": 200,
                      "across": chance.choice(([], ["tenants"]))},
        "retry": {"attempts": chance.choice((2, 4)),
                  "on": chance.choice((["connect", "reset", "stream", 502, 503, 504],
                                       ["connect", "reset", 429, 500, "timeout"])),
                  "hedge": chance.choice(("off", {"after": "20ms"}))},
        "circuit_breaker": {"scope": chance.choice(("endpoint", "route", "upstream"))},
    }  # fmt: skip
    # transcode and compress are what some forms of a request need.
    if chance.random() < 0.4:
        keys[chance.choice(MAY_LACK[2:])] = None
    return with_tokens(whole(auth=AUTH, **keys))


@pytest.mark.parametrize("seed", SEEDS)
async def test_anything_fails(serve: Serve, model: MakeModel, seed: int) -> None:
    """Whatever servers do, a client gets its own answer, a clear error, or a body that breaks off;
    and nothing is held when all is over.
    """
    print(f"CHAIN_SEEDS={seed}")
    chance = random.Random(seed)
    models = [await model() for _ in range(4)]
    chain = drawn(chance)
    print(chain)
    upstream = {"timeouts": TIMEOUTS,
                "balance": chance.choice(("least_outstanding", "round_robin", "prefix")),
                "pool": chance.choice(({}, {"max_connections": 2}))}  # fmt: skip
    remora = await serve(models, chain, upstream=upstream)
    moods = asyncio.ensure_future(Moody(models, chance).run())
    try:
        texts = chance.choice((20, 1000))
        seen = await play(remora, chance, 16, 25, leaves=0.15, faults=True, texts=texts)
    finally:
        moods.cancel()
        await asyncio.wait([moods])
    print(dict(seen), sum((Counter(one.faults) for one in models), Counter()))
    assert seen["answered"] > 50
