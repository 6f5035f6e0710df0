"""What one layer counts of what another one makes: batches, hits, attempts, shares."""

from __future__ import annotations

import asyncio
import json

import pytest

from middleware.aggregate import Aggregate
from middleware.circuit_breaker import CircuitBreaker
from middleware.concurrency import Concurrency
from middleware.core.circuit import Circuit
from middleware.rate_limit import RateLimit
from tests.chain.asking import EMBEDDINGS, JSON, about, ask, auth, bearer, embed, is_about
from tests.chain.conftest import Held, MakeModel, Serve
from tests.chain.layers import NOTED, Noted
from tests.chain.model import listed, tokens, vector
from tests.chain.rig import Running, entry
from tests.contract.road import Asked
from tests.road.wire import Client, until

ONE_AT_A_TIME = {"max_inflight": 1, "max_queue_delay": "30s"}
"""Of `aggregate`: what comes while a call is under way is the next call."""


def circuit_of(remora: Running) -> Circuit:
    ((_, _, circuit),) = remora.layer(CircuitBreaker).circuits
    return circuit


def queued(remora: Running) -> int:
    return sum(lane.plan.queued for lane in remora.layer(Aggregate).lanes.values())


async def batched(remora: Running, held: Held, *texts: str) -> tuple[Client, list[Client], Asked]:
    """Whoever is served first, those who wait for a call together, and the first one's call."""
    first = await ask(remora, "first")
    call = await held.asked()
    others = []
    for text in texts:
        others.append(await ask(remora, text))
        await until(lambda: queued(remora) == len(others))
    return first, others, call


async def well(asked: Asked, **usage: int) -> None:
    """The answer that the request deserves."""
    texts = listed(json.loads(asked.body)["input"])
    used = usage or dict.fromkeys(("prompt_tokens", "total_tokens"), sum(map(tokens, texts)))
    data = [{"index": at, "embedding": vector(text)} for at, text in enumerate(texts)]
    await asked.answer(json.dumps({"data": data, "usage": used}).encode(), JSON.encode())


async def test_a_batch_is_one_call(serve: Serve, held: Held) -> None:
    """For `concurrency`, `retry`, `circuit_breaker` and the server, whoever it is for."""
    chain = [entry("aggregate", **ONE_AT_A_TIME), entry("concurrency"), entry("retry"),
             entry("circuit_breaker"), NOTED]  # fmt: skip
    remora = await serve([held], chain)
    first, others, call = await batched(remora, held, "a", "b", "c", "d")
    await well(call)
    batch = await held.asked()
    (permits,) = remora.layer(Concurrency).permits.values()
    assert permits.in_flight == 1
    await well(batch)
    assert is_about(await first.answer(), "first")
    for client, text in zip(others, "abcd", strict=True):
        assert is_about(await client.answer(), text)
    await remora.quiet()
    assert held.count == len(remora.layer(Noted).seen) == 2
    assert remora.number("retry_attempts_total", route="/*") == 2
    assert circuit_of(remora).window.calls == 2


async def test_a_batch_is_sent_again(serve: Serve, held: Held) -> None:
    """A batch that is refused for now is retried as one, and no client notices."""
    chain = [entry("aggregate", **ONE_AT_A_TIME), entry("concurrency", limit=1), entry("retry"),
             entry("circuit_breaker")]  # fmt: skip
    remora = await serve([held], chain)
    first, others, call = await batched(remora, held, "a", "b", "c")
    await well(call)
    await (await held.asked()).answer(b"{}", status=b"502 Bad")
    await well(await held.asked())
    for client, text in zip(others, "abc", strict=True):
        assert is_about(await client.answer(), text)
    assert is_about(await first.answer(), "first")
    await remora.quiet()
    assert held.count == 3
    assert remora.number("retries_total", route="/*", reason="502") == 1
    assert (circuit_of(remora).window.calls, circuit_of(remora).window.failures) == (3, 1)


