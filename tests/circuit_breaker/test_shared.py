"""What replicas on one Redis tell each other of their circuits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from middleware.circuit_breaker import CircuitBreaker
from middleware.circuit_breaker.shared import LEASE, MAX_TOLD, read
from middleware.core.circuit import PATIENCE
from proxy.env import Env
from proxy.errors import StoreDown
from proxy.stores.redis import RedisStore
from proxy.stores.settings import Redis
from tests.loop_watch import LoopWatch
from tests.road.wire import until
from tests.stores.server import RedisServer

from .stage import QUICK, Stage

KEYS: dict[str, Any] = {**QUICK, "store": "redis"}


class Shelf:
    """A store in a dict whose keys run out by a test's clock."""

    name = "redis"
    compress = decompress = None

    def __init__(self) -> None:
        self.now = 0.0
        self.up = True
        self.calls: list[str] = []
        self.values: dict[bytes, tuple[bytes, float]] = {}
        self.during: Callable[[], Awaitable[None]] | None = None
        """What happens while the next call is under way."""

    async def _begin(self, call: str) -> None:
        self.calls.append(call)
        during, self.during = self.during, None
        if during is not None:
            await during()

    def _has(self, key: bytes) -> bytes | None:
        value, until = self.values.get(key, (None, 0.0))
        return value if self.now < until else None

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found = [self._has(key) if self.up else None for key in keys]
        await self._begin("get_many")
        return found

    async def set(self, key: bytes, value: bytes, ttl_s: float) -> None:
        assert ttl_s > 0
        await self._begin("set")
        if self.up:
            self.values[key] = value, self.now + ttl_s

    async def add(self, key: bytes, value: bytes, ttl_s: float) -> bool:
        await self._begin("add")
        if not self.up:
            raise StoreDown("down")
        if self._has(key) is not None:
            return False
        self.values[key] = value, self.now + ttl_s
        return True

    async def compare_delete(self, key: bytes, value: bytes) -> bool:
        await self._begin("compare_delete")
        return self.up and self._has(key) == value and self.values.pop(key) is not None


class Replicas:
    """Two of them, in step when a test says so, on one clock."""

    def __init__(self, **keys: Any) -> None:
        self.shelf = Shelf()
        stores: Any = {"redis": self.shelf}
        self.stages = [Stage(stores=stores, **KEYS, **keys) for _ in range(2)]

    async def known(self) -> Replicas:
        """Each has had a request to the endpoint."""
        for stage in self.stages:
            await stage.ask()
        return self

    def wait(self, seconds: float) -> None:
        self.shelf.now += seconds
        for stage in self.stages:
            stage.now += seconds

    async def sync(self, *which: int) -> None:
        for number in which or (0, 1):
            shared = self.stages[number].layer.shared
            assert shared is not None
            await shared.sync()

    @property
    def states(self) -> list[str]:
        return [stage.circuit().state for stage in self.stages]


async def test_what_one_has_opened_is_open_everywhere() -> None:
    """For as long, from when it is heard of; requests are refused with that. Nobody tells it again:
    it would go on for ever.
    """
    two = await Replicas().known()
    await two.stages[0].fail()
    assert two.states == ["open", "closed"]
    two.wait(0.2)
    await two.sync()
    assert two.states == ["open", "open"]
    assert two.stages[1].circuit().until - two.stages[1].now == pytest.approx(5)
    with pytest.raises(Exception, match="not asked"):
        await two.stages[1].ask()
    for _ in range(3):
        two.wait(0.5)
        await two.sync()
    assert [round(one.circuit().until - one.now, 3) for one in two.stages] == [3.3, 3.5]
    assert two.shelf.calls.count("set") == 1


async def test_one_alone_tries_it_again() -> None:
    """Whoever has the lease; what it finds out the others hear."""
    two = await Replicas().known()
    await two.stages[0].fail()
    await two.sync()
    two.wait(5)
    for stage in two.stages:
        assert not stage.circuit().admits(stage.now), "nobody has leave yet"
    await two.sync()
    admitted = [stage.circuit().admits(stage.now) for stage in two.stages]
    assert admitted == [True, False]
    await two.stages[0].fail()
    await two.sync()
    assert len(two.shelf.values) == 1, "the lease was not given back"
    assert [stage.circuit().until - stage.now for stage in two.stages] == [10, 10]
    two.wait(10)
    await two.sync(1, 0)
    assert [stage.circuit().admits(stage.now) for stage in two.stages] == [False, True]
    await two.stages[1].ask()
    assert two.states == ["open", "closed"]
    await two.sync(1, 0)
    assert two.states == ["closed", "closed"]
    await two.stages[0].fail()
    await two.sync()
    assert two.states == ["open", "open"], "what was said before is over"


