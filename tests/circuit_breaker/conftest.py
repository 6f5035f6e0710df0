"""Remora with a breaker before endpoints that a test plays, on a clock that it turns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from middleware.circuit_breaker import CircuitBreaker
from middleware.core.circuit import Circuit
from tests.cache.rig import Clock
from tests.conftest import Running, Serve, UpstreamMaker
from tests.retry.rig import EMBEDDINGS, QUESTION, Behaviour, Endpoint
from tests.road.scripted import Upstream
from tests.road.wire import Message

UNWATCHED = {"eject": "off", "slow_start": "off"}
"""An upstream that leaves it to the breaker who gets requests."""


class Rig:
    """A running remora and its endpoints, in the order of the file."""

    def __init__(
        self, running: Running, upstreams: list[Upstream], endpoints: list[Endpoint], clock: Clock
    ) -> None:
        self.running = running
        self.urls = [one.url for one in upstreams]
        self.endpoints = endpoints
        self.clock = clock
        self.layer: CircuitBreaker = running.layer(CircuitBreaker)

    def circuit(self, endpoint: int = 0, route: str = "/*") -> Circuit:
        return self.layer.circuits.places[route, "default"].circuits[self.urls[endpoint]]

    @property
    def states(self) -> list[str]:
        return [self.circuit(number).state for number in range(len(self.endpoints))]

    async def ask(self, target: str = EMBEDDINGS, body: bytes = QUESTION) -> Message:
        """On a connection of its own."""
        client = await self.running.connect()
        return await client.exchange("POST", target, body=body)


MakeRig = Callable[..., Awaitable[Rig]]
"""`await rig([behaviours], …, outside=[layers], file={…}, **keys of the layer)`: a list for each
endpoint, of what it does with one request after the other
"""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What layers take for time. It stands still until told."""
    clock = Clock()
    monkeypatch.setattr("proxy.env.monotonic", clock)
    return clock


@pytest.fixture
def rig(serve: Serve, upstream: UpstreamMaker, clock: Clock) -> MakeRig:
    """Starts the endpoints with a remora before them."""

    async def start(
        *behaviours: list[Behaviour], outside: list[Any] | None = None,
        file: dict[str, Any] | None = None, fallback: Endpoint | None = None,
        balance: Any = "least_outstanding", **keys: Any,
    ) -> Rig:  # fmt: skip
        endpoints = [Endpoint(*one) for one in behaviours]
        started = [await upstream(one) for one in endpoints]
        endpoints_of = [one.url for one in started]
        upstreams: dict[str, Any] = {
            "default": {"endpoints": endpoints_of, "balance": balance, **UNWATCHED}
        }
        if fallback is not None:
            upstreams["backup"] = {"endpoints": [(await upstream(fallback)).url]}
            keys["fallback"] = "backup"
        running = await serve(
            started[0], upstreams=upstreams, **(file or {}),
            chain=[*(outside or []), {"circuit_breaker": keys}],
        )  # fmt: skip
        return Rig(running, started, endpoints, clock)

    return start