@pytest.mark.parametrize(("status", "failures"), [(422, 0), (500, 1)])
async def test_one_bad_item_of_many(serve: Serve, held: Held, status: int, failures: int) -> None:
    """A server that fails a call for one item answers the others, and its circuit stays closed:
    a 4xx is a success, and a 500 is one failure, however often it comes as the call is divided and
    as the item comes again.
    """
    chain = [entry("aggregate", **ONE_AT_A_TIME), entry("retry"),
             entry("circuit_breaker", consecutive=2)]  # fmt: skip
    remora = await serve([held], chain, upstream={"eject": {"consecutive": 2}})
    texts = ["a", "b", "bad", "c", "d", "e", "f", "g"]
    first, others, call = await batched(remora, held, *texts)
    await well(call)

    async def strict() -> None:
        while True:
            asked = await held.asked()
            if b'"bad"' in asked.body:
                await asked.answer(b'{"error":{}}', status=b"%d Bad" % status)
            else:
                await well(asked)

    async def answered() -> None:
        for client, text in zip(others, texts, strict=True):
            answer = await client.answer()
            assert answer.status == status if text == "bad" else is_about(answer, text)
        assert is_about(await first.answer(), "first")

    for again in range(3):
        if again:  # known now: alone from the beginning
            texts = ["bad", "h", "i", "j"]
            first, others, call = await batched(remora, held, *texts)
            await well(call)
        serving = asyncio.ensure_future(strict())
        await answered()
        serving.cancel()
        await asyncio.wait([serving])
    window = circuit_of(remora).window
    assert window.failures == failures


@pytest.mark.parametrize("status", [401, 403, 404, 405, 408, 429, 501, 502, 503, 504, 505])
async def test_a_refusal_that_is_not_about_items(serve: Serve, held: Held, status: int) -> None:
    """A batch that gets one is not divided: all of it have the answer, and the server one call."""
    remora = await serve([held], [entry("aggregate", **ONE_AT_A_TIME)])
    first, others, call = await batched(remora, held, "a", "b", "c", "d")
    await well(call)
    await (await held.asked()).answer(b'{"error":{}}', status=b"%d No" % status)
    for client in others:
        assert (await client.answer()).status == status
    assert is_about(await first.answer(), "first")
    await remora.quiet()
    assert held.count == 2


async def test_a_hit_needs_neither_permit_nor_batch(serve: Serve, held: Held) -> None:
    """What is known is answered while the only permit is taken and a batch waits."""
    chain = [entry("cache"), entry("aggregate", **ONE_AT_A_TIME), entry("concurrency", limit=1)]
    remora = await serve([held], chain)
    client = await ask(remora, "known")
    await well(await held.asked())
    assert is_about(await client.answer(), "known")
    busy = await ask(remora, "busy")
    call = await held.asked()
    waiting = await ask(remora, "waits")
    await until(lambda: queued(remora) == 1)
    assert is_about(await embed(remora, "known"), "known")
    assert is_about(await embed(remora, "known", "known"), "known", "known")
    assert queued(remora) == 1
    await well(call)
    await well(await held.asked())
    assert is_about(await busy.answer(), "busy")
    assert is_about(await waiting.answer(), "waits")


async def test_a_limit_under_the_cache_counts_misses(serve: Serve, model: MakeModel) -> None:
    """Hits cost nothing there; outside, they count as well."""
    server = await model()
    inside = entry("rate_limit", name="inside", limits=["2/day"], headers=False)
    outside = entry("rate_limit", name="outside", limits=["5/day"], headers=False)
    remora = await serve([server], [outside, entry("cache"), inside])
    for text in ("a", "a", "b", "a"):
        assert is_about(await embed(remora, text), text)
    answer = await embed(remora, "c")
    assert (answer.status, answer["x-remora-error"]) == (429, "rate_limited")
    assert b"2/1 day" in answer.body or b"2/day" in answer.body
    answer = await embed(remora, "a")
    assert answer.status == 429 and b"5/" in answer.body


