"""What is purged is gone: at once here, soon in every replica, and for calls under way, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.cache import purges
from middleware.cache.purges import ALL, Purges, read, tags_of
from middleware.core.entry import Entry
from tests.contract.road import ModelServer
from tests.loop_watch import LoopWatch
from tests.stores.server import RedisServer

from .replicas import Store, answered, ask, cache_of, entry, eventually, replica, settled

KEY = bytes(range(32))


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer().listening() as server:
        yield server


@pytest.fixture
async def redis(loop_watch: LoopWatch, tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path) as one:
        yield one


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def alone(clock: Clock, store: Store | None = None) -> Purges:
    return Purges(clock, store, lambda: None)


LABELS = [ALL, "route:chat", "model:m", "tag:t", "key:" + KEY.hex()]
OTHERS = ["route:other", "model:other", "tag:other", "key:" + bytes(32).hex()]


@pytest.mark.parametrize("label", LABELS)
async def test_what_a_label_covers(label: str) -> None:
    """All that was stored, or asked for, at or before the purge; nothing that came after it."""
    clock = Clock()
    here = alone(clock)
    await here.purge(label)
    old = {"route": "chat", "model": "m", "tags": ("s", "t")}
    assert here.covers(KEY, entry(stored_at=1000.0, **old))
    assert here.covers(KEY, entry(stored_at=1009.0, cost=9.0, **old)), "asked for before"
    assert not here.covers(KEY, entry(stored_at=1009.0, cost=8.9, **old))


async def test_other_labels_cover_nothing() -> None:
    """A purge by one name leaves everything else where it is."""
    here = alone(Clock())
    assert not here.marks
    for label in OTHERS:
        await here.purge(label)
    assert not here.covers(KEY, entry(route="chat", model="m", tags=("t",)))


async def test_a_second_purge_counts() -> None:
    """Purging a label again makes gone what came after the first time."""
    clock = Clock()
    here = alone(clock)
    await here.purge("tag:t")
    clock.now = 2000.0
    later = entry(stored_at=1500.0, tags=("t",))
    assert not here.covers(KEY, later)
    await here.purge("tag:t")
    assert here.covers(KEY, later)


async def test_labels_are_bounded() -> None:
    """Beyond the bound the oldest label becomes a purge of all that is as old: more is gone than
    was asked for, never less.
    """
    clock = Clock()
    here = alone(clock)
    for number in range(purges.MAX_LABELS + 10):
        clock.now += 1
        await here.purge(f"tag:{number}")
        assert len(here.marks) <= purges.MAX_LABELS + 1
    for number in range(purges.MAX_LABELS + 10):
        assert here.covers(KEY, entry(stored_at=1000.0, tags=(f"tag-{number}", f"{number}")))
    assert here.covers(KEY, entry(stored_at=1010.0)), "the oldest of them"
    assert not here.covers(KEY, entry(stored_at=clock.now - 5))


async def test_purging_all_forgets_the_labels() -> None:
    """What one purge includes need not be remembered."""
    here = alone(Clock())
    for number in range(10):
        await here.purge(f"tag:{number}")
    await here.purge(ALL)
    assert set(here.marks) == {ALL}


def under(label: str, stored_at: float) -> tuple[Entry, bytes]:
    """An entry that this label alone covers, and its key."""
    kind, _, name = label.partition(":")
    fields = (
        {"tags": (name,)} if kind == "tag" else {kind: name} if kind in ("route", "model") else {}
    )
    return entry(stored_at=stored_at, **fields), bytes.fromhex(name) if kind == "key" else bytes(32)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["purge", "sync", "wait", "lose"]),
            st.sampled_from(LABELS),
        ),
        max_size=40,
    ),
    st.floats(-3600, 3600),
)
def test_replicas_agree(steps: list[tuple[int, str, str]], skew: float) -> None:
    """Whatever order replicas purge and look in, and whatever their clocks say, or when the store
    loses everything: in the end each has gone what any of them had purged.
    """
    if any(what == "lose" for _, what, _ in steps):
        skew = 0.0

    async def run() -> None:
        store = Store()
        clocks = [Clock(5000.0), Clock(5000.0 + skew), Clock(5000.0)]
        here = [alone(clock, store) for clock in clocks]
        for one in here:
            await one.sync()
        gone: list[tuple[Purges, Entry, bytes]] = []
        for who, what, label in steps:
            for clock in clocks:
                clock.now += 1
            if what == "purge":
                for one, clock in zip(here, clocks, strict=True):
                    gone.append((one, *under(label, clock.now)))
                await here[who].purge(label)
            elif what == "sync":
                await here[who].sync()
            elif what == "lose":
                store.values.clear()
        for _ in range(4):
            for one in here:
                await one.sync()
        assert len({orjson.dumps(one._told, option=orjson.OPT_SORT_KEYS) for one in here}) == 1
        for one, entry_, key in gone:
            assert one.covers(key, entry_)

    asyncio.run(run())


async def test_a_slow_clock_makes_no_purge_late() -> None:
    """A replica hears of a purge by another whose clock is an hour behind: what it has stored by
    then is gone all the same. So it is where that clock is ahead, and what comes next stays.
    """
    for skew in (-3600.0, 3600.0):
        store = Store()
        behind, here = alone(Clock(5000.0 + skew), store), alone(clock := Clock(5000.0), store)
        await here.sync()
        await behind.purge("tag:t")
        clock.now = 5001.0
        await here.sync()
        assert here.covers(KEY, entry(stored_at=5000.9, tags=("t",)))
        assert not here.covers(KEY, entry(stored_at=5001.1, tags=("t",)))


async def test_a_new_replica_takes_over_old_purges() -> None:
    """What was purged before it started is gone for it, and what was stored since is not."""
    store = Store()
    await alone(Clock(4000.0), store).purge("tag:t")
    new = alone(Clock(5000.0), store)
    assert not new.known
    await new.sync()
    assert new.known
    assert new.covers(KEY, entry(stored_at=3999.0, tags=("t",)))
    assert not new.covers(KEY, entry(stored_at=4001.0, tags=("t",)))


async def test_a_store_that_is_down_hears_of_it_later() -> None:
    """A purge is done here at once and says that it is not shared; the store gets it when back."""
    store = Store()
    here = alone(Clock(), store)
    store.up = False
    assert await here.purge("tag:t") is False
    assert here.marks and not store.values
    store.up = True
    await here.sync()
    assert await here.sync() is True
    other = alone(Clock(2000.0), store)
    await other.sync()
    assert "tag:t" in other.marks


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff", b"[1]", b'{"tag:t": "x"}', b'{"tag:t": true}', b'{"tag:t": null}',
        b'{"tag:' + b"x" * 300 + b'": 1}', b"[" * 100_000,
        orjson.dumps({f"tag:{n}": 1.0 for n in range(purges.MAX_LABELS + 1)}),
        b'{"tag:t": 1' + b" " * (purges.MAX_LABELS * 4 * purges.MAX_LABEL) + b"}",
    ],
)  # fmt: skip
def test_labels_that_are_none(data: bytes) -> None:
    """Anything else under their key in the store is as if there were nothing."""
    assert read(data) == {}


def test_tags() -> None:
    """The layer's own, then those of an answer's fields, each once; too long or too many: out."""
    headers = [(b"Cache-Tag", b"a, b ,c,,"), (b"surrogate-key", b"b  d"), (b"etag", b"e")]
    assert tags_of(["own", "a"], headers) == ("own", "a", "b", "c", "d")
    assert tags_of([], [(b"cache-tag", b"x" * 300)]) == ()
    many = b",".join(b"%d" % n for n in range(1000))
    assert len(tags_of([], [(b"cache-tag", many)])) == purges.MAX_TAGS


# -- through the road


async def test_a_flight_begun_before_a_purge_is_not_stored(model: ModelServer) -> None:
    """Its own client gets the answer; whoever asks after the purge gets a new one, at once."""
    async with replica(model, tags=["t"]) as server:
        first = asyncio.ensure_future(ask(server))
        asked = await model.asked()
        await cache_of(server).purges.purge("tag:t")
        second = asyncio.ensure_future(ask(server))
        await (await model.asked()).answer(b"[2]")
        assert (await second)[1] == b"[2]"
        await asked.answer(b"[1]")
        assert (await first)[1] == b"[1]"
        assert (await ask(server))[1] == b"[2]"
        assert model.count == 2


async def test_every_replica_sees_it(model: ModelServer, redis: RedisServer) -> None:
    """Within two seconds no replica serves what was purged in one, from memory or from Redis; an
    answer that has come since is served by both.
    """
    async with replica(model, redis) as one, replica(model, redis) as other:
        await answered(model, ask(one), b"[1]")
        await settled(one)
        assert (await ask(other))[1] == b"[1]"
        assert await cache_of(one).purges.purge("model:") is True
        await eventually(lambda: cache_of(other).purges.marks, within=2.0)
        assert (await answered(model, ask(other), b"[2]"))[1] == b"[2]"
        await settled(other)
        assert (await ask(one))[1] == b"[2]"
        assert model.count == 2


async def test_a_restarted_replica_serves_nothing_purged(
    model: ModelServer, redis: RedisServer
) -> None:
    """Redis still has the entry; whoever starts now knows that it is gone."""
    async with replica(model, redis) as one:
        await answered(model, ask(one), b"[1]")
        await settled(one)
        await cache_of(one).purges.purge(ALL)
    async with replica(model, redis) as new:
        assert (await answered(model, ask(new), b"[2]"))[1] == b"[2]"
        await settled(new)


async def test_nothing_is_taken_from_a_store_whose_purges_are_not_known(
    model: ModelServer, redis: RedisServer
) -> None:
    """Until the labels were read, an entry there may be one that was purged."""
    async with replica(model, redis) as one:
        await answered(model, ask(one), b"[1]")
        await settled(one)
        here = cache_of(one)
        here.tiers.memory.clear()  # type: ignore[union-attr]
        here.purges.known = False
        assert (await answered(model, ask(one), b"[2]"))[1] == b"[2]"
        await settled(one)


async def test_tags_of_an_upstream(model: ModelServer) -> None:
    """With `honor_upstream` an answer is purged by the tags that it names itself."""
    keys: dict[str, Any] = {"honor_upstream": True, "share": "public"}
    from tests.contract.road import client

    async with replica(model, **keys) as server, client(server) as user:

        async def get(body: bytes | None) -> bytes:
            await user.send(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
            if body is not None:
                fields = (b"Cache-Control: max-age=60", b"Cache-Tag: news, front")
                await (await model.asked()).answer(body, *fields)
            told = (await user.read_answer())[1]
            await settled(server)
            return told

        assert await get(b"1") == b"1"
        assert await get(None) == b"1"
        await cache_of(server).purges.purge("tag:front")
        assert await get(b"2") == b"2"
        assert await get(None) == b"2"