async def test_a_holder_without_requests_loses_its_lease() -> None:
    """Another may try after LEASE; the first one then has no leave any more."""
    two = await Replicas().known()
    await two.stages[0].fail()
    await two.sync()
    two.wait(5)
    await two.sync()
    two.wait(LEASE)
    await two.sync(1)
    assert [stage.circuit().admits(stage.now) for stage in two.stages] == [False, True]


async def test_the_store_is_down() -> None:
    """Each goes on by itself: it opens, is tried again and closes as without a store."""
    two = await Replicas().known()
    two.shelf.up = False
    await two.stages[0].fail()
    await two.sync()
    assert two.states == ["open", "closed"]
    two.wait(5)
    await two.sync()
    await two.stages[0].ask()
    assert two.states == ["closed", "closed"]
    two.shelf.up = True
    await two.sync()
    assert two.states == ["closed", "closed"]


async def test_what_was_not_said_is_said_later() -> None:
    """An opening while the store was down is told when it is back, if it is still the latest."""
    two = await Replicas().known()
    two.shelf.up = False
    await two.stages[0].fail()
    await two.sync()
    two.shelf.up = True
    await two.sync()
    assert two.states == ["open", "open"]


@pytest.mark.parametrize("told", ["before", "late"])
async def test_an_opening_is_no_news_once_it_is_over(told: str) -> None:
    """Whoever comes when the one that opened it has long gone begins with a closed circuit; so
    does everybody where it could not be told in its time.
    """
    two = Replicas()
    await two.stages[0].ask()
    await two.stages[0].fail()
    if told == "before":
        await two.sync(0)
    else:
        two.shelf.up = False
        await two.sync(0)
        two.shelf.up = True
    two.wait(5 + PATIENCE)
    if told == "late":
        await two.sync(0)
    await two.stages[1].ask()
    await two.sync(1)
    await two.stages[1].ask()
    assert two.states == ["open", "closed"]


async def test_no_store_keeps_it_open_for_ever() -> None:
    """Where leave never comes, it is tried again after PATIENCE all the same."""
    two = await Replicas().known()
    await two.stages[0].fail()
    two.wait(5 + PATIENCE - 0.001)
    assert not two.stages[0].circuit().admits(two.stages[0].now)
    two.wait(0.001)
    await two.stages[0].ask()
    assert two.states[0] == "closed"


async def test_requests_never_ask_the_store() -> None:
    """Whatever state a circuit is in."""
    two = await Replicas().known()
    stage = two.stages[0]
    await stage.fail()
    for wait in (0, 5, PATIENCE, 0):
        two.wait(wait)
        try:
            await stage.ask()
        except Exception as error:
            assert "not asked" in str(error)
    assert two.shelf.calls == []


async def test_what_a_hand_does_is_no_news() -> None:
    """A circuit held open is no other's affair, and no other closes it."""
    two = await Replicas().known()
    held = two.stages[0].circuit()
    held.hold(two.stages[0].now)
    await two.sync()
    assert "set" not in two.shelf.calls
    assert two.states == ["open", "closed"]
    await two.stages[1].fail()
    await two.sync(1, 0)
    two.wait(5)
    await two.sync(1)
    await two.stages[1].ask()
    await two.sync(1, 0)
    assert two.states == ["open", "closed"] and held.held
    await two.stages[1].fail()
    await two.sync(1, 0)
    held.close("by hand")
    await two.sync(0, 1)
    assert two.states == ["closed", "open"]


async def test_a_late_closing_does_not_undo_an_opening_here() -> None:
    """What has changed here, and was not told yet, is newer than what is heard."""
    two = await Replicas().known()
    await two.stages[0].fail()
    await two.sync()
    two.wait(5)
    await two.sync(0)
    await two.stages[0].ask()
    await two.sync(0)
    two.stages[1].circuit().close("by hand")
    await two.stages[1].fail()
    await two.sync(1, 0)
    assert two.states == ["open", "open"]


