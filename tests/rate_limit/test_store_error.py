"""Redis killed, paused and back, while clients ask.

Time bounds are read from the loop's clock, with SLACK for a machine that is busy or stands
still for a moment.
"""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import ProxyError
from proxy.exchange import Request, Response
from proxy.stores.redis import RedisStore
from tests.stores.conftest import TIMEOUT, Calls, Store
from tests.stores.conftest import calls as calls
from tests.stores.conftest import env as env
from tests.stores.conftest import server as server
from tests.stores.conftest import store as store
from tests.stores.conftest import telemetry as telemetry
from tests.stores.server import RedisServer, eventually

from .stage import JSON, Stage, call, get

SLACK = 5.0
"""Seconds. What it must tell apart is dozens of timeouts."""
WEATHERS = pytest.mark.parametrize("weather", ["killed", "paused"])


class Timed:
    """Asks, and remembers the slowest."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.slowest = 0.0

    async def ask(self, client: str = "a") -> Response | ProxyError:
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = await self.stage.ask(get(client))
        self.slowest = max(self.slowest, loop.time() - began)
        return answer

    async def passed(self, times: int, client: str = "a") -> int:
        return sum([isinstance(await self.ask(client), Response) for _ in range(times)])


async def goes(redis: RedisServer, weather: str) -> None:
    if weather == "killed":
        await redis.kill()
    else:
        redis.pause()


async def returns(redis: RedisServer, store: RedisStore, weather: str) -> None:
    """Done when the store is used again."""
    if weather == "killed":
        await redis.start()
    else:
        redis.resume()

    async def up() -> bool:
        await store.get(b"probe")
        return store.up

    await eventually(up)


@WEATHERS
async def test_local(weather: str, store: Store, server: RedisServer, calls: Calls) -> None:
    """Each worker counts by itself, with the whole limit, and shares again when Redis is back."""
    redis = store(timeout=TIMEOUT)
    asking = Timed(Stage(redis=redis, limits="5/hour"))
    assert await asking.passed(3) == 3
    await goes(server, weather)
    assert await asking.passed(20) == 5
    assert asking.slowest < TIMEOUT + SLACK
    waited = calls("run", "timeout") + calls("run", "error")
    assert await asking.passed(50) == 0
    now = calls("run", "timeout") + calls("run", "error")
    assert now == waited, "somebody waited for a store that was known to be away"
    await returns(server, redis, weather)
    # One that was killed has forgotten everything. One that was paused has forgotten nothing, and
    # runs what it was sent meanwhile: the request that nobody waited for may count there, too.
    assert await asking.passed(20) in ((5,) if weather == "killed" else (1, 2))


@WEATHERS
async def test_open(weather: str, store: Store, server: RedisServer) -> None:
    """Everybody passes, uncounted; then the limit holds again."""
    redis = store(timeout=TIMEOUT)
    stage = Stage(redis=redis, limits="5/hour", on_store_error="open")
    asking = Timed(stage)
    assert await asking.passed(10) == 5
    await goes(server, weather)
    assert await asking.passed(50) == 50
    assert asking.slowest < TIMEOUT + SLACK
    assert stage.count("unchecked") == 50 and not len(stage.layer.memory)
    await returns(server, redis, weather)
    assert await asking.passed(10) == (5 if weather == "killed" else 0)


@WEATHERS
async def test_closed(weather: str, store: Store, server: RedisServer) -> None:
    """Everybody gets 503 and when to come back, and goes no further; in the shadow all pass."""
    redis = store(timeout=TIMEOUT)
    keys = {"limits": "5/hour", "on_store_error": "closed"}
    stage, shadow = Stage(redis=redis, **keys), Stage(redis=redis, shadow=True, **keys)
    asking = Timed(stage)
    assert await asking.passed(2) == 2
    await goes(server, weather)
    refused = await asking.ask()
    assert isinstance(refused, ProxyError)
    assert (refused.status, refused.code) == (503, "rate_limit_unavailable")
    assert refused.retry_after == 1
    assert await asking.passed(20) == 0 and stage.asked == 2
    assert asking.slowest < TIMEOUT + SLACK
    assert await shadow.passes()
    await returns(server, redis, weather)
    assert await asking.passed(2) == 2


async def test_never_there(store: Store, server: RedisServer) -> None:
    """A Redis that nobody started: the first requests are counted here, and none fails."""
    await server.kill()
    asking = Timed(Stage(redis=store(), limits="5/hour"))
    assert await asking.passed(20) == 5
    assert asking.slowest < TIMEOUT + SLACK


async def test_many_at_once_while_it_is_paused(store: Store, server: RedisServer) -> None:
    """100 requests that come together wait one timeout together, and count here then."""
    redis = store(max_connections=4, timeout=TIMEOUT)
    asking = Timed(Stage(redis=redis, limits="5/hour"))
    await asking.ask("first")
    server.pause()
    answers = await asyncio.gather(*[asking.ask() for _ in range(100)])
    assert sum(isinstance(answer, Response) for answer in answers) == 5
    assert asking.slowest < TIMEOUT + SLACK
    server.resume()


@WEATHERS
async def test_settling_without_it(weather: str, store: Store, server: RedisServer) -> None:
    """A call that ends while Redis is away ends as it would; what it reserved stays reserved, and
    what was reserved here is settled here.
    """

    async def upstream(request: Request) -> Response:
        await go.wait()
        return Response(200, list(JSON), b'{"usage": {"total_tokens": 20}}')

    go = asyncio.Event()
    redis = store(timeout=TIMEOUT)
    stage = Stage(upstream, redis=redis, limits="220/hour", cost="tokens")
    under_way = asyncio.ensure_future(stage.passes(call(max_tokens=100)))
    while not stage.asked:
        await asyncio.sleep(0.001)
    await goes(server, weather)
    go.set()
    assert await under_way
    await stage.settled()
    assert all([await stage.passes(call(max_tokens=100)) for _ in range(5)])
    assert not stage.env.spawned
    await returns(server, redis, weather)
    passed = [await stage.passes(call(max_tokens=100)) for _ in range(1)]
    await stage.settled()
    assert passed == [True]


async def test_settled_in_redis(store: Store, server: RedisServer) -> None:
    """What a call did not use is there for the next one, of whichever replica."""

    async def upstream(request: Request) -> Response:
        return Response(200, list(JSON), b'{"usage": {"total_tokens": 20}}')

    keys = {"limits": "120/hour", "cost": "tokens"}
    one, other = Stage(upstream, redis=store(), **keys), Stage(upstream, redis=store(), **keys)
    assert await one.passes(call(max_tokens=100))
    await one.settled()
    assert await other.passes(call(max_tokens=90))
    await other.settled()
    assert not await one.passes(call(max_tokens=90))
    assert await one.passes(call(max_tokens=70))
    await one.settled()