async def test_tokens_of_a_batch_and_of_a_hit(serve: Serve, held: Held) -> None:
    """Each client is charged its own share of a batch's usage, and a hit what it once took."""
    chain = [
        auth(anna={}, bert={}, cleo={}),
        entry("rate_limit", cost="tokens", limits=["1000000/day"], strategy="fixed_window"),
        entry("cache", share="public"),
        entry("aggregate", **ONE_AT_A_TIME, across=["tenants"], max_waste=1.0),
    ]
    remora = await serve([held], chain)
    first = await ask(remora, "first", fields=(bearer("cleo"),))
    call = await held.asked()
    anna = await ask(remora, "x" * 40, fields=(bearer("anna"),))
    await until(lambda: queued(remora) == 1)
    bert = await ask(remora, "y" * 400, fields=(bearer("bert"),))
    await until(lambda: queued(remora) == 2)
    await well(call)
    batch = await held.asked()
    await well(batch, prompt_tokens=220, total_tokens=220)
    shares = []
    for client in (anna, bert):
        answer = await client.answer()
        shares.append(json.loads(answer.body)["usage"]["total_tokens"])
    assert sum(shares) == 220 and shares == [20, 200]
    await first.answer()
    await remora.quiet()
    assert used(remora) == {"anna": 20, "bert": 200, "cleo": tokens("first")}
    for text in ("y" * 400, "first"):
        assert (await embed(remora, text, fields=(bearer("anna"),))).status == 200
    await remora.quiet()
    assert held.count == 2
    assert used(remora)["anna"] == 20 + 200 + tokens("first")


def used(remora: Running) -> dict[str, int]:
    """Tokens that are counted against each key."""
    accounts = remora.layer(RateLimit).memory._accounts
    return {name[8:].lstrip(b"=").decode(): states[0][1]
            for name, (_, states) in accounts.items()}  # fmt: skip


async def test_a_hit_on_several_items_costs_their_sum(serve: Serve, model: MakeModel) -> None:
    """A call of which some items are known is charged what a full call would have been."""
    server = await model()
    limit = entry("rate_limit", cost="tokens", limits=["1000000/day"], strategy="fixed_window")
    remora = await serve([server], [auth(anna={}), limit, entry("cache"), entry("aggregate")])
    texts = ("one", "two and more", "three and even more")
    assert is_about(await embed(remora, texts[1], fields=(bearer("anna"),)), texts[1])
    assert is_about(await embed(remora, *texts, fields=(bearer("anna"),)), *texts)
    assert is_about(await embed(remora, *texts, fields=(bearer("anna"),)), *texts)
    await remora.quiet()
    each = sum(map(tokens, texts))
    assert used(remora) == {"anna": tokens(texts[1]) + 2 * each}


async def test_another_attempt_costs_no_more(serve: Serve, model: MakeModel) -> None:
    """A request that is sent twice is one for the limit, in requests and in tokens."""
    server = await model()
    faults = iter(("502", "502", ""))
    server.choose = lambda message: "reset before" if next(faults) else ""
    chain = [
        auth(anna={}), entry("rate_limit", name="requests", limits=["1/day"]),
        entry("rate_limit", name="tokens", cost="tokens", limits=["1000/day"],
              strategy="fixed_window"),
        entry("retry"),
    ]  # fmt: skip
    remora = await serve([server], chain, upstream={"eject": "off"})
    answer = await embed(remora, "a", fields=(bearer("anna"),))
    assert is_about(answer, "a") and answer["x-remora-attempts"] == "3"
    await remora.quiet()
    (counted,) = [layer for layer in remora.layers(RateLimit) if layer.config.cost == "tokens"]
    assert [states[0][1] for _, states in counted.memory._accounts.values()] == [tokens("a")]
    assert (await embed(remora, "b", fields=(bearer("anna"),))).status == 429


