"""The layer between a client and an upstream's end that a test plays."""

from __future__ import annotations

import asyncio
from typing import Any

from middleware.concurrency import Concurrency
from middleware.concurrency.permits import Permits
from proxy.assembly import RouteInfo
from proxy.chain import Handler
from proxy.env import Env
from proxy.exchange import Request, Response
from proxy.telemetry import Telemetry


class Rig:
    """Requests that reach the upstream stand in `sent`, each with the future of its answer."""

    def __init__(self, **keys: Any) -> None:
        self.now = 100.0
        self.telemetry = Telemetry()
        self.env = Env(asyncio.get_running_loop(), self.telemetry)
        self.reads = 0
        self.env.clock = self._clock
        self.layer = Concurrency(Concurrency.Config(**keys), self.env)
        self.sent: list[tuple[Request, asyncio.Future[Response]]] = []
        self.handler = self.bind("default")

    def _clock(self) -> float:
        self.reads += 1
        return self.now

    def bind(self, route: str, upstream: str = "default") -> Handler:
        return self.layer.bind(RouteInfo(route, upstream), self._next)

    async def _next(self, request: Request) -> Response:
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.sent.append((request, answer))
        return await answer

    @property
    def permits(self) -> Permits:
        (only,) = self.layer.permits.values()
        return only

    def ask(self, request: Request, handler: Handler | None = None) -> asyncio.Task[Response]:
        async def asked() -> Response:
            return await (handler or self.handler)(request)

        return asyncio.get_running_loop().create_task(asked())

    async def settle(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    def answer(self, request: Request, response: Response | Exception) -> None:
        """Answers it, or fails with an error."""
        (found,) = [answer for one, answer in self.sent if one is request]
        if isinstance(response, Response):
            found.set_result(response)
        else:
            found.set_exception(response)

    def count(self, name: str, **labels: str) -> float:
        value = self.telemetry.registry.get_sample_value(f"remora_concurrency_{name}", labels)
        assert value is not None, f"no {name} with {labels}"
        return value


def request(*fields: tuple[bytes, bytes], client: str = "10.0.0.1") -> Request:
    return Request(b"POST", b"/v1/embeddings", list(fields), b"{}", client=client)


def fine() -> Response:
    return Response(200, [(b"content-type", b"application/json")], b"{}")
