"""Redis killed, paused, slow, full, restarted or refusing: what that costs, and that it heals.

Time bounds are read from the loop's clock. Each names what a call may cost, plus SLACK for a
machine that is busy or stands still for a moment.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from proxy.errors import StoreDown
from proxy.stores.redis import RedisStore

from .conftest import TIMEOUT, Calls, Store
from .relay import Relay
from .server import RedisServer, connections, eventually

SLACK = 5.0
"""Seconds. What it must tell apart is hundreds of timeouts."""


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of the store, in short."""
    return [
        next(word for word in ("down", "back", "refuses writes", "takes writes") if word in line)
        for line in (record.getMessage() for record in caplog.records)
        if line.startswith("store redis")
    ]


async def heals(store: RedisStore) -> float:
    """Seconds until a value goes in and comes back."""
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def works() -> bool:
        await store.set(b"healed", b"yes", 60)
        return await store.get(b"healed") == b"yes"

    await eventually(works)
    return loop.time() - begun


async def costs(store: RedisStore, calls: int = 200) -> float:
    """Seconds that this many calls take, one after the other."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for _ in range(calls):
        await store.get(b"k")
    return loop.time() - begun


async def down_answers(store: RedisStore) -> None:
    """Nothing raises that would fail a request; a lease is never had by mistake."""
    assert not store.up
    assert await store.get(b"k") is None
    assert await store.get_many([b"k", b"l"]) == [None, None]
    await store.set(b"k", b"v", 60)
    await store.delete(b"k")
    assert not await store.compare_delete(b"k", b"v")
    for call in (
        store.add(b"k", b"v", 1), store.extend(b"k", b"v", 1), store.increment(b"k"),
        store.run("return 1", [b"k"], []),
    ):  # fmt: skip
        with pytest.raises(StoreDown):
            await call


async def test_never_there(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Refused connections cost no time; it is used once it starts, and each change is one line."""
    late = RedisServer(tmp_path)
    redis = store(url=late.url)
    assert await costs(redis) < SLACK
    await down_answers(redis)
    async with late:
        assert await heals(redis) < 5 + SLACK
    assert told(caplog) == ["down", "back"]


async def test_killed_and_back(
    store: Store, server: RedisServer, caplog: pytest.LogCaptureFixture, calls: Calls
) -> None:
    """Calls in flight end at once; back with empty data, its misses are misses and it is used."""
    redis = store()
    await redis.set(b"k", b"v", 60)
    await asyncio.gather(*(redis.get(b"k") for _ in range(30)))
    await server.kill()
    assert await costs(redis) < SLACK
    await down_answers(redis)
    assert calls("get", "skipped") > 100
    await server.start()
    assert await heals(redis) < 5 + SLACK
    assert await redis.get(b"k") is None
    assert told(caplog) == ["down", "back"]


