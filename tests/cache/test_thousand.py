"""A thousand clients ask for one streamed answer at once."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from tests.cache.conftest import MakeRig
from tests.cache.rig import Rig, written
from tests.road.scripted import Peer
from tests.road.wire import LAST_CHUNK, SSE_HEAD, Message, chunk, soon, until

CLIENTS = 1000
EVENTS = [b'data: {"choices":[{"delta":{"content":"%03d"}}]}\n\n' % n for n in range(50)]
ALL = b"".join(map(chunk, [*EVENTS, b"data: [DONE]\n\n"])) + LAST_CHUNK
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (
    len(body := written({"temperature": 0, "stream": True, "messages": []})),
    body,
)


class Asker(asyncio.Protocol):
    """A client that keeps what it gets."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    @property
    def body(self) -> bytes:
        return bytes(self.data.partition(b"\r\n\r\n")[2])


class Streamed:
    """The one call: its head and first event when told, the rest when told."""

    def __init__(self) -> None:
        self.begin, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, peer: Peer, _: Message) -> None:
        await self.begin.wait()
        peer.send(SSE_HEAD + chunk(EVENTS[0]))
        await self.go_on.wait()
        for event in [*EVENTS[1:], b"data: [DONE]\n\n"]:
            peer.send(chunk(event))
            await peer.flush()
            await asyncio.sleep(0)
        peer.send(LAST_CHUNK)


async def all_ask(rig: Rig, askers: list[Asker]) -> None:
    loop = asyncio.get_running_loop()
    host, port = rig.running.address
    for asker in askers:
        await soon(loop.create_connection(lambda asker=asker: asker, host, port))
    for asker in askers:
        asker.transport.write(REQUEST)
    await until(lambda: rig.cache.flights)
    (flight,) = rig.cache.flights.values()
    await until(lambda: len(flight._waiting) == len(askers), 30)


@pytest.fixture
def askers() -> Any:
    made = [Asker() for _ in range(CLIENTS)]
    yield made
    for asker in made:
        if asker.transport is not None:
            asker.transport.abort()


async def test_one_call_serves_them_all(rig: MakeRig, askers: list[Asker]) -> None:
    """One upstream call; each gets every event, in order, the followers as the leader does."""
    streamed = Streamed()
    one = await rig(streamed)
    await all_ask(one, askers)
    streamed.begin.set()
    await until(lambda: all(asker.data for asker in askers), 30)
    streamed.go_on.set()
    await until(lambda: all(len(asker.body) >= len(ALL) for asker in askers), 30)
    assert {asker.body for asker in askers} == {ALL}
    assert one.origin.count == 1
    assert not one.cache.flights


async def test_the_first_one_is_killed(rig: MakeRig, askers: list[Asker]) -> None:
    """The leader's connection is reset in the middle; nobody else loses a byte."""
    streamed = Streamed()
    one = await rig(streamed)
    await all_ask(one, askers)
    streamed.begin.set()
    await until(lambda: all(asker.data for asker in askers), 30)
    askers[0].transport.abort()
    await until(lambda: len(one.running.server.edge.connections) == CLIENTS - 1)
    streamed.go_on.set()
    rest = askers[1:]
    await until(lambda: all(len(asker.body) >= len(ALL) for asker in rest), 30)
    assert {asker.body for asker in rest} == {ALL}
    assert one.origin.count == 1


async def test_half_of_them_leave(rig: MakeRig, askers: list[Asker]) -> None:
    """A quarter leaves before the head, a quarter in the middle; the others get everything."""
    streamed = Streamed()
    one = await rig(streamed)
    await all_ask(one, askers)
    (flight,) = one.cache.flights.values()
    for asker in askers[: CLIENTS // 4]:
        asker.transport.abort()
    await until(lambda: len(flight._waiting) == CLIENTS - CLIENTS // 4, 30)
    streamed.begin.set()
    staying = askers[CLIENTS // 4 :]
    await until(lambda: all(asker.data for asker in staying), 30)
    for asker in staying[: CLIENTS // 4]:
        asker.transport.abort()
    await until(lambda: flight.recording.readers == CLIENTS // 2, 30)
    streamed.go_on.set()
    rest = staying[CLIENTS // 4 :]
    await until(lambda: all(len(asker.body) >= len(ALL) for asker in rest), 30)
    assert len(rest) == CLIENTS // 2
    assert {asker.body for asker in rest} == {ALL}
    assert one.origin.count == 1


async def test_how_soon_the_first_byte_comes(
    rig: MakeRig, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first bytes come in the order in which the clients asked. How much later than the
    leader's is printed: with the clients in a process of their own, as real ones are.
    """
    streamed = Streamed()
    one = await rig(streamed)
    port = str(one.running.address[1])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cache.askers", port, REQUEST.hex(), str(CLIENTS), stdout=-1
    )
    try:
        assert process.stdout is not None
        assert await soon(process.stdout.readline(), 30) == b"asked\n"
        (flight,) = one.cache.flights.values()
        await until(lambda: len(flight._waiting) == CLIENTS, 30)
        streamed.begin.set()
        late = json.loads(await soon(process.stdout.read(), 30))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    assert len(late) == CLIENTS and min(late) == late[0] == 0.0
    late.sort()
    with capsys.disabled():
        print(
            f"\n  first byte after the leader's, {CLIENTS - 1} followers, ms: "
            f"p50 {late[CLIENTS // 2]:.1f}, p99 {late[CLIENTS * 99 // 100]:.1f}, "
            f"last {late[-1]:.1f}; within 5 ms {sum(one <= 5 for one in late[1:])}"
        )
    await until(lambda: not one.cache.flights)
