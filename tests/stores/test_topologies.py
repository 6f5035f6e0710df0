"""Sentinel and Cluster, started for real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio.cluster import RedisCluster

from proxy.env import Env
from proxy.stores.redis import RedisStore
from proxy.stores.settings import Redis, Sentinel

from .server import RedisServer, cluster, eventually, free_port, watched

TIMEOUT = 1.0
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def nodes(loop_watch: object, tmp_path: Path) -> AsyncIterator[list[RedisServer]]:
    """A Cluster of three masters."""
    async with cluster(tmp_path) as made:
        yield made


Maker = Callable[[Redis], RedisStore]


@pytest.fixture
async def made(env: Env) -> AsyncIterator[Maker]:
    """Makes stores; each is closed with the test."""
    stores: list[RedisStore] = []

    def make(keys: Redis) -> RedisStore:
        stores.append(RedisStore(keys, env))
        return stores[-1]

    yield make
    for one in stores:
        await one.close()


async def test_sentinel_failover(
    made: Maker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The master is killed: the store follows to the promoted replica and keeps its values."""
    async with watched(tmp_path) as (master, replica, sentinel):
        # The first sentinel of the list is away, which must not hide the second.
        service = Sentinel(service="mymaster", nodes=[f"127.0.0.1:{free_port()}", sentinel.node])
        store = made(Redis(sentinel=service, timeout=TIMEOUT))
        await store.set(b"k", b"v", 600)
        assert await store.get(b"k") == b"v"
        assert await master.command("EXISTS", "remora:1:k") == 1

        async def replicated() -> bool:
            return bool(await replica.command("EXISTS", "remora:1:k"))

        await eventually(replicated)
        await master.kill()

        async def writes() -> bool:
            await store.set(b"after", b"w", 600)
            return await store.get(b"after") == b"w"

        await eventually(writes, within=40)
        assert await replica.command("EXISTS", "remora:1:after") == 1
        assert await store.get(b"k") == b"v"
        lines = [line for line in caplog.messages if line.startswith("store redis")]
        assert "down" in lines[0] and "back" in lines[-1] and len(lines) <= 6


async def test_a_master_that_became_a_replica(
    made: Maker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its refusal to write is no full store: the sentinels are to be asked for the master anew."""
    async with watched(tmp_path) as (master, _, sentinel):
        service = Sentinel(service="mymaster", nodes=[sentinel.node])
        store = made(Redis(sentinel=service, timeout=TIMEOUT))
        await store.set(b"k", b"v", 600)
        await master.command("REPLICAOF", "127.0.0.1", "1")
        for _ in range(3):
            await store.set(b"k", b"w", 600)
        assert not store.up
        assert "down" in caplog.messages[0] and "read only replica" in caplog.messages[0]


async def test_cluster(made: Maker, nodes: list[RedisServer]) -> None:
    """Keys of every node, several of them in one call, leases and numbers."""
    store = made(Redis(url=nodes[0].url, cluster=True, timeout=TIMEOUT))
    keys = [b"%d" % n for n in range(60)]
    for key in keys:
        await store.set(key, key, 60)
    assert await store.get_many([*keys, b"none"]) == [*keys, None]
    for node in nodes:
        assert await node.command("DBSIZE") > 0
    assert await store.add(b"lease", b"me", 60)
    assert await store.extend(b"lease", b"me", 60)
    assert await store.compare_delete(b"lease", b"me")
    assert await store.increment(b"n") + 1 == await store.increment(b"n")
    for n in range(30):
        assert await store.run("return redis.call('get', KEYS[1])", [b"%d" % n], []) is not None
    await store.delete(keys[0])
    assert await store.get(keys[0]) is None


async def test_cluster_redirect(
    made: Maker, nodes: list[RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    """A slot moves to another node: the call follows it, within the same call."""
    store = made(Redis(url=nodes[0].url, cluster=True, timeout=TIMEOUT))
    await store.set(b"other", b"v", 60)
    slot = RedisCluster(host="127.0.0.1", port=nodes[0].port).keyslot("remora:1:moved")
    old = slot * 3 // 16384
    new = nodes[(old + 1) % 3]
    target = await new.command("CLUSTER", "MYID")
    for node in (new, *(one for one in nodes if one is not new)):
        await node.command("CLUSTER", "SETSLOT", slot, "NODE", target.decode())
    await store.set(b"moved", b"v", 60)
    assert await store.get(b"moved") == b"v"
    assert await new.command("EXISTS", "remora:1:moved") == 1
    assert store.up and not caplog.records


async def test_a_node_of_a_cluster_is_away(
    made: Maker, nodes: list[RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    """No call raises or hangs; with the node back, all of it is used again."""
    store = made(Redis(url=nodes[0].url, cluster=True, timeout=TIMEOUT))
    keys = [b"%d" % n for n in range(30)]
    for key in keys:
        await store.set(key, key, 60)
    await nodes[2].kill()
    for _ in range(20):
        await store.get_many(keys)
    await nodes[2].start()

    async def whole() -> bool:
        for key in keys:
            await store.set(key, key, 60)
        return await store.get_many(keys) == keys

    await eventually(whole, within=40)
    assert "down" in caplog.messages[0]


async def test_a_node_of_a_cluster_hangs(made: Maker, nodes: list[RedisServer]) -> None:
    """Its slot has moved, but nothing tells so: the next trial asks the others for the map."""
    store = made(Redis(url=nodes[0].url, cluster=True, timeout=0.25))
    await store.set(b"other", b"v", 60)
    slot_of = RedisCluster(host="127.0.0.1", port=nodes[0].port).keyslot
    trials = slot_of("remora:1:trial") * 3 // 16384
    hung, new = (trials + 1) % 3, (trials + 2) % 3
    key = next(b"%d" % n for n in range(1000) if slot_of(f"remora:1:{n}") * 3 // 16384 == hung)
    target = await nodes[new].command("CLUSTER", "MYID")
    for node in (nodes[new], nodes[trials]):
        slot = slot_of(b"remora:1:" + key)
        await node.command("CLUSTER", "SETSLOT", slot, "NODE", target.decode())
    nodes[hung].pause()
    assert await store.get(key) is None and not store.up

    async def works() -> bool:
        await store.set(key, b"v", 60)
        return await store.get(key) == b"v"

    await eventually(works, within=15)
