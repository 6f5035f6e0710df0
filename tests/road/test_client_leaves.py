"""A client that leaves ends its exchange at once, wherever it is, and only its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.conftest import Running, Serve, UpstreamMaker
from tests.road.layers import Witness
from tests.road.scripted import Peer
from tests.road.wire import CHUNKED_HEAD, Client, chunk, head, ok, soon, until

WITNESS = ["tests.road.layers:Witness"]

How = Callable[[Client], None]
MANNERS: dict[str, How] = {"closes": Client.close, "resets": Client.abort}
AT_ONCE = 0.5
"""Seconds in which the upstream must see its connection end."""


class Stage:
    """An upstream that goes as far as told, then waits to be left."""

    def __init__(self, *sends: bytes, reads: int | None = None) -> None:
        self.sends = sends
        self.reads = reads
        self.there = asyncio.Event()
        self.left = asyncio.Event()

    async def script(self, peer: Peer) -> None:
        if self.reads is None:
            await peer.request()
        else:
            await peer.head()
            await peer.exactly(self.reads)
        for piece in self.sends:
            peer.send(piece)
        self.there.set()
        await peer.ended()
        self.left.set()


async def leaves(running: Running, client: Client, how: How, stage: Stage) -> Witness:
    """The client goes; the upstream's connection ends, the exchange has one cancelled Outcome."""
    await soon(stage.there.wait())
    witness: Witness = running.layer(Witness)
    assert not witness.outcomes
    how(client)
    await soon(stage.left.wait(), AT_ONCE)
    await soon(witness.ended.wait(), AT_ONCE)
    assert [outcome.cancelled for outcome in witness.outcomes] == [True]
    await until(lambda: running.pool.open == 0)
    await until(lambda: running.server.edge.in_flight == 0)
    assert len(witness.outcomes) == 1
    return witness


@pytest.mark.parametrize("how", MANNERS.values(), ids=MANNERS)
async def test_before_the_first_byte(serve: Serve, upstream: UpstreamMaker, how: How) -> None:
    """The upstream is still computing: its connection ends, and nothing is sent in its stead."""
    stage = Stage()
    server = await upstream(stage.script)
    running = await serve(server, chain=WITNESS)
    client = await running.connect()
    client.ask("POST", "/v1/completions", body=b"{}")
    witness = await leaves(running, client, how, stage)
    (outcome,) = witness.outcomes
    assert (outcome.status, outcome.first_byte, outcome.last_byte) == (0, None, None)
    assert server.made == 1


@pytest.mark.parametrize("how", MANNERS.values(), ids=MANNERS)
async def test_mid_stream(serve: Serve, upstream: UpstreamMaker, how: How) -> None:
    """The upstream is streaming: it is stopped, not read to its end."""
    stage = Stage(CHUNKED_HEAD, chunk(b"one"))
    running = await serve(await upstream(stage.script), chain=WITNESS)
    client = await running.connect()
    client.ask()
    assert (await client.head()).status == 200
    assert await client.chunk() == b"one"
    witness = await leaves(running, client, how, stage)
    (outcome,) = witness.outcomes
    assert (outcome.status, outcome.bytes_sent, outcome.error) == (200, 3, None)


@pytest.mark.parametrize("how", MANNERS.values(), ids=MANNERS)
async def test_after_the_head(serve: Serve, upstream: UpstreamMaker, how: How) -> None:
    """The head is out and no event came yet."""
    stage = Stage(CHUNKED_HEAD)
    running = await serve(await upstream(stage.script), chain=WITNESS)
    client = await running.connect()
    client.ask()
    await client.head()
    await leaves(running, client, how, stage)


@pytest.mark.parametrize("how", MANNERS.values(), ids=MANNERS)
async def test_during_its_upload(serve: Serve, upstream: UpstreamMaker, how: How) -> None:
    """Half of a body was sent: the upstream must not take it for whole, and sees the end."""
    stage = Stage(reads=10)
    running = await serve(await upstream(stage.script), chain=WITNESS)
    client = await running.connect()
    client.send(head("POST / HTTP/1.1", "Host: h", "Content-Length: 100") + b"0123456789")
    await leaves(running, client, how, stage)


async def test_during_an_upload_with_an_answer(serve: Serve, upstream: UpstreamMaker) -> None:
    """Both directions are under way: both end."""
    stage = Stage(CHUNKED_HEAD, chunk(b"one"), reads=10)
    running = await serve(await upstream(stage.script), chain=WITNESS)
    client = await running.connect()
    client.send(head("POST / HTTP/1.1", "Host: h", "Content-Length: 100") + b"0123456789")
    await client.head()
    await leaves(running, client, Client.abort, stage)


