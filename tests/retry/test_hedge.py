"""Hedging over real sockets: the loser's connection is closed wherever it is."""

from __future__ import annotations

import asyncio

import pytest

from tests.retry.conftest import MakeRig
from tests.retry.rig import ANSWER, CHAT, EMBEDDINGS, QUESTION, Endpoint, Rig, event, streams
from tests.road.scripted import Peer
from tests.road.wire import SSE_HEAD, Gone, Message, soon, until

SEEDED = b'{"model":"m","stream":true,"seed":1,"messages":[]}'
SOON = {"hedge": {"after": "20ms"}}


class Slow:
    """Sends `begin` of an answer and no more; knows when remora has closed its connection."""

    def __init__(self, begin: bytes = b"") -> None:
        self.begin = begin
        self.gone = asyncio.Event()
        self.came = 0

    async def __call__(self, peer: Peer, message: Message) -> None:
        self.came += 1
        peer.send(self.begin)
        try:
            await peer.exactly(1, 20)
        except Gone:
            self.gone.set()
            raise


class Turns(Endpoint):
    """Of two such endpoints, the one that is asked first is slow, and the other one answers."""

    asked = 0

    def __init__(self, slow: Slow, good: object) -> None:
        super().__init__()
        self.slow = slow
        self.good = good

    async def __call__(self, peer: Peer) -> None:
        while True:
            message = await peer.request()
            self.seen.append(message)
            Turns.asked += 1
            await (self.slow if Turns.asked == 1 else self.good)(peer, message)  # type: ignore[operator]


async def pair(rig: MakeRig, slow: Slow, good: object = ANSWER, **keys: object) -> Rig:
    Turns.asked = 0
    return await rig(Turns(slow, good), Turns(slow, good), **{**SOON, **keys})


@pytest.mark.parametrize(
    "begin",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 103 Early Hints\r\n\r\n", SSE_HEAD,
     SSE_HEAD + b"8\r\n: hello\n\r\n"],
    ids=["no byte", "half a head", "early hints", "head", "head and comment"],
)  # fmt: skip
async def test_the_loser_is_closed(rig: MakeRig, begin: bytes) -> None:
    """However far its answer had come, before the first event of it."""
    slow = Slow(begin)
    one = await pair(rig, slow, streams(event("a"), event("b")))
    answer = await one.ask(CHAT, SEEDED)
    assert (answer.status, answer.body) == (200, event("a") + event("b"))
    assert answer["x-remora-attempts"] == "2"
    await soon(slow.gone.wait())
    assert one.counts == [1, 1], "another endpoint"
    assert one.numbers("remora_hedges_total") == {("/*", "sent"): 1, ("/*", "won"): 1}


async def test_the_loser_waits_for_a_connection(rig: MakeRig) -> None:
    """A first try that has none yet gives up its place: the next one in the queue moves up."""
    slow = Slow()
    one = await pair(
        rig, slow, upstream_keys={"pool": {"max_connections": 1}, "balance": "round_robin"}
    )
    first = await one.running.connect()
    first.ask("GET", "/hold")
    await until(lambda: slow.came == 1)
    held = next(e for e in one.endpoints if e.count)
    while held.count == 1 and one.numbers("remora_hedges_total") == {}:
        assert (await one.ask()).status == 200
    assert one.numbers("remora_hedges_total") == {("/*", "sent"): 1, ("/*", "won"): 1}
    assert held.count == 1
    assert not any(one.numbers("remora_upstream_waiting").values())
    first.abort()
    await soon(slow.gone.wait())


async def test_a_client_that_leaves_closes_both(rig: MakeRig) -> None:
    """Neither endpoint goes on working for nobody."""
    slow, slower = Slow(), Slow()
    one = await pair(rig, slow, slower)
    client = await one.running.connect()
    client.ask("POST", EMBEDDINGS, body=QUESTION)
    await until(lambda: slow.came and slower.came)
    client.abort()
    await soon(slow.gone.wait())
    await soon(slower.gone.wait())
    await until(lambda: one.numbers("remora_requests_cancelled_total"))
    assert one.running.server._assembly is not None
    await until(lambda: not one.running.server._assembly.env.spawned)  # type: ignore[union-attr]


async def test_the_hedge_loses(rig: MakeRig) -> None:
    """The first try's answer is taken, whole, and the hedge's connection closed."""
    slow = Slow()
    release = asyncio.Event()

    async def late(peer: Peer, message: Message) -> None:
        await release.wait()
        await ANSWER(peer, message)

    Turns.asked = 0
    one = await rig(*[Turns(late, slow) for _ in range(2)], **SOON)  # type: ignore[arg-type]
    client = await one.running.connect()
    client.ask("POST", EMBEDDINGS, body=QUESTION)
    await until(lambda: slow.came)
    release.set()
    answer = await client.answer()
    assert (answer.body, answer["x-remora-attempts"]) == (b'{"data":[]}', "2")
    await soon(slow.gone.wait())
    assert one.numbers("remora_hedges_total") == {("/*", "sent"): 1}


async def test_after_a_quantile(rig: MakeRig) -> None:
    """Once enough calls were seen, one that takes longer than nearly all of them is hedged."""
    slow = Slow()
    Turns.asked = 1  # nobody is slow yet
    one = await rig(
        Turns(slow, ANSWER), Turns(slow, ANSWER), hedge={"after": "p99", "min_calls": 20}
    )
    for _ in range(20):
        await one.ask()
    assert not one.numbers("remora_hedges_total").get(("/*", "won"))
    Turns.asked = 0
    answer = await one.ask()
    assert (answer.status, answer["x-remora-attempts"]) == (200, "2")
    await soon(slow.gone.wait())
