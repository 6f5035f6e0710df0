"""What the store promises while its Redis is well."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from redis.exceptions import ConnectionError

from proxy.stores.direct import Direct
from proxy.stores.settings import Redis

from .conftest import Store
from .relay import Relay
from .server import RedisServer, connections, eventually

Calls = Callable[[str, str], float]


async def test_a_value_comes_back(store: Store, calls: Calls) -> None:
    """Any bytes under any bytes; a key that is not there is None; hits and misses are counted."""
    redis = store()
    key, value = bytes(range(256)), b"\0\r\n$-1\r\n" * 9
    assert await redis.get(key) is None
    await redis.set(key, value, 60)
    assert await redis.get(key) == value
    await redis.delete(key)
    assert await redis.get(key) is None
    assert (calls("get", "hit"), calls("get", "miss")) == (1, 2)
    assert (calls("set", "ok"), calls("delete", "ok")) == (1, 1)


async def test_several_at_once(store: Store) -> None:
    """In the order asked for, None for those that are not there; none of none."""
    redis = store()
    await redis.set(b"a", b"1", 60)
    await redis.set(b"c", b"3", 60)
    assert await redis.get_many([b"a", b"b", b"c"]) == [b"1", None, b"3"]
    assert await redis.get_many([]) == []


async def test_redis_itself_forgets(store: Store, server: RedisServer) -> None:
    """The time to live is Redis's, in milliseconds: nothing is left to clean up."""
    redis = store()
    await redis.set(b"short", b"x", 0.05)
    await redis.set(b"long", b"x", 60.5)
    assert 60_000 < await server.command("PTTL", "remora:1:long") <= 60_500

    async def gone() -> bool:
        return bool(await server.command("EXISTS", "remora:1:short") == 0)

    await eventually(gone)
    assert await redis.get(b"short") is None


async def test_keys_carry_prefix_and_layout(store: Store, server: RedisServer) -> None:
    """Two deployments on one Redis do not see each other, nor would another layout of keys."""
    await store(prefix="one").set(b"k", b"1", 60)
    assert await store(prefix="two").get(b"k") is None
    assert await server.command("KEYS", "*") == [b"one:1:k"]


async def test_a_lease_has_one_holder(store: Store) -> None:
    """Only its holder renews it and gives it back; then the next one has it."""
    redis, other = store(), store()
    assert await redis.add(b"lease", b"me", 60)
    assert not await other.add(b"lease", b"you", 60)
    assert not await other.extend(b"lease", b"you", 60)
    assert not await other.compare_delete(b"lease", b"you")
    assert await redis.extend(b"lease", b"me", 60)
    assert await redis.compare_delete(b"lease", b"me")
    assert await other.add(b"lease", b"you", 60)


async def test_a_lease_is_renewed_and_runs_out(store: Store, server: RedisServer) -> None:
    """Renewing sets its time anew; one that is not renewed is free by itself."""
    redis = store()
    assert await redis.add(b"lease", b"me", 0.05)

    async def taken() -> bool:
        return await redis.add(b"lease", b"you", 60)

    await eventually(taken)
    assert not await redis.extend(b"lease", b"me", 60), "it is another's by now"
    assert await redis.extend(b"lease", b"you", 5)
    assert await server.command("PTTL", "remora:1:lease") <= 5000


async def test_numbers_never_come_twice(store: Store, server: RedisServer) -> None:
    """Also where Redis has lost the key: what is of an old number stays out of reach."""
    redis = store()
    before = time.time() * 1000
    first = await redis.increment(b"epoch")
    assert abs(first - before) < 60_000
    assert await redis.increment(b"epoch") == first + 1
    assert await redis.get(b"epoch") == str(first + 1).encode()
    await server.command("FLUSHALL")
    await asyncio.sleep(0.005)
    assert await redis.increment(b"epoch") > first + 1


async def test_a_script(store: Store, server: RedisServer, calls: Calls) -> None:
    """Runs in one step on keys that carry the prefix; also where Redis has forgotten it."""
    redis = store()
    script = "redis.call('set', KEYS[2], ARGV[1]) return {KEYS[1], tonumber(ARGV[2]) + 1}"
    for _ in range(2):
        assert await redis.run(script, [b"{t}a", b"{t}b"], [b"\0\xff", 41]) == [
            b"remora:1:{t}a", 42,
        ]  # fmt: skip
        assert await redis.get(b"{t}b") == b"\0\xff"
        await server.command("SCRIPT", "FLUSH")
    assert calls("run", "ok") == 2


