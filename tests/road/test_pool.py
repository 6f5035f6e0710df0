"""The pool: which connection is used, how many there may be, and who waits for one."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.conftest import Serve, UpstreamMaker
from tests.road.gate import Gate, ask
from tests.road.layers import Witness
from tests.road.scripted import Peer, answering
from tests.road.wire import Gone, ok, until

WITNESS = ["tests.road.layers:Witness"]


async def test_one_connection_serves_one_client(serve: Serve, upstream: UpstreamMaker) -> None:
    """Requests one after the other, from several clients, share one upstream connection."""
    server = await upstream(answering(ok()))
    running = await serve(server)
    for _ in range(3):
        client = await running.connect()
        for _ in range(3):
            assert (await client.exchange()).body == b"ok"
    assert server.made == 1
    assert (running.pool.opened, running.pool.open, running.pool.idle) == (1, 1, 1)


async def test_last_in_first_out(serve: Serve, upstream: UpstreamMaker) -> None:
    """Of several idle connections the one that fell idle last is used again."""
    gate = Gate()
    running = await serve(await upstream(gate.script))
    _, first = await ask(running, "/a")
    await gate.came(b"/a")
    _, second = await ask(running, "/b")
    await gate.came(b"/b")
    gate.answer(b"/b")
    assert (await second).body == b"1"
    gate.answer(b"/a")
    assert (await first).body == b"0"
    for number in range(3):
        gate.answer(b"/%d" % number)
        _, answer = await ask(running, f"/{number}")
        assert (await answer).body == b"0"


async def test_bound_and_order_of_waiting(serve: Serve, upstream: UpstreamMaker) -> None:
    """No more than max_connections are ever open, and those who wait go in the order they came."""
    gate = Gate()
    server = await upstream(gate.script)
    running = await serve(server, pool={"max_connections": 2})
    answers = []
    for number in range(8):
        answers.append((await ask(running, f"/{number}"))[1])
        await until(lambda n=number: len(gate.targets) + running.pool.waiting == n + 1)
    assert running.pool.waiting == 6
    for number in range(8):
        gate.answer(b"/%d" % number)
        assert (await answers[number]).status == 200
    assert gate.targets == [b"/%d" % number for number in range(8)]
    assert server.made == 2


async def test_bound_holds_when_connections_do_not_last(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """A slot passes on when its connection closes: 20 clients on 3 slots are all answered."""
    open_now: set[Peer] = set()
    most = 0

    async def script(peer: Peer) -> None:
        nonlocal most
        open_now.add(peer)
        most = max(most, len(open_now))
        try:
            await peer.request()
            peer.send(ok(b"ok", "Connection: close"))
            await peer.ended()
        finally:
            open_now.discard(peer)

    server = await upstream(script)
    running = await serve(server, pool={"max_connections": 3})
    answers = [(await ask(running, "/"))[1] for _ in range(20)]
    assert [answer.status for answer in await asyncio.gather(*answers)] == [200] * 20
    assert server.made == 20
    # A script sees the end of its connection a moment after remora, which may have opened the next.
    assert most <= 4
    await until(lambda: running.pool.open == 0)


async def test_a_waiter_that_leaves_frees_its_place(serve: Serve, upstream: UpstreamMaker) -> None:
    """The place of a client that left while it waited goes to the next, and it asks nobody."""
    gate = Gate()
    running = await serve(await upstream(gate.script), pool={"max_connections": 1}, chain=WITNESS)
    _, first = await ask(running, "/first")
    await gate.came(b"/first")
    leaver, left = await ask(running, "/leaver")
    await until(lambda: running.pool.waiting == 1)
    _, patient = await ask(running, "/patient")
    await until(lambda: running.pool.waiting == 2)
    leaver.abort()
    await until(lambda: running.pool.waiting == 1)
    gate.answer(b"/first")
    gate.answer(b"/patient")
    assert (await first).status == (await patient).status == 200
    assert gate.targets == [b"/first", b"/patient"]
    assert [outcome.cancelled for outcome in running.layer(Witness).outcomes].count(True) == 1
    with pytest.raises(Gone):
        await left


async def test_leaving_as_the_connection_is_handed_over(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """A waiter cancelled in the moment it was handed a connection does not lose it."""
    gate = Gate()
    server = await upstream(gate.script)
    running = await serve(server, pool={"max_connections": 1})
    pool = running.pool
    _, first = await ask(running, "/first")
    await gate.came(b"/first")
    waiting = asyncio.create_task(pool._get())
    await until(lambda: pool.waiting == 1)
    release = pool.release

    def release_and_leave(connection) -> None:  # type: ignore[no-untyped-def]
        release(connection)
        if not waiting.done():
            waiting.cancel()

    pool.release = release_and_leave  # type: ignore[method-assign]
    gate.answer(b"/first")
    assert (await first).status == 200
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (pool.open, pool.idle, pool.waiting) == (1, 1, 0)
    gate.answer(b"/next")
    _, after = await ask(running, "/next")
    assert (await after).body == b"0"


async def test_leaving_as_a_slot_is_handed_over(serve: Serve, upstream: UpstreamMaker) -> None:
    """A waiter cancelled in the moment it was given a slot gives it to the one behind it."""
    gate = Gate()
    running = await serve(await upstream(gate.script), pool={"max_connections": 1})
    pool = running.pool
    client, first = await ask(running, "/first")
    await gate.came(b"/first")
    leaver = asyncio.create_task(pool._get())
    await until(lambda: pool.waiting == 1)
    _, patient = await ask(running, "/patient")
    await until(lambda: pool.waiting == 2)
    lost = pool.lost

    def lost_and_leave(connection) -> None:  # type: ignore[no-untyped-def]
        lost(connection)
        leaver.cancel()

    pool.lost = lost_and_leave  # type: ignore[method-assign]
    client.abort()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    gate.answer(b"/patient")
    assert (await patient).body == b"1"
    assert pool.open == 1
    with pytest.raises(Gone):
        await first


async def test_too_many_wait(serve: Serve, upstream: UpstreamMaker) -> None:
    """Beyond max_waiting a request is refused at once with 503 upstream_pool_full."""
    gate = Gate()
    running = await serve(
        await upstream(gate.script), pool={"max_connections": 1, "max_waiting": 1}
    )
    _, first = await ask(running, "/1")
    await gate.came(b"/1")
    _, second = await ask(running, "/2")
    await until(lambda: running.pool.waiting == 1)
    refused = await (await running.connect()).exchange("GET", "/3")
    assert (refused.status, refused["x-remora-error"]) == (503, "upstream_pool_full")
    assert refused["retry-after"] == "1"
    assert b"/3" not in gate.targets
    gate.answer(b"/1")
    gate.answer(b"/2")
    assert (await first).status == (await second).status == 200


async def test_waiting_too_long(serve: Serve, upstream: UpstreamMaker) -> None:
    """After wait_timeout a waiting request gets 503 upstream_pool_timeout, and its client stays."""
    gate = Gate()
    running = await serve(
        await upstream(gate.script), pool={"max_connections": 1, "wait_timeout": 0.05}
    )
    _, first = await ask(running, "/1")
    await gate.came(b"/1")
    client = await running.connect()
    refused = await client.exchange("GET", "/2")
    assert (refused.status, refused["x-remora-error"]) == (503, "upstream_pool_timeout")
    gate.answer(b"/1")
    gate.answer(b"/3")
    assert (await first).status == 200
    assert (await client.exchange("GET", "/3")).status == 200
    assert gate.targets == [b"/1", b"/3"]


async def test_max_idle(serve: Serve, upstream: UpstreamMaker) -> None:
    """Of the connections that fall idle max_idle are kept and the others closed."""
    gate = Gate()
    server = await upstream(gate.script)
    running = await serve(server, pool={"max_idle": 2})
    answers = [(await ask(running, f"/{number}"))[1] for number in range(5)]
    await gate.came(*(b"/%d" % number for number in range(5)))
    for number in range(5):
        gate.answer(b"/%d" % number)
    await asyncio.gather(*answers)
    await until(lambda: server.open == 2)
    assert (running.pool.open, running.pool.idle) == (2, 2)


async def test_idle_timeout(serve: Serve, upstream: UpstreamMaker) -> None:
    """A connection that nothing used for idle_timeout is closed, without a request to notice it."""
    server = await upstream(answering(ok()))
    running = await serve(server, pool={"idle_timeout": 0.1})
    client = await running.connect()
    await client.exchange()
    assert server.open == 1
    await until(lambda: server.open == 0, 2)
    assert (running.pool.open, running.pool.idle) == (0, 0)
    assert (await client.exchange()).status == 200
    assert server.made == 2


async def test_max_lifetime(serve: Serve, upstream: UpstreamMaker) -> None:
    """A connection older than max_lifetime is not used again, whether it aged busy or idle."""
    gate = Gate()
    server = await upstream(gate.script)
    running = await serve(server, pool={"max_lifetime": 0.1})
    client, busy = await ask(running, "/busy")
    await gate.came(b"/busy")
    await asyncio.sleep(0.12)  # the age itself is what is tested
    gate.answer(b"/busy")
    await busy
    await until(lambda: server.open == 0)
    gate.answer(b"/idle")
    await client.exchange("GET", "/idle")
    await asyncio.sleep(0.12)
    assert (await client.exchange("GET", "/idle")).body == b"2"


async def test_no_head_of_line_blocking(serve: Serve, upstream: UpstreamMaker) -> None:
    """While one exchange waits for its answer, a hundred others pass it by."""
    gate = Gate()
    running = await serve(await upstream(gate.script))
    _, slow = await ask(running, "/slow")
    await gate.came(b"/slow")
    gate.answer(b"/fast")
    fast = await running.connect()
    for _ in range(100):
        assert (await fast.exchange("GET", "/fast")).status == 200
    assert not slow.done()
    gate.answer(b"/slow")
    assert (await slow).status == 200


async def test_no_delay(serve: Serve, upstream: UpstreamMaker) -> None:
    """Nagle's algorithm is off towards the upstream, and towards the client."""
    running = await serve(await upstream(answering(ok())))
    await (await running.connect()).exchange()
    (connection,) = running.pool._idle
    (client,) = running.server.edge.connections
    for transport in (connection._transport, client._transport):
        assert transport is not None
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_unasked_bytes(serve: Serve, upstream: UpstreamMaker) -> None:
    """What an upstream says on an idle connection ends that connection and reaches nobody."""
    speak = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(ok())
        await speak.wait()
        if peer.number == 0:
            peer.send(ok(b"poison"))
        await peer.request()
        peer.send(ok(b"fresh"))
        await peer.ended()

    server = await upstream(script)
    running = await serve(server)
    client = await running.connect()
    await client.exchange()
    speak.set()
    await until(lambda: running.pool.open == 0)

    async def fresh(peer: Peer) -> None:
        await peer.request()
        peer.send(ok(b"fresh"))
        await peer.ended()

    server.script = fresh
    assert (await client.exchange()).body == b"fresh"
