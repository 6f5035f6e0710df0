"""Requests of a layer's own beside each other: hedges of batches, prefetches under limits."""

from __future__ import annotations

import json

from middleware.aggregate import Aggregate
from middleware.circuit_breaker import CircuitBreaker
from middleware.concurrency import Concurrency
from tests.cache.rig import Clock
from tests.chain.asking import ask, auth, bearer, embed, is_about, texts_of
from tests.chain.conftest import Held, MakeModel, Serve
from tests.chain.layers import NOTED, Noted
from tests.chain.rig import entry
from tests.chain.test_counts import ONE_AT_A_TIME, queued, well
from tests.contract.road import Asked, ModelServer
from tests.road.wire import Message, soon, until

HEDGED = entry("retry", hedge={"after": "30ms"})


async def batch(server: ModelServer, *texts: str) -> Asked:
    """The call about these; on a slow machine another one is hedged before."""
    while True:
        asked = await server.asked()
        if json.loads(asked.body)["input"] == list(texts):
            return asked


async def test_a_batch_is_hedged_as_one(serve: Serve, held: Held) -> None:
    """The second try goes to the other endpoint with the same items; the loser's connection is
    closed, every client answered once, and one permit held.
    """
    async with ModelServer().listening() as other:
        chain = [entry("aggregate", **ONE_AT_A_TIME), entry("concurrency"), HEDGED, NOTED]
        remora = await serve([held, other], chain)
        servers = [held, other]
        first = await ask(remora, "first")
        await until(lambda: held.count or other.count)
        call = await (held if held.count else other).asked()
        clients = [await ask(remora, text) for text in "abc"]
        await until(lambda: queued(remora) == 3)
        await well(call)
        assert is_about(await first.answer(), "first")
        winner, loser = [await batch(one, "a", "b", "c") for one in servers]
        assert winner.body == loser.body
        (permits,) = remora.layer(Concurrency).permits.values()
        assert permits.in_flight == 1
        await well(winner)
        for client, text in zip(clients, "abc", strict=True):
            assert is_about(await client.answer(), text)
        await loser.closed()
        await remora.quiet()
        assert sorted(outcome.cancelled for outcome in remora.layer(Noted).outcomes)[-1]
        assert remora.number("hedges_total", route="/*", outcome="sent") >= 1
        assert remora.number("aggregate_calls_total", route="/*", items="4") == 1


async def test_a_hedged_batch_that_all_have_left(serve: Serve, held: Held) -> None:
    """Both tries end with the last client."""
    async with ModelServer().listening() as other:
        chain = [entry("cache"), entry("aggregate", **ONE_AT_A_TIME), entry("concurrency"), HEDGED,
                 entry("circuit_breaker")]  # fmt: skip
        remora = await serve([held, other], chain)
        client = await ask(remora, "a", "b")
        calls = [await held.asked(), await other.asked()]
        client.abort()
        for call in calls:
            await call.closed()
        await remora.quiet()
        circuits = remora.layer(CircuitBreaker).circuits
        assert not sum(circuit.window.calls for _, _, circuit in circuits)


async def test_a_prefetch_is_the_servers_affair(
    serve: Serve, model: MakeModel, clock: Clock
) -> None:
    """What is fetched ahead passes `concurrency` in its client's name and costs nothing under a
    limit that stands outside; it is a hit when it is asked for.
    """
    server = await model()
    remora = await serve([server], [
        auth(anna={}), entry("rate_limit", limits=["6/day"]),
        entry("prefetch", session="x-session"), entry("cache", ttl="5m"),
        entry("aggregate"), entry("concurrency"), NOTED,
    ])  # fmt: skip
    noted: Noted = remora.layer(Noted)

    async def walk(session: str, *texts: str) -> Message:
        for text in texts:
            fields = (bearer("anna"), f"x-session: {session}")
            answer = await embed(remora, text, fields=fields)
            assert is_about(answer, text)
            await remora.quiet()
        return answer

    await walk("one", "a", "b")
    await walk("two", "a", "b")
    clock.advance(1000)
    await walk("three", "a")
    assert [texts_of(message) for message in server.asked] == [["a"], ["b"], ["a"], ["b"]]
    assert [request.tenant for request in noted.seen] == ["anna"] * 4
    told = (await walk("three", "b"))["cache-status"]
    assert told is not None and "hit" in told
    assert len(server.asked) == 4
    assert (await embed(remora, "a", fields=(bearer("anna"),))).status == 429
    assert remora.number("prefetch_total", outcome="useful") == 1


async def test_what_waits_in_two_queues(serve: Serve, held: Held) -> None:
    """A client that leaves while its batch waits for a permit is in none of them any more."""
    chain = [entry("aggregate", **{**ONE_AT_A_TIME, "max_inflight": 4, "max_queue_delay": "0s"}),
             entry("concurrency", limit=1)]  # fmt: skip
    remora = await serve([held], chain)
    busy = await ask(remora, "busy")
    call = await held.asked()
    (permits,) = remora.layer(Concurrency).permits.values()
    waiting = await ask(remora, "waits")
    await until(lambda: permits.waiting == 1)
    waiting.abort()
    await until(lambda: permits.waiting == 0)
    (lane,) = remora.layer(Aggregate).lanes.values()
    assert lane.plan.running == 1
    await well(call)
    assert is_about(await soon(busy.answer()), "busy")
    assert held.count == 1


async def test_hedges_within_a_shared_call(serve: Serve, model: MakeModel) -> None:
    """Two clients of one question, a slow endpoint: both get the hedge's answer, once computed."""
    slow, quick = await model(lambda message: "hang"), await model()
    chain = [entry("cache"), HEDGED, NOTED]
    remora = await serve([slow, quick], chain, upstream={"balance": "round_robin"})
    clients = [await ask(remora, "a") for _ in range(2)]
    for client in clients:
        assert is_about(await client.answer(), "a")
    assert len(slow.asked) + len(quick.asked) <= 2
    assert is_about(await embed(remora, "a"), "a")
