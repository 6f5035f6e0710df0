"""The layer between a client and an upstream, both played by the test, on the test's clock."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from middleware.rate_limit import RateLimit
from proxy.assembly import RouteInfo
from proxy.chain import Store
from proxy.env import Env
from proxy.errors import ProxyError
from proxy.exchange import Identity, Request, Response
from proxy.telemetry import Telemetry

Headers = list[tuple[bytes, bytes]]
JSON = [(b"content-type", b"application/json")]


async def fine(request: Request) -> Response:
    return Response(200, list(JSON), b"{}")


class Stage:
    """keys: of the layer. answer: the upstream. redis: the store of that name, to count in."""

    def __init__(
        self,
        answer: Callable[[Request], Awaitable[Response]] = fine,
        redis: Store | None = None,
        **keys: Any,
    ) -> None:
        self.now = 5_000_000.0
        self.telemetry = Telemetry()
        self.env = Env(asyncio.get_running_loop(), self.telemetry)
        self.env.clock = lambda: self.now
        if redis is not None:
            self.env.stores["redis"] = redis
            keys["store"] = "redis"
        self.layer = RateLimit(RateLimit.Config(**keys), self.env)
        self.asked = 0
        self._answer = answer
        self.handle = self.layer.bind(RouteInfo("r", "default"), self._next)

    async def _next(self, request: Request) -> Response:
        self.asked += 1
        return await self._answer(request)

    def route(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        """The same layer in another route."""
        return self.layer.bind(RouteInfo(name, "default"), self._next)

    async def ask(self, request: Request | None = None) -> Response | ProxyError:
        """One exchange from beginning to end: the answer, or what was raised."""
        request = request or get()
        try:
            response = await self.handle(request)
        except ProxyError as error:
            request.outcome.status = error.status
            request.outcome.error = error
            return error
        finally:
            request.finish()
        return response

    async def passes(self, request: Request | None = None) -> bool:
        return isinstance(await self.ask(request), Response)

    def count(self, outcome: str, route: str = "r", name: str = "default") -> float:
        return self._sample("rate_limit", route=route, name=name, outcome=outcome)

    def tokens(self, what: str) -> float:
        return self._sample("rate_limit_tokens", route="r", name="default", what=what)

    def _sample(self, metric: str, **labels: str) -> float:
        value = self.telemetry.registry.get_sample_value(f"remora_{metric}_total", labels)
        return value or 0.0

    async def settled(self) -> None:
        """Until what was spawned has ended."""
        while self.env.spawned:
            await asyncio.sleep(0.001)


def get(client: str = "10.0.0.1", *fields: tuple[bytes, bytes]) -> Request:
    return Request(b"GET", b"/v1/models", list(fields), b"", client=client)


def call(
    body: Any = None, client: str = "10.0.0.1", path: bytes = b"/v1/chat/completions", **more: Any
) -> Request:
    """A POST; of a chat with 40 bytes of prompt (role and text) unless told."""
    if body is None:
        body = {"messages": [{"role": "user", "content": "x" * 36}], **more}
    return Request(b"POST", path, list(JSON), json.dumps(body).encode(), client=client)


def known(request: Request, name: str, limits: tuple[str, ...] | None = None) -> Request:
    """The request, as `auth` passes it on."""
    request.identity = Identity(name, limits)
    request.tenant = name
    return request


def header(of: Response | ProxyError, name: bytes) -> str:
    values = [value for key, value in of.headers if key.lower() == name]
    assert len(values) == 1, f"{name!r} came {len(values)} times in {of.headers}"
    return values[0].decode()


def seconds(duration: str) -> float:
    """Of OpenAI's durations."""
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:([\d.]+)s)?", duration)
    if duration.endswith("ms"):
        return int(duration[:-2]) / 1000
    assert parts is not None, duration
    hours, minutes, rest = (float(part or 0) for part in parts.groups())
    return hours * 3600 + minutes * 60 + rest
