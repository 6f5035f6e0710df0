"""The layer between a client and a balancer that a test plays, on a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from middleware.circuit_breaker import CircuitBreaker
from middleware.core.circuit import Circuit
from proxy.assembly import RouteInfo
from proxy.chain import Handler, Store
from proxy.env import Env
from proxy.errors import Unavailable
from proxy.exchange import Request, Response, Stream
from proxy.telemetry import Telemetry

A, B = "http://a:8000", "http://b:8000"
QUICK: dict[str, Any] = {"consecutive": 1, "probes": 1}
"""Keys with which one failure opens a circuit and one success closes it."""

Answer = Callable[[Request], Awaitable[Response]]


def says(status: int, *fields: tuple[bytes, bytes]) -> Answer:
    async def answer(request: Request) -> Response:
        return Response(status, list(fields), b"{}")

    return answer


def raises(error: BaseException) -> Answer:
    async def answer(request: Request) -> Response:
        raise error

    return answer


def streams(stream: Stream, declared: bool = False, status: int = 200) -> Answer:
    """An answer whose body is under way; declared: its length is known."""

    async def answer(request: Request) -> Response:
        response = Response(status, [(b"content-type", b"text/event-stream")], stream)
        response.declared = stream if declared else None
        return response

    return answer


class Stage:
    """`answers` says what each endpoint does; the first one that the gate admits is chosen."""

    def __init__(
        self, *endpoints: str, stores: dict[str, Store] | None = None, **keys: Any
    ) -> None:
        self.now = 1000.0
        self.telemetry = Telemetry()
        self.env = Env(asyncio.get_running_loop(), self.telemetry)
        self.env.clock = lambda: self.now
        self.env.upstreams["backup"] = self._backup
        self.env.stores = stores or {}
        self.layer = CircuitBreaker(CircuitBreaker.Config(**keys), self.env)
        self.answers: dict[str, Answer] = dict.fromkeys(endpoints or (A,), says(200))
        self.chosen: list[str] = []
        self.fell_back: list[Request] = []
        self.handler = self.bind("r")

    async def start(self) -> Stage:
        await self.layer.start()
        return self

    def bind(self, route: str, upstream: str = "default") -> Handler:
        return self.layer.bind(RouteInfo(route, upstream), self._balance)

    async def _balance(self, request: Request) -> Response:
        gate = request.gate
        among = [one for one in self.answers if gate is None or gate.admits(one)]
        if not among:
            raise Unavailable("none", code="no_endpoint", retry_after=1)
        if gate is not None:
            gate.chosen(among[0])
        request.endpoint = among[0]
        self.chosen.append(among[0])
        return await self.answers[among[0]](request)

    async def _backup(self, request: Request) -> Response:
        self.fell_back.append(request)
        return Response(200, [], b"backup")

    async def ask(self, handler: Handler | None = None) -> Response:
        """A whole exchange whose body is left where it is. Raises what the handler raises."""
        request = Request(b"POST", b"/v1/embeddings", [])
        try:
            return await (handler or self.handler)(request)
        finally:
            request.finish()

    async def fail(self, times: int = 1, endpoint: str = A, handler: Handler | None = None) -> None:
        before, self.answers[endpoint] = self.answers[endpoint], says(500)
        for _ in range(times):
            await self.ask(handler)
        self.answers[endpoint] = before

    def circuit(self, endpoint: str = A, route: str = "r", upstream: str = "default") -> Circuit:
        return self.layer.circuits.places[route, upstream].circuits[endpoint]

    def sample(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(f"remora_circuit_breaker_{name}", labels)
