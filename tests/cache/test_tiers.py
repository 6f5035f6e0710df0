"""Memory, and behind it a Redis that replicas share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from middleware.cache import tiers
from middleware.cache.purges import Purges
from middleware.cache.tiers import RedisTier, Tiers, size_of
from middleware.core.envelope import pack
from middleware.core.lru import LRU
from proxy.loader import ConfigError, load_text
from tests.contract.road import ModelServer
from tests.loop_watch import LoopWatch
from tests.stores.server import RedisServer

from .replicas import ANSWER, Store, answered, ask, cache_of, entry, eventually, replica, settled

KEY = bytes(32)


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer().listening() as server:
        yield server


@pytest.fixture
async def redis(loop_watch: LoopWatch, tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path) as one:
        yield one


def now() -> float:
    return 1000.0


def tiers_of(store: Store, memory: bool = False) -> Tiers:
    purges = Purges(now, None, lambda: None)
    lru = LRU(1 << 20, size_of) if memory else None
    return Tiers(lru, [RedisTier(store, 1 << 20, now)], purges)


# -- with a real Redis


async def test_replicas_share_answers(model: ModelServer, redis: RedisServer) -> None:
    """What one replica got from the upstream is a hit in another, byte for byte."""
    async with replica(model, redis) as one, replica(model, redis) as other:
        await answered(model, ask(one))
        await settled(one)
        head, body = await ask(other)
        assert body == ANSWER
        assert b"cache-status: remora; hit; ttl=" in head and b"\r\nage: " in head
        assert model.count == 1
        before = await redis.command("INFO", "commandstats")
        assert (await ask(other))[1] == ANSWER
        after = await redis.command("INFO", "commandstats")
        assert after["cmdstat_get"]["calls"] - before["cmdstat_get"]["calls"] <= 2, (
            "the second hit is memory's: only the look at purges asks Redis"
        )
        assert model.count == 1


async def test_redis_forgets_by_itself(model: ModelServer, redis: RedisServer) -> None:
    """Each value has a TTL: as long as the entry is of any use, stale windows included."""
    async with replica(model, redis, ttl="1m", grace="2m") as one:
        await answered(model, ask(one))
        await settled(one)
        (key,) = await redis.command("KEYS", "*:entry:*")
        assert 170_000 < await redis.command("PTTL", key) <= 180_000


@pytest.mark.parametrize("harm", ["poisoned", "truncated"])
async def test_a_damaged_value_is_a_miss(model: ModelServer, redis: RedisServer, harm: str) -> None:
    """It is deleted and counted, and the upstream's answer takes its place."""
    async with replica(model, redis) as one:
        await answered(model, ask(one))
        await settled(one)
    (key,) = await redis.command("KEYS", "*:entry:*")
    whole = await redis.command("GET", key)
    await redis.command("SET", key, b"\x80\x04evil" if harm == "poisoned" else whole[:-1])
    async with replica(model, redis) as other:
        asking = asyncio.ensure_future(ask(other))
        asked = await model.asked()
        assert await redis.command("GET", key) is None
        await asked.answer(ANSWER)
        assert (await asking)[1] == ANSWER
        await settled(other)
        (tier,) = cache_of(other).tiers.stores
        assert isinstance(tier, RedisTier) and tier.poisoned == 1
        assert await redis.command("EXISTS", key) == 1


async def test_without_redis_it_goes_on(model: ModelServer, redis: RedisServer) -> None:
    """A replica whose Redis dies answers from memory and from the upstream, and never fails."""
    async with replica(model, redis) as one:
        await answered(model, ask(one, "a"))
        await redis.kill()
        assert (await answered(model, ask(one, "b")))[1] == ANSWER
        for text in ("a", "b"):
            assert (await ask(one, text))[1] == ANSWER
        assert model.count == 2
        await settled(one)


async def test_a_newer_answer_of_another_replica_is_found(
    model: ModelServer, redis: RedisServer
) -> None:
    """A replica whose own answer is stale takes the fresh one that another has stored."""
    async with replica(model, redis) as one, replica(model, redis) as other:
        await answered(model, ask(one), b"[1]")
        await settled(one)
        assert (await ask(other))[1] == b"[1]"
        for server in (one, other):
            here = cache_of(server)
            clock = here.now
            here.now = lambda clock=clock: clock() + 301  # type: ignore[misc]
            for tier in here.tiers.stores:
                tier._now = here.now  # type: ignore[attr-defined]
        await answered(model, ask(one), b"[2]")
        await settled(one)
        assert (await ask(other))[1] == b"[2]"
        assert model.count == 2


