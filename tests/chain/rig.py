"""The whole chain in its recommended order, before several endpoints, and what must be at rest
when nobody asks anything any more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from middleware.aggregate import Aggregate
from middleware.cache import Cache
from middleware.circuit_breaker import CircuitBreaker
from middleware.concurrency import Concurrency
from middleware.prefetch import Prefetch
from middleware.rate_limit import RateLimit
from proxy.exchange import Outcome, Request
from proxy.loader import load_text
from proxy.server import Server
from tests.chain.model import Model
from tests.road.wire import Client, until

ORDER = ("access_log", "auth", "rate_limit", "compress", "transcode", "prefetch", "cache",
         "aggregate", "concurrency", "retry", "circuit_breaker")  # fmt: skip

KEYS: Mapping[str, Mapping[str, Any]] = {
    "compress": {"min_bytes": "64B", "requests": "decompress"},
    "rate_limit": {"limits": ["1000000/hour"], "key": "api_key"},
    "cache": {"ttl": "1m"},
    "aggregate": {"max_batch_size": 8, "max_queue_delay": "5ms"},
    "concurrency": {"limit": 4},
    "retry": {"backoff": {"first": "1ms"}, "budget": {"floor": 100000}},
    "circuit_breaker": {"open_for": "30ms", "max_open_for": "100ms", "slow_after": "5s"},
    "prefetch": {"probability": 0.1, "budget": 1.0, "max_load": 4},
}
"""What differs from a layer's defaults, for a test that takes seconds."""


def entry(layer: str, **keys: Any) -> dict[str, Any]:
    return {layer: {**KEYS.get(layer, {}), **keys}}


