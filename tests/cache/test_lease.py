"""`coalesce: cluster`: one upstream call for all replicas, and what becomes of it on bad days."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from middleware.cache import lease
from middleware.cache.config import CacheConfig
from middleware.cache.lease import Leases
from proxy.env import Env
from proxy.exchange import Request, Response
from proxy.loader import load_text
from proxy.server import Server
from proxy.telemetry import Telemetry
from tests.contract.road import LAST_CHUNK, SSE_HEAD, ModelServer, chunk, client, event, post
from tests.loop_watch import LoopWatch
from tests.stores.server import RedisServer

from .replicas import (
    ANSWER,
    HASTY,
    JSON,
    Store,
    ask,
    cache_of,
    entry,
    eventually,
    replica,
    settled,
)  # fmt: skip

CLUSTER = {"coalesce": "cluster"}


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer().listening() as server:
        yield server


@pytest.fixture
async def redis(loop_watch: LoopWatch, tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path) as one:
        yield one


async def waits(redis: RedisServer) -> None:
    """Until some replica has seen that another holds the lease, and looks again."""
    before = (await redis.command("INFO", "commandstats"))["cmdstat_set"]["calls"]
    async with asyncio.timeout(10):
        while (await redis.command("INFO", "commandstats"))["cmdstat_set"]["calls"] < before + 2:
            await asyncio.sleep(0.01)


async def left(redis: RedisServer) -> list[bytes]:
    keys: list[bytes] = await redis.command("KEYS", "*:lease:*")
    return keys


async def test_one_call_for_two_replicas(model: ModelServer, redis: RedisServer) -> None:
    """Both ask at once: the upstream is asked once, both are answered, and the lease is given
    back. The one that waited says so, and counts it.
    """
    async with replica(model, redis, **CLUSTER) as one, replica(model, redis, **CLUSTER) as other:
        first = asyncio.ensure_future(ask(one))
        asked = await model.asked()
        second = [asyncio.ensure_future(ask(other)) for _ in range(10)]
        await waits(redis)
        await asked.answer(ANSWER, JSON)
        assert (await first)[1] == ANSWER
        for head, body in await asyncio.gather(*second):
            assert body == ANSWER
            assert b"cache-status: remora; fwd=uri-miss; collapsed" in head and b"\r\nage: " in head
        assert model.count == 1
        await settled(one)
        assert await left(redis) == []
        assert cache_of(other).stats.route("/*").counts["collapsed"] == 10
        assert b"remora; hit" in (await ask(other))[0]


async def test_a_stream_arrives_whole(model: ModelServer, redis: RedisServer) -> None:
    """A follower in another replica gets all events of a stream once its end has come."""
    body = b'{"temperature": 0, "stream": true, "messages": []}'
    asking = post("/v1/chat/completions", body)
    events = [event('{"choices": []}'), event("[DONE]")]
    async with (
        replica(model, redis, **CLUSTER) as one,
        replica(model, redis, **CLUSTER) as other,
        client(one) as leader,
        client(other) as follower,
    ):
        await leader.send(asking)
        asked = await model.asked()
        await asked.send(SSE_HEAD + chunk(events[0]))
        head = await leader.until(b"\r\n\r\n")
        assert await leader.read_chunk() == events[0], "the leader's own client gets it live"
        await follower.send(asking)
        await waits(redis)
        await asked.send(chunk(events[1]) + LAST_CHUNK)
        assert await leader.read_body(head) == events[1]
        assert (await follower.read_answer())[1] == b"".join(events)
        assert model.count == 1
        await settled(one)


async def test_a_dead_leader_is_replaced(
    model: ModelServer, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader is gone without a word and renews nothing: when its lease has run out, the
    follower asks the upstream itself.
    """
    monkeypatch.setattr(lease, "LEASE", 0.4)
    async with replica(model, redis, **CLUSTER) as one, replica(model, redis, **CLUSTER) as other:
        first = asyncio.ensure_future(ask(one))
        asked = await model.asked()
        (held,) = cache_of(one).leases.held  # type: ignore[union-attr]
        assert held._renewing is not None
        held._renewing.cancel()  # as if its process had been killed
        second = asyncio.ensure_future(ask(other))
        again = await model.asked()
        assert not second.done()
        await again.answer(b"[2]", JSON)
        assert (await second)[1] == b"[2]"
        await asked.answer(ANSWER, JSON)
        assert (await first)[1] == ANSWER
        await settled(one)
        await settled(other)
        assert await left(redis) == []