def test_a_file_without_redis_is_refused() -> None:
    """`stores: [memory, redis]` and no Redis in the file: said at load, with what to add."""
    text = (
        "upstreams: {default: {endpoints: ['http://127.0.0.1:1']}}\n"
        "chain: [{'middleware.cache:Cache': {stores: [memory, redis]}}]\n"
    )
    with pytest.raises(ConfigError, match=r"stores: \{redis: \{url"):
        load_text(text, "x.yaml", {})


# -- bounds, with a store that waits


async def test_an_entry_over_the_bound_is_not_shared() -> None:
    """What would be larger than `max_entry_bytes` in the store is kept from it."""
    store = Store()
    one = entry(body=b"x" * 1000)
    await RedisTier(store, 1000, now).set(KEY, one)
    assert store.values == {}
    await RedisTier(store, 2000, now).set(KEY, one)
    assert len(store.values) == 1


async def test_what_is_of_no_use_any_more_is_not_shared() -> None:
    """An entry that came to its end on its way: the store is not asked to keep it."""
    store = Store()
    await RedisTier(store, 1 << 20, now).set(KEY, entry(stored_at=700.0))
    assert store.calls == 0


@pytest.mark.parametrize(
    ("stored_at", "found"),
    [(1000.0, True), (1004.0, True), (1006.0, False), (701.0, True), (699.0, False)],
)
async def test_clocks_of_replicas_differ(stored_at: float, found: bool) -> None:
    """An entry of the near future is another's clock; one of the far future, or one that is past
    its end, would be served longer than it may: it is not used.
    """
    store = Store()
    tier = RedisTier(store, 1 << 20, now)
    store.values[tier._PREFIX + KEY] = pack(entry(stored_at=stored_at))
    assert (await tier.get(KEY) is not None) == found


async def test_few_are_on_their_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is slow holds up a bounded number of entries; the next is dropped, counted."""
    monkeypatch.setattr(tiers, "MAX_SHARING", 2)
    store = Store()
    store.go.clear()
    here = tiers_of(store)
    sharing = [asyncio.ensure_future(here.share(bytes([n]) * 32, entry())) for n in range(3)]
    assert await sharing[2] is False
    assert here.dropped == 1 and not sharing[0].done()
    store.go.set()
    assert await asyncio.gather(*sharing[:2]) == [True, True]
    assert await here.share(KEY, entry()) is True


async def test_few_bytes_are_on_their_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound counts bytes, too: large entries do not pile up in memory."""
    monkeypatch.setattr(tiers, "MAX_SHARING_BYTES", 1000)
    store = Store()
    store.go.clear()
    here = tiers_of(store)
    first = asyncio.ensure_future(here.share(KEY, entry(body=b"x" * 600)))
    await asyncio.sleep(0)
    assert await here.share(bytes([1]) * 32, entry(body=b"x" * 600)) is False
    store.go.set()
    assert await first is True


async def test_one_look_at_a_time() -> None:
    """A thousand that ask for one key cost the store one call."""
    store = Store()
    here = tiers_of(store)
    store.values[RedisTier._PREFIX + KEY] = pack(entry())
    store.go.clear()
    looking = [asyncio.ensure_future(here.far(KEY)) for _ in range(1000)]
    await eventually(lambda: store.calls == 1)
    store.go.set()
    found = await asyncio.gather(*looking)
    assert all(one is not None for one in found) and store.calls == 1


async def test_a_look_is_taken_over() -> None:
    """The one that looks for all leaves: another looks, and those who wait notice nothing."""
    store = Store()
    store.go.clear()
    here = tiers_of(store)
    store.values[RedisTier._PREFIX + KEY] = pack(entry())
    looking = [asyncio.ensure_future(here.far(KEY)) for _ in range(3)]
    await eventually(lambda: store.calls == 1)
    looking[0].cancel()
    await eventually(lambda: store.calls == 2)
    store.go.set()
    assert all(one is not None for one in await asyncio.gather(*looking[1:]))
    assert store.calls == 2


async def test_what_a_store_gives_is_kept_in_memory() -> None:
    """The next hit needs no store; an older entry never takes the place of a newer one."""
    store = Store()
    here = tiers_of(store, memory=True)
    store.values[RedisTier._PREFIX + KEY] = pack(entry(stored_at=900.0))
    here.keep(KEY, entry(stored_at=950.0))
    newest = await here.far(KEY)
    assert newest is not None and newest.stored_at == 950.0
    await here.delete(KEY)
    assert here.near(KEY) is None and not store.values