async def test_restarted_between_two_calls(
    store: Store, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections of the old process are not tried one after the other: no call notices."""
    redis = store(timeout=5)
    await asyncio.gather(*(redis.set(b"%d" % n, b"v", 60) for n in range(30)))
    await server.kill()
    await server.start()
    await redis.set(b"k", b"v", 60)
    assert await redis.get(b"k") == b"v"
    assert told(caplog) == []


async def test_paused(
    store: Store, server: RedisServer, caplog: pytest.LogCaptureFixture, calls: Calls
) -> None:
    """SIGSTOP: 100 calls at once cost one timeout together, 200 later ones nothing; it heals."""
    redis = store(timeout=TIMEOUT)
    for n in range(100):
        await redis.set(b"%d" % n, b"%d" % n, 60)
    loop = asyncio.get_running_loop()
    server.pause()
    begun = loop.time()
    values = await asyncio.gather(*(redis.get(b"%d" % n) for n in range(100)))
    assert TIMEOUT - 0.02 <= loop.time() - begun < TIMEOUT + SLACK
    assert values == [None] * 100
    assert 1 <= calls("get", "timeout") <= 64 and not calls("get", "hit")
    assert await costs(redis) < SLACK
    await down_answers(redis)
    server.resume()
    assert await heals(redis) < 5 + SLACK
    values = await asyncio.gather(*(redis.get(b"%d" % n) for n in range(100)))
    assert values == [b"%d" % n for n in range(100)], "a reply went to another's call"
    assert told(caplog) == ["down", "back"]
    assert await connections(server) <= 2, "the connections that hung were not given up"


async def test_paused_for_long(
    store: Store, server: RedisServer, caplog: pytest.LogCaptureFixture, calls: Calls
) -> None:
    """Each trial is made in the background: no call pays for one, and none of them is logged."""
    redis = store(timeout=0.05)
    await redis.get(b"k")
    server.pause()
    while redis.up:
        await redis.get(b"k")
    asked, trials, before = 0, set(), calls("get", "skipped")

    async def tried_again() -> bool:
        nonlocal asked, trials
        asked += 1
        assert await redis.get(b"k") is None
        trials |= {task for task in asyncio.all_tasks() if "trial" in task.get_name()}
        return len(trials) >= 3

    await eventually(tried_again)
    assert calls("get", "skipped") - before == asked, "a call went to the store and waited"
    assert told(caplog) == ["down"]
    server.resume()
    await heals(redis)


async def test_its_address_moves(
    store: Store, server: RedisServer, tmp_path: Path, calls: Calls
) -> None:
    """Behind the address another server takes over from one that hangs: idle connections to the
    old one are given up together, not at one timeout each.
    """
    async with RedisServer(tmp_path) as other, Relay(server) as front:
        redis = store(url=f"redis://localhost:{front.port}", max_connections=10, timeout=TIMEOUT)
        await asyncio.gather(*(redis.set(b"%d" % n, b"v", 60) for n in range(10)))
        server.pause()
        front.target = other
        assert await redis.get(b"k") is None
        await heals(redis)
        await asyncio.gather(*(redis.get(b"healed") for _ in range(10)))
        assert (calls("get", "timeout"), calls("set", "timeout")) == (1, 0)
        await redis.close()


async def test_slow(
    store: Store, server: RedisServer, caplog: pytest.LogCaptureFixture, calls: Calls
) -> None:
    """Replies that take longer than the timeout are not waited for; then it is used again."""
    redis = store(timeout=TIMEOUT)
    await redis.set(b"k", b"v", 60)
    await server.command("CLIENT", "PAUSE", 1500, "ALL")
    assert await costs(redis) < TIMEOUT + SLACK
    assert calls("get", "timeout") == 1
    assert await heals(redis) < 1.5 + 5 + SLACK
    assert await redis.get(b"k") == b"v"
    assert told(caplog) == ["down", "back"]


async def test_full(
    store: Store, server: RedisServer, caplog: pytest.LogCaptureFixture, calls: Calls
) -> None:
    """OOM: what is in it is still read, writes are left out; with room again they go on."""
    redis = store()
    await redis.set(b"k", b"v", 60)
    await server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await server.command("CONFIG", "SET", "maxmemory", "1")
    for _ in range(50):
        await redis.set(b"l", b"x", 60)
        assert await redis.get(b"k") == b"v"
    assert redis.up
    assert calls("set", "error") <= 5 and calls("set", "skipped") >= 45
    with pytest.raises(StoreDown):
        await redis.add(b"lease", b"me", 1)
    await redis.delete(b"k")
    assert await redis.get(b"k") is None, "a full store still deletes"
    await server.command("CONFIG", "SET", "maxmemory", "0")
    assert await heals(redis) < 5 + SLACK
    assert told(caplog) == ["refuses writes", "takes writes"]


async def test_full_for_a_script(store: Store, server: RedisServer) -> None:
    """A script that may not write meets the same refusal in other words."""
    redis = store()
    await server.command("CONFIG", "SET", "maxmemory", "1")
    for _ in range(5):
        with pytest.raises(StoreDown):
            await redis.increment(b"epoch")
    assert redis.up


async def test_a_replica_refuses_writes(
    store: Store, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """READONLY is told as a refusal to write, and the values are still read."""
    redis = store()
    await redis.set(b"k", b"v", 60)
    await server.command("REPLICAOF", "127.0.0.1", "1")
    await redis.set(b"k", b"w", 60)
    assert redis.up and await redis.get(b"k") == b"v"
    await server.command("REPLICAOF", "NO", "ONE")
    await heals(redis)
    assert told(caplog) == ["refuses writes", "takes writes"]


async def test_wrong_password(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Down, with Redis's reason and without the password; right later, it is used."""
    async with RedisServer(tmp_path, requirepass="right") as locked:
        redis = store(url=locked.url, password="hunter2")
        assert await costs(redis) < SLACK
        await down_answers(redis)
        assert "password" in caplog.text and "hunter2" not in caplog.text
        assert await connections(locked) <= 1, "a connection of no use was kept"
        await locked.command("CONFIG", "SET", "requirepass", "hunter2")
        assert await heals(redis) < 5 + SLACK
        assert told(caplog) == ["down", "back"]


async def test_not_a_redis(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Something else at its address is a store that is down, and no exception of a parser."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    other = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    redis = store(url=f"redis://127.0.0.1:{port}", timeout=TIMEOUT)
    assert await costs(redis, 20) < 2 * TIMEOUT + SLACK
    await down_answers(redis)
    assert told(caplog) == ["down"]
    await redis.close()
    other.close()


async def test_one_poisoned_key(
    store: Store, server: RedisServer, caplog: pytest.LogCaptureFixture, calls: Calls
) -> None:
    """A key of another type is a miss and is overwritten; the store stays up for the others."""
    redis = store()
    await redis.set(b"good", b"v", 60)
    await server.command("LPUSH", "remora:1:bad", "x")
    for _ in range(10):
        assert await redis.get(b"bad") is None
        assert await redis.get(b"good") == b"v"
    assert redis.up and calls("get", "error") == 10
    await redis.set(b"bad", b"v", 60)
    assert await redis.get(b"bad") == b"v"


async def test_closed_in_the_middle(
    store: Store, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A close ends a trial under way; no later call starts one, and nothing is left behind."""
    caplog.set_level(logging.WARNING)
    redis = store(timeout=0.05)
    await redis.get(b"k")
    server.pause()
    await redis.get(b"k")

    trials: list[asyncio.Task[object]] = []

    async def trial() -> bool:
        await redis.get(b"k")
        trials[:] = [task for task in asyncio.all_tasks() if "trial" in task.get_name()]
        return bool(trials)

    await eventually(trial)
    await redis.close()
    assert trials[0].cancelled(), "it waited for the trial's own bound"
    assert not any("trial" in task.get_name() for task in asyncio.all_tasks())
    await down_answers(redis)
    server.resume()


async def test_closed_while_it_connects(store: Store) -> None:
    """The connection that comes after the close is closed as well, and its call ends."""
    asked, go, heard = asyncio.Event(), asyncio.Event(), asyncio.Queue[bytes]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        asked.set()
        await go.wait()
        writer.write(b"+OK\r\n")
        heard.put_nowait(await reader.read(100))
        writer.close()

    slow = await asyncio.start_server(answer, "127.0.0.1", 0)
    redis = store(url=f"redis://127.0.0.1:{slow.sockets[0].getsockname()[1]}/1")
    call = asyncio.ensure_future(redis.get(b"k"))
    await asked.wait()
    await redis.close()
    go.set()
    assert await call is None
    assert await heard.get() == b"", "it was used"
    slow.close()


async def test_whoever_connects_leaves(store: Store) -> None:
    """The connection that was half made is closed, and the next caller makes another."""
    asked, ended = asyncio.Queue[bytes](), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.put_nowait(await reader.read(100))
        await reader.read()
        writer.close()
        ended.set()

    mute = await asyncio.start_server(answer, "127.0.0.1", 0)
    redis = store(url=f"redis://127.0.0.1:{mute.sockets[0].getsockname()[1]}/1")
    for _ in range(2):
        ended.clear()
        call = asyncio.ensure_future(redis.get(b"k"))
        assert b"SELECT" in await asked.get()
        call.cancel()
        await ended.wait()
    mute.close()


async def test_connecting_takes_longer_than_a_call_may(
    store: Store, server: RedisServer, calls: Calls
) -> None:
    """A Redis far away, behind TLS: it is connected to in the background, and then used."""
    async with Relay(server, delay=0.4) as front:
        redis = store(url=f"redis://localhost:{front.port}/1", timeout=0.3)
        assert await redis.get(b"k") is None and not redis.up
        await heals(redis)
        await redis.close()