async def test_a_long_call_keeps_its_lease(
    model: ModelServer, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that takes several times the lease is still the only one: the lease is renewed."""
    monkeypatch.setattr(lease, "LEASE", 2.0)
    async with replica(model, redis, **CLUSTER) as one, replica(model, redis, **CLUSTER) as other:
        first = asyncio.ensure_future(ask(one))
        asked = await model.asked()
        second = asyncio.ensure_future(ask(other))
        async with asyncio.timeout(20):
            while (await redis.command("INFO", "commandstats")).get("cmdstat_pexpire", {}).get(
                "calls", 0
            ) < 5:
                await asyncio.sleep(0.02)
        assert model.count == 1
        await asked.answer(ANSWER, JSON)
        assert (await first)[1] == (await second)[1] == ANSWER
        await settled(one)


async def test_a_stopped_leader_gives_its_lease_back(
    model: ModelServer, redis: RedisServer
) -> None:
    """A replica that stops amid a call hands over at once: nobody waits for a lease to run out."""
    async with replica(model, redis, **CLUSTER) as other:
        async with replica(model, redis, **CLUSTER) as one:
            first = asyncio.ensure_future(ask(one))
            await model.asked()
            second = asyncio.ensure_future(ask(other))
            await waits(redis)
        with pytest.raises(asyncio.IncompleteReadError):
            await first
        async with asyncio.timeout(lease.LEASE / 2):
            await (await model.asked()).answer(ANSWER, JSON)
            assert (await second)[1] == ANSWER
        await settled(other)


async def test_a_leader_without_clients_hands_over(model: ModelServer, redis: RedisServer) -> None:
    """Its last client leaves, so its call is cancelled: the follower makes its own."""
    async with replica(model, redis, **CLUSTER) as one, replica(model, redis, **CLUSTER) as other:
        async with client(one) as leader:
            await leader.send(post("/v1/embeddings", b'{"input": "a"}'))
            asked = await model.asked()
            second = asyncio.ensure_future(ask(other))
            await waits(redis)
        await asked.closed()
        async with asyncio.timeout(lease.LEASE / 2):
            await (await model.asked()).answer(ANSWER, JSON)
        assert (await second)[1] == ANSWER
        await settled(other)


async def test_an_answer_that_is_not_kept_is_not_waited_for(
    model: ModelServer, redis: RedisServer
) -> None:
    """The leader's answer is an error: each other replica asks for itself, at once and without a
    lease, and so do those that come soon after.
    """
    async with replica(model, redis, **CLUSTER) as one, replica(model, redis, **CLUSTER) as other:
        first = asyncio.ensure_future(ask(one))
        asked = await model.asked()
        second = asyncio.ensure_future(ask(other))
        await waits(redis)
        await asked.answer(b"[]", status=b"500 Oops")
        assert (await first)[0].startswith(b"HTTP/1.1 500")
        again = await model.asked()
        third = asyncio.ensure_future(ask(one))
        also = await model.asked()
        for each in (again, also):
            await each.answer(ANSWER, JSON)
        assert (await second)[1] == (await third)[1] == ANSWER
        await settled(one)
        await settled(other)


async def test_a_client_that_waits_may_leave(model: ModelServer, redis: RedisServer) -> None:
    """Its replica stops waiting, and holds nothing."""
    async with replica(model, redis, **CLUSTER) as one, replica(model, redis, **CLUSTER) as other:
        first = asyncio.ensure_future(ask(one))
        asked = await model.asked()
        async with client(other) as user:
            await user.send(post("/v1/embeddings", b'{"input": "a"}'))
            await eventually(lambda: cache_of(other).flights)
        await eventually(lambda: not cache_of(other).flights)
        assert not cache_of(other).leases.held  # type: ignore[union-attr]
        await asked.answer(ANSWER, JSON)
        assert (await first)[1] == ANSWER
        await settled(one)
        await settled(other)


@pytest.mark.parametrize("end", ["kill", "pause"])
async def test_redis_goes_away(model: ModelServer, redis: RedisServer, end: str) -> None:
    """While one leads and the other waits Redis dies, or stands still: both go on, each with a
    call of its own.
    """
    async with (
        replica(model, redis, HASTY, **CLUSTER) as one,
        replica(model, redis, HASTY, **CLUSTER) as other,
    ):
        first = asyncio.ensure_future(ask(one))
        asked = await model.asked()
        second = asyncio.ensure_future(ask(other))
        await waits(redis)
        if end == "kill":
            await redis.kill()
        else:
            redis.pause()
        async with asyncio.timeout(lease.LEASE / 2):
            await (await model.asked()).answer(ANSWER, JSON)
            assert (await second)[1] == ANSWER
            await asked.answer(ANSWER, JSON)
            assert (await first)[1] == ANSWER
            third = [asyncio.ensure_future(ask(one, "b")) for _ in range(5)]
            await (await model.asked()).answer(b"[3]", JSON)
            assert {body for _, body in await asyncio.gather(*third)} == {b"[3]"}
        assert model.count == 3, "within a replica calls are still shared"
        if end == "pause":
            redis.resume()
        await settled(one)
        await settled(other)


async def test_a_lease_whose_taking_was_cancelled_is_given_back() -> None:
    """Nobody knows whether Redis has noted it: it is given back unseen."""
    store = Store()
    env = Env(asyncio.get_running_loop(), Telemetry())
    leases = Leases(store, env)
    store.go.clear()

    async def upstream(request: Request) -> Response:
        raise AssertionError("the upstream is not asked")

    async def nothing() -> None:
        return None

    one = leases.of(b"k", upstream, nothing)
    calling = asyncio.ensure_future(one.call(Request(b"POST", b"/", [])))
    await eventually(lambda: store.calls == 1)
    store.values[b"lease:k"] = one._token
    calling.cancel()
    await asyncio.wait((calling,))
    store.go.set()
    await leases.close()
    assert store.values == {} and not leases.held
    await env.stop()


async def test_an_answer_stored_in_the_meantime_is_found() -> None:
    """Between a miss and the lease another replica may have landed: the upstream is not asked."""
    store = Store()
    env = Env(asyncio.get_running_loop(), Telemetry())

    async def upstream(request: Request) -> Response:
        raise AssertionError("the upstream is not asked")

    async def found() -> object:
        return entry()

    one = Leases(store, env).of(b"k", upstream, found)  # type: ignore[arg-type]
    response = await one.call(Request(b"POST", b"/", []))
    assert response.body == ANSWER and one.found is not None
    assert store.values == {}
    await env.stop()


def test_it_needs_a_shared_store() -> None:
    """`coalesce: cluster` without Redis among the stores is a mistake; `off` may be bare YAML."""
    with pytest.raises(ValidationError, match="needs a shared store"):
        CacheConfig(coalesce="cluster")
    text = (
        "upstreams: {default: {endpoints: ['http://127.0.0.1:1']}}\n"
        "chain: [{'middleware.cache:Cache': {coalesce: off}}]\n"
    )
    config = Server(load_text(text, "x.yaml", {})).config.chain[0].config
    assert isinstance(config, CacheConfig) and config.coalesce == "off"
