"""A stale answer in the place of whatever keeps a request from the server."""

from __future__ import annotations

import json

from tests.cache.rig import Clock
from tests.chain.asking import JSON, embed, is_about
from tests.chain.conftest import MakeModel, Serve
from tests.chain.model import Model
from tests.chain.rig import Running, entry
from tests.road.wire import Message, until

STALE = {"ttl": "1m", "stale_if_error": "1h"}


def is_stale(answer: Message) -> bool:
    return answer["cache-status"] is not None and "hit; fwd=stale" in answer["cache-status"]


async def primed(serve: Serve, model: Model, clock: Clock, *inside: object,
                 **keys: object) -> Running:  # fmt: skip
    """A remora that knows of `a` and `b`, and whose answers are stale by now."""
    remora = await serve([model], [entry("cache", **STALE), *inside], **keys)
    assert is_about(await embed(remora, "a"), "a")
    assert is_about(await embed(remora, "b"), "b")
    clock.advance(100)
    return remora


async def test_while_the_circuit_is_open(serve: Serve, model: MakeModel, clock: Clock) -> None:
    """Also where nothing is sent; another question gets 503."""
    server = await model()
    remora = await primed(
        serve, server, clock, entry("retry", attempts=1), entry("circuit_breaker", consecutive=2)
    )
    server.choose = lambda message: "500"
    for _ in range(4):
        answer = await embed(remora, "a")
        assert is_about(answer, "a") and is_stale(answer)
    assert len(server.asked) == 4
    answer = await embed(remora, "c")
    assert (answer.status, answer["x-remora-error"]) == (503, "circuit_open")


async def test_before_the_fallback(serve: Serve, model: MakeModel, clock: Clock) -> None:
    """What is stale goes before the fallback, which gets what nothing is known of."""
    server, other = await model(), await model()
    remora = await primed(
        serve, server, clock, entry("aggregate"),
        entry("circuit_breaker", consecutive=1, fallback="other"),
        more={"other": {"endpoints": [other.url]}},
    )  # fmt: skip
    server.choose = lambda message: "500"
    assert is_stale(await embed(remora, "a"))
    assert is_stale(await embed(remora, "b"))
    assert not other.asked
    assert is_about(await embed(remora, "c"), "c")
    assert len(other.asked) == 1


async def hold_the_permit(remora: Running, server: Model) -> None:
    """With a call that the server does not answer."""
    server.choose = lambda message: "hang"
    busy = await remora.connect()
    busy.ask("POST", "/v1/embeddings", JSON, body=b'{"model":"m","input":"busy"}')
    await until(lambda: len(server.asked) == 3)


async def test_while_the_queue_is_full(serve: Serve, model: MakeModel, clock: Clock) -> None:
    """Also where a permit would have to be waited for and nobody may."""
    server = await model()
    remora = await primed(serve, server, clock, entry("concurrency", limit=1, queue=0))
    await hold_the_permit(remora, server)
    answer = await embed(remora, "a")
    assert is_about(answer, "a") and is_stale(answer)
    answer = await embed(remora, "c")
    assert (answer.status, answer["x-remora-error"]) == (503, "queue_full")


async def test_after_waiting_in_vain(serve: Serve, model: MakeModel, clock: Clock) -> None:
    """Also where no permit became free in time."""
    server = await model()
    inside = entry("concurrency", limit=1, queue_timeout="20ms")
    remora = await primed(serve, server, clock, inside)
    await hold_the_permit(remora, server)
    answer = await embed(remora, "a")
    assert is_about(answer, "a") and is_stale(answer)


async def test_not_for_who_asked_too_much(serve: Serve, model: MakeModel, clock: Clock) -> None:
    """A limit of the client's own inside of the cache is no failure of the server's: 429."""
    server = await model()
    limit = entry("rate_limit", limits=["2/day"], key="client_ip", headers=False)
    remora = await primed(serve, server, clock, limit)
    answer = await embed(remora, "a")
    assert (answer.status, answer["x-remora-error"]) == (429, "rate_limited")


async def test_of_several_items(serve: Serve, model: MakeModel, clock: Clock) -> None:
    """A call about several items gets what is stale of all of them where the server fails."""
    server = await model()
    remora = await primed(serve, server, clock, entry("circuit_breaker", consecutive=2))
    server.choose = lambda message: "500"
    for _ in range(3):
        answer = await embed(remora, "b", "a", "b")
        assert is_about(answer, "b", "a", "b") and is_stale(answer)
    assert len(server.asked) == 4
    answer = await embed(remora, "a", "c")
    assert (answer.status, answer["x-remora-error"]) == (503, "circuit_open")


async def test_of_several_items_before_the_fallback(
    serve: Serve, model: MakeModel, clock: Clock
) -> None:
    """The fallback is asked where one of the items is not known at all."""
    server, other = await model(), await model()
    remora = await primed(
        serve, server, clock, entry("circuit_breaker", consecutive=1, fallback="other"),
        more={"other": {"endpoints": [other.url]}},
    )  # fmt: skip
    server.choose = lambda message: "500"
    assert is_stale(await embed(remora, "a", "b"))
    assert is_stale(await embed(remora, "a", "b"))
    assert not other.asked
    assert is_about(await embed(remora, "a", "c"), "a", "c")
    assert len(other.asked) == 1


async def test_of_several_items_some_fresh(serve: Serve, model: MakeModel, clock: Clock) -> None:
    """What is fresh and what is stale make one answer, as old as its oldest item; brought anew, as
    old as what was not asked for.
    """
    server = await model()
    remora = await primed(serve, server, clock)
    assert is_about(await embed(remora, "c"), "c")
    clock.advance(7)
    server.choose = lambda message: "503"
    answer = await embed(remora, "a", "c")
    assert is_about(answer, "a", "c") and is_stale(answer)
    assert answer["age"] == "107"
    server.choose = lambda message: ""
    answer = await embed(remora, "a", "c")
    assert is_about(answer, "a", "c") and not is_stale(answer)
    assert answer["age"] == "7"
    assert json.loads(server.asked[-1].body)["input"] in ("a", ["a"])