@pytest.mark.parametrize("share", ["tenant", "public"])
async def test_a_limit_is_its_own_clients(serve: Serve, model: MakeModel, share: str) -> None:
    """Whoever shares a call with a client over its limit is not told of that one's limit."""
    server = await model()
    chain = [auth(anna={"limits": ["1/day"]}, bert={}), entry("cache", share=share),
             entry("rate_limit", headers=False)]  # fmt: skip
    remora = await serve([server], chain)
    assert is_about(await embed(remora, "spent", fields=(bearer("anna"),)), "spent")
    anna, bert = await remora.connect(), await remora.connect()
    for text in map(str, range(20)):
        for client, name in ((anna, "anna"), (bert, "bert")):
            client.ask("POST", EMBEDDINGS, JSON, bearer(name), body=about(text))
        answers = [await client.answer() for client in (anna, bert)]
        assert answers[0].status == 429 or is_about(answers[0], text)
        assert is_about(answers[1], text)


async def test_each_attempt_passes_the_breaker(serve: Serve, model: MakeModel) -> None:
    """The circuit of a sick endpoint opens by the attempts of a batch, and the other one serves."""
    sick, healthy = await model(lambda message: "reset before"), await model()
    chain = [entry("aggregate"), entry("concurrency"), entry("retry"),
             entry("circuit_breaker", consecutive=3, open_for="1h", max_open_for="1h")]  # fmt: skip
    remora = await serve([sick, healthy], chain, upstream={"eject": "off"})
    for text in map(str, range(12)):
        assert is_about(await embed(remora, text), text)
    assert len(sick.asked) == 3 and len(healthy.asked) == 12


async def test_an_answer_that_a_layer_cannot_use(serve: Serve, held: Held) -> None:
    """An answer that came whole is no failure of the server's circuit, whatever an outer layer
    makes of it, and in how many pieces it came.
    """
    remora = await serve([held], [entry("transcode"), entry("circuit_breaker", consecutive=2)])
    for _ in range(3):
        client = await ask(remora, "a", fields=("Accept: application/msgpack",))
        asked = await held.asked()
        body = b'{"a":1,"a":2}'
        lines = [b"HTTP/1.1 200 OK", b"Content-Type: application/json", b"Content-Length: 13"]
        await asked.send(b"\r\n".join([*lines, b"", body[:5]]))
        await until(lambda: circuit_of(remora).window.calls)
        await asked.send(body[5:])
        answer = await client.answer()
        assert (answer.status, answer["x-remora-error"]) == (502, "answer_not_convertible")
    assert circuit_of(remora).window.failures == 0


async def test_who_asks_reaches_the_batch(serve: Serve, held: Held) -> None:
    """Tenants are not merged, and the queue behind goes by their priorities."""
    chain = [auth(anna={"priority": 9}, bert={}), entry("aggregate", max_inflight=8),
             entry("concurrency", limit=1), NOTED]  # fmt: skip
    remora = await serve([held], chain)
    first = await ask(remora, "first", fields=(bearer("bert"),))
    call = await held.asked()
    (permits,) = remora.layer(Concurrency).permits.values()
    clients = {}
    for name, text in (("bert", "b1"), ("bert", "b2"), ("anna", "a1"), ("anna", "a2")):
        clients[text] = await ask(remora, text, fields=(bearer(name),))
    lane = remora.layer(Aggregate).lanes["default"]
    await until(lambda: not lane.plan.queued and lane.plan._under_way.items == 5)
    await until(lambda: permits.waiting == lane.plan.running - 1)
    await well(call)
    order: list[str] = []
    while len(order) < 4:
        asked = await held.asked()
        order += sorted(listed(json.loads(asked.body)["input"]))
        await well(asked)
    assert order == ["a1", "a2", "b1", "b2"]
    for text, client in clients.items():
        assert is_about(await client.answer(), text)
    assert is_about(await first.answer(), "first")
    for request in remora.layer(Noted).seen:
        assert request.identity is not None and request.tenant == request.identity.name
        assert isinstance(request.body, bytes)
        assert (b'"a' in request.body) != (request.tenant == "bert")
