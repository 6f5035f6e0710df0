"""A batch of requests that the layers outside can help differently."""

from __future__ import annotations

from middleware.circuit_breaker import CircuitBreaker
from tests.cache.rig import Clock
from tests.chain.asking import JSON, is_about
from tests.chain.conftest import MakeModel, Serve
from tests.chain.rig import entry
from tests.chain.test_stale import primed
from tests.road.wire import until


async def test_a_batch_of_stale_and_unknown(serve: Serve, model: MakeModel, clock: Clock) -> None:
    """Where one call is made for a question whose answer is stale and another one, the fallback
    answers it, whichever came first.
    """
    server, other = await model(), await model()
    remora = await primed(
        serve, server, clock, entry("aggregate", max_inflight=1, max_queue_delay="30s"),
        entry("circuit_breaker", consecutive=1, fallback="other"),
        more={"other": {"endpoints": [other.url]}},
    )  # fmt: skip
    server.choose = lambda message: "hang"
    busy = await remora.connect()
    busy.ask("POST", "/v1/embeddings", JSON, body=b'{"model":"m","input":"busy"}')
    await until(lambda: len(server.asked) == 3)
    (circuits,) = [layer.circuits for layer in remora.layers(CircuitBreaker)]
    for _, _, circuit in circuits:
        circuit.hold(clock())
    known, unknown = await remora.connect(), await remora.connect()
    known.ask("POST", "/v1/embeddings", JSON, body=b'{"model":"m","input":"a"}')
    await until(lambda: remora.number("aggregate_queued", upstream="default") == 1)
    unknown.ask("POST", "/v1/embeddings", JSON, body=b'{"model":"m","input":"c"}')
    await until(lambda: remora.number("aggregate_queued", upstream="default") == 2)
    busy.abort()
    assert is_about(await unknown.answer(), "c")
    assert is_about(await known.answer(), "a")
