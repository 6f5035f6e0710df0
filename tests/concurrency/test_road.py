"""The layer between real sockets: what the server gets, what clients get, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from middleware.concurrency import Concurrency
from middleware.concurrency.permits import Permits
from proxy.server import Server
from tests.contract.road import (
    LAST_CHUNK,
    SSE_HEAD,
    ModelServer,
    Wire,
    chunk,
    client,
    event,
    post,
    remora,
)
from tests.road.wire import until

NAME = "middleware.concurrency:Concurrency"


class Stage:
    """Remora with the layer before one model server; clients are closed with the test."""

    def __init__(self, stack: AsyncExitStack, model: ModelServer) -> None:
        self._stack = stack
        self.model = model
        self.server: Server

    async def serve(self, **keys: Any) -> None:
        self.server = await self._stack.enter_async_context(remora(self.model.url, [{NAME: keys}]))

    async def ask(self, body: bytes = b"{}", *fields: bytes) -> Wire:
        return await self.ask_raw(post("/v1/embeddings", body, *fields))

    async def ask_raw(self, data: bytes) -> Wire:
        wire = await self._stack.enter_async_context(client(self.server))
        await wire.send(data)
        return wire

    @property
    def permits(self) -> Permits:
        assert self.server._assembly is not None
        (layer,) = self.server._assembly._layers
        assert isinstance(layer, Concurrency)
        return layer.permits["default"]

    async def waiting(self, number: int) -> None:
        await until(lambda: self.permits.waiting == number)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with ModelServer().listening() as model, AsyncExitStack() as stack:
        yield Stage(stack, model)


async def test_the_server_never_has_more_than_the_limit(stage: Stage) -> None:
    """Ten ask, two are with the server; each answer lets the next one through, in turn."""
    await stage.serve(limit=2)
    users = [await stage.ask(b"%d" % number) for number in range(10)]
    await stage.waiting(8)
    for answered in range(10):
        asked = await stage.model.asked()
        assert stage.model.count <= answered + 2
        await asked.answer(asked.body)
        head, body = await users[answered].read_answer()
        assert (head[:12], body) == (b"HTTP/1.1 200", b"%d" % answered)
    assert stage.model.count == 10
    await until(lambda: not stage.permits.in_flight)


async def test_a_full_queue_refuses_in_the_dialect_of_the_api(stage: Stage) -> None:
    """503 with a code, and a time to come again; the connection stays usable."""
    await stage.serve(limit=1, queue=1)
    first = await stage.ask(b"1")
    await stage.model.asked()
    second = await stage.ask(b"2")
    await stage.waiting(1)
    third = await stage.ask(b"3")
    head, body = await third.read_answer()
    assert head.startswith(b"HTTP/1.1 503") and b"retry-after: 1\r\n" in head.lower()
    assert b'"code":"queue_full"' in body and b'"error"' in body
    second.abort()
    await stage.waiting(0)
    await third.send(post("/v1/embeddings", b"3 again"))
    await stage.waiting(1)
    first.abort()
    asked = await stage.model.asked()
    assert asked.body == b"3 again"
    await asked.answer(b"[]")
    assert (await third.read_answer())[1] == b"[]"


async def test_whoever_waits_too_long_is_told(stage: Stage) -> None:
    """504, and the server never hears of it."""
    await stage.serve(limit=1, queue_timeout="20ms")
    first = await stage.ask(b"1")
    asked = await stage.model.asked()
    second = await stage.ask(b"2")
    head, body = await second.read_answer()
    assert head.startswith(b"HTTP/1.1 504") and b'"code":"queue_timeout"' in body
    await asked.answer(b"[1]")
    assert (await first.read_answer())[1] == b"[1]"
    assert stage.model.count == 1


async def test_whoever_left_while_it_waited_is_never_sent(stage: Stage) -> None:
    """The server gets the first and the last; nothing of those in between."""
    await stage.serve(limit=1)
    first = await stage.ask(b"first")
    asked = await stage.model.asked()
    gone = [await stage.ask(b"gone %d" % number) for number in range(3)]
    await stage.waiting(3)
    last = await stage.ask(b"last")
    await stage.waiting(4)
    gone[0].abort()
    await gone[1].close()
    gone[2].abort()
    await stage.waiting(1)
    await asked.answer(b"[1]")
    await first.read_answer()
    asked = await stage.model.asked()
    assert asked.body == b"last"
    await asked.answer(b"[2]")
    await last.read_answer()
    assert (stage.model.count, stage.permits.left) == (2, 3)


@pytest.mark.parametrize("leaves", ["closes", "resets"])
async def test_whoever_left_behind_a_large_body_is_never_sent(leaves: str, stage: Stage) -> None:
    """More than remora reads before it is needed: the end behind it is not read, and is seen all
    the same when the turn comes. The permit is the next one's.
    """
    await stage.serve(limit=1)
    first = await stage.ask(b"first")
    asked = await stage.model.asked()
    edge = stage.server.edge
    users = []
    for number, text in enumerate((b"gone", b"last")):
        asking = post("/v1/embeddings", text * 25_000)
        wire = await stage.ask_raw(asking[:80_000])
        await until(lambda number=number: sum(one.held for one in edge.connections) == number + 1)
        await wire.send(asking[80_000:])
        users.append(wire)
    await stage.waiting(2)
    held = [one for one in edge.connections if one.held]
    assert not any(one._has_left() for one in held)
    if leaves == "closes":
        await users[0].close()
    else:
        users[0].abort()
    await until(lambda: any(one._has_left() for one in held))
    assert stage.permits.waiting == 2
    await asked.answer(b"[1]")
    await first.read_answer()
    assert (await stage.model.asked()).body == b"last" * 25_000
    assert (stage.model.count, stage.permits.left, stage.permits.in_flight) == (2, 1, 1)
    await until(lambda: len(edge.connections) == 2)


async def test_a_stream_holds_its_permit_until_its_last_byte(stage: Stage) -> None:
    """Not until its head, and not until its last event."""
    await stage.serve(limit=1)
    first = await stage.ask(b'{"stream":true}')
    asked = await stage.model.asked()
    await stage.ask(b"second")
    await stage.waiting(1)
    await asked.send(SSE_HEAD + chunk(event("1")))
    await first.until(event("1") + b"\r\n")
    assert (stage.permits.waiting, stage.model.count) == (1, 1)
    await asked.send(LAST_CHUNK)
    await first.until(LAST_CHUNK)
    assert (await stage.model.asked()).body == b"second"


async def test_a_client_that_leaves_its_stream_frees_the_permit(stage: Stage) -> None:
    """At once, not when the server has said all it had to say."""
    await stage.serve(limit=1)
    first = await stage.ask(b'{"stream":true}')
    asked = await stage.model.asked()
    await asked.send(SSE_HEAD + chunk(event("1")))
    await first.until(event("1"))
    await stage.ask(b"second")
    await stage.waiting(1)
    first.abort()
    assert (await stage.model.asked()).body == b"second"


@pytest.mark.parametrize("head", [b"", SSE_HEAD + chunk(event("1"))], ids=["head", "stream"])
async def test_a_server_that_dies_frees_the_permit(head: bytes, stage: Stage) -> None:
    """Before its answer and amid it."""
    await stage.serve(limit=1)
    await stage.ask(b'{"stream":true}')
    asked = await stage.model.asked()
    await stage.ask(b"second")
    await stage.waiting(1)
    await asked.send(head)
    asked.abort()
    assert (await stage.model.asked()).body == b"second"


async def test_an_upgraded_connection_holds_its_permit(stage: Stage) -> None:
    """For as long as it is open: it keeps the server busy."""
    await stage.serve(limit=1)
    first = await stage.ask(b"", b"Connection: upgrade", b"Upgrade: echo")
    asked = await stage.model.asked()
    await asked.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
    )
    await first.until(b"\r\n\r\n")
    await stage.ask(b"second")
    await stage.waiting(1)
    first.abort()
    assert (await stage.model.asked()).body == b"second"


async def test_an_adaptive_limit_passes_streams_unbuffered(stage: Stage) -> None:
    """The filter that looks for the first event holds nothing back, and changes nothing."""
    await stage.serve(limit="adaptive")
    user = await stage.ask(b'{"stream":true}')
    asked = await stage.model.asked()
    await asked.send(SSE_HEAD)
    assert b"text/event-stream" in await user.until(b"\r\n\r\n")
    for number in range(3):
        await asked.send(chunk(event(f"{number}")))
        assert await user.read_chunk() == event(f"{number}")
    await asked.send(LAST_CHUNK)
    assert await user.read_chunk() == b""
    await until(lambda: not stage.permits.in_flight)


async def test_a_priority_overtakes(stage: Stage) -> None:
    """Of those that wait the highest goes first."""
    await stage.serve(limit=1, priority={"header": "x-priority"})
    await stage.ask(b"first")
    asked = await stage.model.asked()
    for number, priority in enumerate((b"", b"x-priority: 1", b"x-priority: 7")):
        await stage.ask(priority, *([priority] if priority else []))
        await stage.waiting(number + 1)
    order = []
    for _ in range(3):
        await asked.answer(b"[]")
        asked = await stage.model.asked()
        order.append(asked.body)
    assert order == [b"x-priority: 7", b"x-priority: 1", b""]


async def test_stopping_leaves_nothing_behind(stage: Stage) -> None:
    """With one at the server and one waiting: both are let go."""
    await stage.serve(limit=1)
    await stage.ask(b"first")
    await stage.model.asked()
    await stage.ask(b"second")
    await stage.waiting(1)
    permits = stage.permits
    await asyncio.wait_for(stage.server.stop(), 5)
    assert (permits.in_flight, permits.waiting, stage.model.count) == (0, 0, 1)