def whole(**keys: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Every layer, outermost first. keys: of a layer, by its name; None leaves it out."""
    return [
        entry(name, **(keys.get(name) or {}))
        for name in ORDER
        if not (name in keys and keys[name] is None) and (name != "auth" or name in keys)
    ]


class Ends:
    """Every callback that anybody handed to `on_end`, and how often it ran."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.handed: list[list[Any]] = []
        original = Request.on_end

        def on_end(request: Request, callback: Callable[[Outcome], None]) -> None:
            counted = [request, callback, 0]
            self.handed.append(counted)

            def ran(outcome: Outcome) -> None:
                counted[2] += 1
                callback(outcome)

            original(request, ran)

        patch.setattr(Request, "on_end", on_end)

    def complaints(self) -> list[str]:
        return [
            f"an on_end ran {times} times: {callback!r} of {request.method!r} {request.target!r}"
            for request, callback, times in self.handed
            if times != 1
        ]


class Running:
    """A remora that serves a chain."""

    def __init__(self, server: Server, models: Sequence[Model], ends: Ends) -> None:
        self.server = server
        self.models = models
        self.ends = ends
        self.clients: list[Client] = []

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.server.addresses[0].rpartition(":")
        return host, int(port)

    async def connect(self, stalled: bool = False) -> Client:
        """A raw client; closed with the test."""
        client = await (Client.stalled if stalled else Client.connect)(self.address)
        self.clients.append(client)
        return client

    def layers(self, kind: type[Any]) -> list[Any]:
        assert self.server._assembly is not None
        return [one for one in self.server._assembly._layers if isinstance(one, kind)]

    def layer(self, kind: type[Any]) -> Any:
        (one,) = self.layers(kind)
        return one

    def number(self, name: str, **labels: str) -> float:
        """A metric's value, 0 where there is none."""
        return self.server.telemetry.registry.get_sample_value(f"remora_{name}", labels) or 0.0

    async def quiet(self) -> None:
        """Until everything is at rest; fails with what is not."""
        try:
            await until(lambda: not any(self.unrest()))
        except TimeoutError:
            pytest.fail("not at rest: " + "; ".join(self.unrest()))

    def unrest(self) -> Iterator[str]:
        """What is under way, held or waiting still."""
        yield from _of_the_road(self.server)
        for permits in [one for it in self.layers(Concurrency) for one in it.permits.values()]:
            if permits.in_flight or permits.waiting or permits._held:
                yield f"concurrency: {permits.in_flight} permits, {permits.waiting} waiting"
        for layer in self.layers(CircuitBreaker):
            for place, endpoint, circuit in layer.circuits:
                probes, calls = len(circuit._probing), len(circuit.overdue._calls)
                if probes or calls:
                    yield f"breaker: {place.named(endpoint)}: {probes} probes, {calls} calls"
        for layer in self.layers(Cache):
            if layer.flights or layer.tiers._looking or layer.tiers._sharing:
                yield f"cache: {len(layer.flights)} flights, {layer.tiers._sharing} shared"
        for lane in [one for it in self.layers(Aggregate) for one in it.lanes.values()]:
            plan = lane.plan
            if plan.queued or plan._under_way.items or plan.running or plan._waiting or plan.waits:
                yield f"aggregate: {plan.queued} queued, {plan.running} under way"
            if lane._timer is not None:
                yield "aggregate: a timer"
        for load in [one for it in self.layers(Prefetch) for one in it._loads.values()]:
            if load.foreground or load.background:
                yield f"prefetch: {load.foreground} in front, {load.background} behind"
        yield from self._unsettled()
        yield from self.ends.complaints()
        for name in GAUGES:
            for metric in self.server.telemetry.registry.collect():
                if metric.name == f"remora_{name}":
                    yield from (f"{one.name}{one.labels} is {one.value}" for one in metric.samples
                                if one.value and one.labels.get("state") != "idle")  # fmt: skip

    def _unsettled(self) -> Iterator[str]:
        """Where a window holds something else than what was counted as used."""
        for layer in self.layers(RateLimit):
            if layer.config.cost != "tokens" or layer.config.strategy != "fixed_window":
                continue
            held = sum(state[1] for _, states in layer.memory._accounts.values()
                       for state in states if state)  # fmt: skip
            used = sum(tally["used"] for tally in layer._spent.values())
            if layer.shared is None and held != used:
                yield f"rate_limit: {held} tokens are counted, {used} were used"


GAUGES = ("requests_in_flight", "upstream_connections", "upstream_waiting", "concurrency_in_flight",
          "concurrency_waiting", "aggregate_queued", "aggregate_inflight")  # fmt: skip


def _of_the_road(server: Server) -> Iterator[str]:
    assembly = server._assembly
    assert assembly is not None
    if server.edge.in_flight:
        yield f"{server.edge.in_flight} exchanges"
    if assembly.env.spawned:
        names = sorted(task.get_name() for task in assembly.env._spawned)
        yield f"{assembly.env.spawned} pieces of work: {names}"
    for pool in [pool for pools in assembly.pools.values() for pool in pools]:
        if pool.busy or pool._waiting or pool.first_byte:
            yield f"{pool.endpoint.name}: {pool.busy} busy, {len(pool._waiting)} waiting"


def file(models: Sequence[Model], chain: Sequence[Any], **keys: Any) -> str:
    """A file's text. upstream: keys of the upstream. more: other upstreams."""
    upstream = {"endpoints": [model.url for model in models], "slow_start": "off",
                "eject": {"consecutive": 5, "time": "50ms", "max_time": "100ms"},
                **keys.pop("upstream", {})}  # fmt: skip
    return json.dumps({
        "listen": "127.0.0.1:0", "admin": "off", "drain": {"quiet": "0s", "timeout": "5s"},
        "upstreams": {"default": upstream, **keys.pop("more", {})}, "chain": list(chain), **keys,
    })  # fmt: skip


def server_of(models: Sequence[Model], chain: Sequence[Any], **keys: Any) -> Server:
    return Server(load_text(file(models, chain, **keys), "chain.yaml", {}))
