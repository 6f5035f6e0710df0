"""The whole chain under any mix of requests, faults, slow readers and departures."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from typing import Any

import pytest

from tests.chain.client import User
from tests.chain.conftest import MakeModel, Serve
from tests.chain.model import Model, at_random
from tests.chain.rig import Running, whole

SEEDS = [int(one) for one in os.environ.get("CHAIN_SEEDS", "1,2,3").split(",")]
KEYS = {name: f"key-of-{name}-0123456789" for name in ("anna", "bert", "cleo")}
AUTH = {
    "keys": [
        {"name": "anna", "key": KEYS["anna"], "priority": 5},
        {"name": "bert", "key": KEYS["bert"], "limits": ["100000/hour"]},
        {"name": "cleo", "key": KEYS["cleo"]},
    ]
}

TIMEOUTS = {"first_byte": "300ms", "idle": "300ms"}


async def play(
    remora: Running, chance: random.Random, users: int, requests: int, **mind: Any
) -> Counter[str]:
    """What became of all requests; then everything is at rest."""
    made = [
        User(remora, random.Random(chance.random()), KEYS[chance.choice(list(KEYS))], **mind)
        for _ in range(users)
    ]
    async with asyncio.TaskGroup() as group:
        for user in made:
            group.create_task(user.run(requests))
    await remora.quiet()
    return sum((user.seen for user in made), Counter())


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_fails(serve: Serve, model: MakeModel, seed: int) -> None:
    """Where no server fails, every client gets its own answer, whatever the others do."""
    print(f"CHAIN_SEEDS={seed}")
    chance = random.Random(seed)
    models = [await model() for _ in range(3)]
    remora = await serve(models, whole(auth=AUTH, concurrency={"queue": 1000}))
    seen = await play(remora, chance, 16, 25, leaves=0.1)
    assert set(seen) == {"answered", "left"}


class Moody:
    """Endpoints that fail by turns: each some of its requests, and one of them is down at times."""

    def __init__(self, models: list[Model], chance: random.Random) -> None:
        self.models = models
        self.chance = chance

    async def run(self) -> None:
        while True:
            sick = self.chance.choice(self.models)
            sick.choose = at_random(self.chance, self.chance.choice((0.1, 0.5, 0.9)))
            if self.chance.random() < 0.3:
                await sick.stop()
                await asyncio.sleep(self.chance.random() * 0.1)
                await sick.start()
            await asyncio.sleep(self.chance.random() * 0.1)
            if self.chance.random() < 0.7:
                sick.choose = lambda message: ""


@pytest.mark.parametrize("seed", SEEDS)
async def test_anything_fails(serve: Serve, model: MakeModel, seed: int) -> None:
    """Whatever servers do, a client gets its own answer, a clear error, or a body that breaks off;
    and nothing is held when all is over.
    """
    print(f"CHAIN_SEEDS={seed}")
    chance = random.Random(seed)
    models = [await model() for _ in range(4)]
    chain = whole(
        auth=AUTH, cache={"ttl": "1s", "stale_if_error": "1m", "grace": "100ms"},
        concurrency={"limit": chance.choice((2, 6, "adaptive")), "queue": 30, "queue_timeout": "1s"},
        aggregate={"queue_timeout": "2s", "max_queue": 200},
        retry={"attempts": chance.choice((2, 4)),
               **({"hedge": {"after": "20ms"}} if chance.random() < 0.5 else {})},
    )  # fmt: skip
    remora = await serve(models, chain, upstream={"timeouts": TIMEOUTS})
    moods = asyncio.ensure_future(Moody(models, chance).run())
    try:
        seen = await play(remora, chance, 16, 25, leaves=0.15, faults=True)
    finally:
        moods.cancel()
        await asyncio.wait([moods])
    print(dict(seen), sum((Counter(one.faults) for one in models), Counter()))
    assert seen["answered"] > sum(seen.values()) / 3