async def test_what_changes_while_the_store_is_asked() -> None:
    """An opening in the middle of a look is told next, and not undone by what the look brings; one
    in the middle of telling is told next, too.
    """
    two = await Replicas().known()
    first, second = two.stages
    await first.fail()
    await two.sync()
    two.wait(5)
    await two.sync(0)
    await first.ask()
    await two.sync(0)
    second.circuit().granted = two.shelf.now + 1e9
    second.circuit().until = 0.0

    async def fails() -> None:
        await second.fail()

    two.shelf.during = fails
    await two.sync(1)
    assert two.states == ["closed", "open"]
    two.shelf.during = fails
    second.circuit().until, second.circuit().granted = 0.0, two.shelf.now + 1e9
    await two.sync(1)
    assert second.circuit().delay == 20
    await two.sync(1, 0)
    assert (first.circuit().state, first.circuit().delay) == ("open", 20)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'{"state":"open"}', b'{"state":"ajar","by":"x"}',
     b'{"state":"open","by":"x","for":"5","delay":5}', b'{"state":"open","by":"x","for":-1,'
     b'"delay":5}', b'{"state":"open","by":7,"for":5,"delay":5}', b'{"state":"open","by":"x",'
     b'"for":true,"delay":5}', b'{"by":"x","for":5,"delay":5}', b"\xff"],
)  # fmt: skip
async def test_anything_else_in_the_store_is_ignored(data: bytes) -> None:
    """Nothing follows from it, and what is told next replaces it."""
    assert read(data) is None
    two = await Replicas().known()
    await two.stages[0].fail()
    await two.sync(0)
    (key,) = two.shelf.values
    two.shelf.values[key] = data, 1e9
    await two.sync()
    assert two.states == ["open", "closed"]


def test_what_is_told_is_short() -> None:
    """Up to MAX_TOLD bytes are read."""
    told = {"state": "closed", "by": "x", "n": 1}
    told["by"] = "x" * (MAX_TOLD - len(orjson.dumps(told)) + 1)
    assert len(orjson.dumps(told)) == MAX_TOLD and read(orjson.dumps(told)) == told
    told["by"] += "x"  # type: ignore[operator]
    assert read(orjson.dumps(told)) is None
    longest = {"state": "half-open", "by": "f" * 16, "n": 1 << 62, "for": 1 / 3, "delay": 1 / 3}
    assert len(orjson.dumps(longest)) <= MAX_TOLD


async def test_nobody_opens_it_for_longer_than_the_file_says() -> None:
    """`max_open_for` bounds what others say, too."""
    two = await Replicas(max_open_for=7).known()
    two.stages[0].circuit().adopt(two.stages[0].now, 1e9, 1e9)
    assert two.stages[0].circuit().until - two.stages[0].now == 7
    assert two.stages[0].circuit().delay == 7


# -- on a real Redis, each in step by itself


@pytest.fixture
async def redis(loop_watch: LoopWatch, tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
async def replica(redis: RedisServer) -> AsyncIterator[Callable[[], Any]]:
    """Makes layers that run, each with a connection of its own."""
    made: list[tuple[Env, RedisStore]] = []

    async def make() -> Stage:
        stage = Stage()
        env = stage.env
        env.clock = time.monotonic
        env.stores["redis"] = store = RedisStore(Redis(url=redis.url, timeout=30), env)
        made.append((env, store))
        stage.layer = CircuitBreaker(CircuitBreaker.Config(**KEYS, open_for=0.3), env)
        stage.handler = stage.bind("r")
        await stage.start()
        await stage.ask()
        return stage

    yield make
    for env, store in made:
        await env.stop()
        await store.close()


async def test_in_step_on_a_real_redis(replica: Any, redis: RedisServer) -> None:
    """Opened by one, it is open at the other; tried by one, it is closed at both; with the Redis
    killed, each goes on alone.
    """
    one, other = await replica(), await replica()
    await one.fail()
    await until(lambda: other.circuit().state == "open")

    async def both_asked() -> None:
        for stage in (one, other):
            try:
                await stage.ask()
            except Exception as error:
                assert "not asked" in str(error)

    async with asyncio.timeout(10):
        while not (one.circuit().state == other.circuit().state == "closed"):
            await both_asked()
            await asyncio.sleep(0.01)
    assert one.circuit().probes + other.circuit().probes == 1
    await redis.kill()
    await one.fail()
    async with asyncio.timeout(10):
        while one.circuit().state != "closed":
            await both_asked()
            await asyncio.sleep(0.01)
    assert other.circuit().state == "closed"