async def test_more_calls_than_may_be_under_way(store: Store, server: RedisServer) -> None:
    """The others wait; none fails, none gets another's answer, and all share two connections."""
    redis = store(max_connections=4, timeout=10)
    await asyncio.gather(*(redis.set(b"%d" % n, b"%d" % n, 60) for n in range(300)))
    values = await asyncio.gather(*(redis.get(b"%d" % n) for n in range(300)))
    assert values == [b"%d" % n for n in range(300)]
    assert await connections(server) <= 2


async def test_what_may_be_large_has_a_connection_of_its_own(server: RedisServer) -> None:
    """Whoever waits for a decision waits behind no value."""
    redis = Direct(Redis(url=server.url))
    value = asyncio.ensure_future(redis.value("BLPOP", b"never", 0))

    async def on_its_way() -> bool:
        return bool((await server.command("INFO", "clients"))["blocked_clients"])

    await eventually(on_its_way)
    async with asyncio.timeout(20):
        assert await redis.ask("PING") == b"PONG"
    await redis.close()
    with pytest.raises(ConnectionError):
        await value

    async def all_closed() -> bool:
        return await connections(server) == 0

    await eventually(all_closed)


async def test_a_caller_who_leaves_does_no_harm(store: Store, server: RedisServer) -> None:
    """Cancelled in the middle of replies: the store stays up, and later calls get their own."""
    redis = store(max_connections=3, timeout=5)
    for n in range(50):
        await redis.set(b"%d" % n, b"%d" % n, 60)
    for leaves_after in range(8):
        tasks = [asyncio.ensure_future(redis.get(b"%d" % n)) for n in range(50)]
        for _ in range(leaves_after):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        values = await asyncio.gather(*tasks, return_exceptions=True)
        assert values[1::2] == [b"%d" % n for n in range(1, 50, 2)]
    assert redis.up
    assert await redis.get(b"7") == b"7"


async def test_a_unix_socket(store: Store, server: RedisServer) -> None:
    """The nearest Redis there is."""
    redis = store(url=f"unix:{server.folder / 'socket'}")
    await redis.set(b"k", b"v", 60)
    assert await redis.get(b"k") == b"v"


async def test_a_database_of_its_own(store: Store, server: RedisServer) -> None:
    """The number after the host is used."""
    await store(url=server.url[:-1] + "3").set(b"k", b"v", 60)
    assert await store().get(b"k") is None
    assert "db3" in await server.command("INFO", "keyspace")


async def test_user_and_password(store: Store, tmp_path: Path) -> None:
    """From their own keys or from the url, and neither shows them."""
    async with RedisServer(tmp_path, requirepass="hunter2@:/") as locked:
        by_url = f"redis://:hunter2%40%3A%2F@{locked.node}"
        named = {"username": "default", "password": "hunter2@:/"}
        for keys in ({"url": by_url}, {"url": locked.url, **named}):
            redis = store(**keys)
            await redis.set(b"k", b"v", 60)
            assert await redis.get(b"k") == b"v"
        assert "hunter2" not in repr(Redis(url=by_url)) + repr(Redis(**named))


async def test_tls(store: Store, server: RedisServer, tmp_path: Path) -> None:
    """rediss:// with an authority of one's own; a server that it did not sign for is refused."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")

    async with Relay(server, context) as front:
        url = f"rediss://localhost:{front.port}"
        redis = store(url=url, ca=tmp_path / "ca.pem", timeout=5)
        await redis.set(b"k", b"v", 60)
        assert await redis.get(b"k") == b"v"
        stranger = store(url=url, ca=tmp_path / "other.pem", timeout=5)
        assert await stranger.get(b"k") is None
        await redis.close()


@pytest.mark.parametrize("cluster", [False, True])
async def test_authorities_that_cannot_be_used(store: Store, tmp_path: Path, cluster: bool) -> None:
    """A file that holds none stops the start, and the message names it."""
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(OSError, match=r"stores\.redis\.ca.*ca\.pem"):
        store(url="rediss://localhost", ca=tmp_path / "ca.pem", cluster=cluster)


async def test_zstd_where_the_file_wants_it(store: Store) -> None:
    """From the size named on; what another replica compressed can be read without the key."""
    redis, plain = store(compress="1KiB"), store()
    assert redis.compress is not None and redis.decompress is not None
    assert plain.compress is None and plain.decompress is not None
    large = b"0.25, " * 10_000
    short = redis.compress(large)
    assert len(short) < len(large) / 10
    assert plain.decompress(short, len(large)) == large
    assert redis.compress(b"x" * 1023) == b"x" * 1023
    with pytest.raises(ValueError, match="bound"):
        plain.decompress(short, len(large) - 1)
    with pytest.raises(ValueError):
        plain.decompress(b"no frame", 1000)
