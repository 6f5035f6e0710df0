"""Accounts in a real Redis: the script decides as the arithmetic in Python does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import msgpack
import pytest

from middleware.core.quota import Verdict
from middleware.core.window import MARKS
from middleware.rate_limit import script
from middleware.rate_limit.accounts import Memory, Shared
from proxy.stores.redis import RedisStore
from tests.stores.conftest import Store
from tests.stores.conftest import env as env
from tests.stores.conftest import server as server
from tests.stores.conftest import store as store
from tests.stores.conftest import telemetry as telemetry
from tests.stores.server import RedisServer

from .test_windows import EVERY, kinds, quota_of

FIXED_CLOCK = "local now = tonumber(table.remove(ARGV))\n"


class Told:
    """A store whose scripts get the time from the test: seconds."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self.now = 1_700_000_000.0

    async def run(self, text: str, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Any:
        assert text.startswith(script.CLOCK)
        text = FIXED_CLOCK + text.removeprefix(script.CLOCK)
        return await self._store.run(text, keys, [*args, int(self.now * 1000)])


def tuples(verdict: Verdict) -> tuple[Any, ...]:
    return (verdict[0], *map(list, verdict[1:4]))


@kinds
@pytest.mark.parametrize("seed", range(6))
async def test_it_decides_as_memory_does(kind: str, seed: int, store: Store) -> None:
    """Whatever is asked and settled when, also by a clock that is set back: verdicts of both are
    the same, number by number.
    """
    random.seed(seed)
    told = Told(store())
    shared = Shared(told)  # type: ignore[arg-type]
    limits = []
    for _ in range(random.randint(1, 3)):
        amount = random.choice((random.randint(1, 30), MARKS, random.randint(MARKS, 900)))
        limits.append((amount, random.randint(1, 3)))
    quota = quota_of(kind, *limits)
    memory = Memory(lambda: told.now, 100)
    taken: list[tuple[int, Verdict, Verdict]] = []
    admitted = 0
    for _ in range(150):
        told.now += random.choice((0.0, 0.001, random.random() / 20, random.random() * 2))
        if random.random() < 0.02:
            told.now -= 3600
        cost = random.randint(1, quota.most)
        here, there = memory.take(b"a", quota, cost), await shared.take(b"a", quota, cost)
        assert tuples(here) == tuples(there)
        if here.admitted:
            admitted += 1
            assert list(here.marks) == list(there.marks)
            taken.append((cost, here, there))
        if taken and random.random() < 0.6:
            cost, here, there = taken.pop(random.randrange(len(taken)))
            delta = random.randint(-cost, cost // 2 + 1)
            memory.settle(b"a", quota, here.marks, delta)
            await shared.settle(b"a", quota, there.marks, delta)
    assert 0 < admitted < 150


@kinds
async def test_by_the_clock_of_redis(kind: str, store: Store, server: RedisServer) -> None:
    """Unchanged: the window is Redis's own, and the key goes when it says nothing any more."""
    shared, quota = Shared(store()), quota_of(kind, (2, 3600))
    assert [(await shared.take(b"a", quota, 1)).admitted for _ in range(3)] == [True, True, False]
    assert (await shared.take(b"b", quota, 1)).admitted
    refused = await shared.take(b"a", quota, 1)
    assert 0 < refused.wait[0] <= 7_200_000 and not refused.marks[0]
    assert 0 < await server.command("PTTL", "remora:1:rate:a") <= 7_200_000


@kinds
async def test_given_back(kind: str, store: Store) -> None:
    """What a call did not use, the next one may."""
    shared, quota = Shared(store()), quota_of(kind, (10, 3600))
    taken = await shared.take(b"a", quota, 10)
    assert not (await shared.take(b"a", quota, 1)).admitted
    await shared.settle(b"a", quota, taken.marks, -4)
    assert (await shared.take(b"a", quota, 4)).admitted
    assert not (await shared.take(b"a", quota, 1)).admitted


@kinds
async def test_many_at_once_on_several_connections(kind: str, store: Store) -> None:
    """Each call is one step: of 200 that come together, by two clients of the store, 50 pass."""
    one, other = Shared(store(timeout=10)), Shared(store(timeout=10))
    quota = quota_of(kind, (50, 3600), (60, 7200))
    verdicts = await asyncio.gather(
        *[shared.take(b"a", quota, 1) for shared in (one, other) for _ in range(100)]
    )
    assert sum(verdict.admitted for verdict in verdicts) == 50
    assert (await one.take(b"a", quota, 1)).left == [0, 10]


@kinds
@pytest.mark.parametrize(
    "poison",
    [
        b"\xc1", b"", msgpack.packb("x"), msgpack.packb([]), msgpack.packb([["a", "b", "c"]]),
        msgpack.packb([[1]]), msgpack.packb({"a": 1}), msgpack.packb([[[1], {}, None]]),
        msgpack.packb([[5, {}, {}]]),
    ],
)  # fmt: skip
async def test_what_is_no_account_is_a_new_one(
    kind: str, poison: bytes, store: Store, server: RedisServer
) -> None:
    """Whoever writes rubbish to the Redis makes no request fail, and no store go down."""
    redis = store()
    shared, quota = Shared(redis), quota_of(kind, (2, 3600))
    await server.command("SET", "remora:1:rate:a", poison)
    assert (await shared.take(b"a", quota, 1)).left == [1]
    assert (await shared.take(b"a", quota, 1)).left == [0]
    await server.command("DEL", "remora:1:rate:a")
    await server.command("LPUSH", "remora:1:rate:a", "x")
    await shared.settle(b"a", quota, [0], -1)
    assert (await shared.take(b"a", quota, 1)).left == [1]
    assert redis.up


async def test_a_redis_that_forgot_the_script(store: Store, server: RedisServer) -> None:
    """It is sent again, within the same call."""
    shared, quota = Shared(store()), quota_of("fixed_window", (2, 3600))
    await shared.take(b"a", quota, 1)
    await server.command("SCRIPT", "FLUSH")
    assert (await shared.take(b"a", quota, 1)).left == [0]


def test_each_strategy_is_in_the_script() -> None:
    """One that is added to the windows is not forgotten there."""
    assert all(f"kinds.{kind} =" in script.SCRIPT for kind in EVERY)