async def test_while_a_layer_reads(serve: Serve, upstream: UpstreamMaker) -> None:
    """A layer is reading the body when its client goes: the upstream is never asked."""

    async def never(peer: Peer) -> None:
        raise AssertionError("the upstream was asked")

    running = await serve(await upstream(never), chain=[*WITNESS, "tests.road.layers:Reader"])
    client = await running.connect()
    client.send(head("POST / HTTP/1.1", "Host: h", "Content-Length: 100") + b"0123456789")
    witness: Witness = running.layer(Witness)
    await until(lambda: witness.requests)
    client.abort()
    await soon(witness.ended.wait(), AT_ONCE)
    assert [outcome.cancelled for outcome in witness.outcomes] == [True]


async def test_while_it_waits_for_a_connection(serve: Serve, upstream: UpstreamMaker) -> None:
    """A request that waits for its turn is forgotten; the one under way goes on."""
    hold = asyncio.Event()

    async def script(peer: Peer) -> None:
        message = await peer.request()
        assert message.target == b"/first"
        await hold.wait()
        peer.send(ok())
        assert await peer.ended() == b""

    running = await serve(await upstream(script), pool={"max_connections": 1}, chain=WITNESS)
    first, second = await running.connect(), await running.connect()
    first.ask("GET", "/first")
    await until(lambda: running.pool.open == 1)
    second.ask("GET", "/second")
    await until(lambda: running.pool.waiting == 1)
    second.abort()
    witness: Witness = running.layer(Witness)
    await soon(witness.ended.wait(), AT_ONCE)
    assert running.pool.waiting == 0
    hold.set()
    assert (await first.answer()).status == 200
    assert [outcome.cancelled for outcome in witness.outcomes] == [True, False]


async def test_a_stalled_client_that_leaves(serve: Serve, upstream: UpstreamMaker) -> None:
    """A client that read nothing for a while, so that the upstream is held, leaves: it ends."""
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(CHUNKED_HEAD)
        block = chunk(b"x" * 100_000)
        try:
            for _ in range(1000):
                peer.send(block)
                await peer.flush()
        finally:
            ended.set()

    running = await serve(await upstream(script), chain=WITNESS)
    client = await running.connect()
    client.ask()
    await client.head()
    client.hold()
    connection = next(iter(running.server.edge.connections))
    await until(lambda: connection.sending is not None and connection.sending.blocked)
    client.abort()
    await soon(ended.wait(), AT_ONCE)
    witness: Witness = running.layer(Witness)
    await soon(witness.ended.wait(), AT_ONCE)
    assert [outcome.cancelled for outcome in witness.outcomes] == [True]


async def test_between_requests(serve: Serve, upstream: UpstreamMaker) -> None:
    """A client that leaves after its answer has cancelled nothing, and the upstream is kept."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(ok())

    server = await upstream(script)
    running = await serve(server, chain=WITNESS)
    for leave in MANNERS.values():
        client = await running.connect()
        assert (await client.exchange()).status == 200
        leave(client)
        await until(lambda: not running.server.edge.connections)
    assert [outcome.cancelled for outcome in running.layer(Witness).outcomes] == [False, False]
    assert server.made == 1


async def test_behind_pipelined_requests(serve: Serve, upstream: UpstreamMaker) -> None:
    """A client that leaves with requests still queued on its connection: none of them is sent."""
    stage = Stage()
    server = await upstream(stage.script)
    running = await serve(server, chain=WITNESS)
    client = await running.connect()
    for number in range(5):
        client.ask("GET", f"/{number}")
    await leaves(running, client, Client.abort, stage)
    assert server.made == 1


async def test_many_at_once(serve: Serve, upstream: UpstreamMaker) -> None:
    """Of a hundred streams every other client leaves: fifty end at once, fifty go on."""
    go_on = asyncio.Event()
    cut = 0

    async def script(peer: Peer) -> None:
        nonlocal cut
        await peer.request()
        peer.send(CHUNKED_HEAD + chunk(b"one"))
        waits: list[Awaitable[object]] = [peer.ended(30), go_on.wait()]
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0] in done:
            cut += 1
        else:
            peer.send(chunk(b"two") + b"0\r\n\r\n")
        for task in tasks:
            task.cancel()

    running = await serve(await upstream(script), chain=WITNESS)
    clients = [await running.connect() for _ in range(100)]
    for client in clients:
        client.ask()
    for client in clients:
        await client.head()
        assert await client.chunk() == b"one"
    for client in clients[::2]:
        client.abort()
    await until(lambda: cut == 50, 2)
    go_on.set()
    for client in clients[1::2]:
        assert await client.chunks() == b"two"
    outcomes = running.layer(Witness).outcomes
    await until(lambda: len(outcomes) == 100)
    assert sum(outcome.cancelled for outcome in outcomes) == 50
