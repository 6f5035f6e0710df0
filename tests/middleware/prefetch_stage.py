"""`prefetch` between a client and an upstream that a test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from middleware.prefetch import Prefetch, PrefetchConfig
from proxy.assembly import RouteInfo
from proxy.chain import Handler
from proxy.env import Env
from proxy.errors import UpstreamClosed
from proxy.exchange import Request, Response
from proxy.telemetry import Telemetry
from tests.bench import sessions

TTL = 300.0

FIELDS = [
    (b"Content-Type", b"application/json"),
    (b"Cache-Control", b"max-age=300"),
    (b"Cache-Status", b"remora; hit"),
]
Answer = Callable[[Request], Awaitable[Response]]


async def fine(request: Request) -> Response:
    return Response(200, list(FIELDS), b"{}")


class Stage:
    """The layer between a client and an upstream's end that a test plays; the clock is its own."""

    def __init__(self, **keys: Any) -> None:
        self.now = 1000.0
        self.learned = 0
        self.telemetry = Telemetry()
        self.env = Env(asyncio.get_running_loop(), self.telemetry)
        self.env.clock = lambda: self.now
        keys = {"budget": 1.0, "session": "x-session", "ttl": TTL, **keys}
        self.layer = Prefetch(PrefetchConfig(**keys), self.env)
        self.got: list[Request] = []
        self.answer: Answer = fine
        self.handler = self.bind("chat")

    def bind(self, name: str, upstream: str = "default") -> Handler:
        async def next(request: Request) -> Response:
            self.got.append(request)
            return await self.answer(request)

        return self.layer.bind(RouteInfo(name, upstream), next)

    async def begin(self, request: Request, handler: Handler | None = None) -> Response:
        """An exchange that has its answer, and has not ended."""
        response = await (handler or self.handler)(request)
        request.outcome.status = response.status
        return response

    async def ask(self, request: Request, handler: Handler | None = None) -> list[Request]:
        """A whole exchange; what was fetched ahead behind it, when all of that has ended."""
        await self.begin(request, handler)
        seen = len(self.got)
        request.finish()
        await self.settled()
        return self.got[seen:]

    async def settled(self) -> None:
        while self.env.spawned:
            await asyncio.sleep(0)

    async def learn(self, *path: Request) -> None:
        """Two sessions of their own ask for all of it in turn; then every answer is stale."""
        for _ in range(2):
            self.learned += 1
            for one in path:
                twin = one.fork()
                twin.headers = [*one.headers, (b"x-session", b"learn %d" % self.learned)]
                twin.upgrade = one.upgrade
                await self.ask(twin)
        self.now += TTL
        self.got.clear()

    def count(self, outcome: str) -> int:
        sample = self.telemetry.registry.get_sample_value
        return int(sample("remora_prefetch_total", {"outcome": outcome}) or 0)

    @property
    def counts(self) -> dict[str, int]:
        """The outcomes that were counted at all."""
        return {one: n for one in sessions.OUTCOMES if (n := self.count(one))}


def embed(text: str, *fields: tuple[bytes, bytes], client: str = "10.0.0.1") -> Request:
    headers = [(b"Content-Type", b"application/json"), *fields]
    body = b'{"model":"m","input":"%b"}' % text.encode()
    return Request(b"POST", b"/v1/embeddings", headers, body, client=client)


def get(target: bytes, *fields: tuple[bytes, bytes]) -> Request:
    return Request(b"GET", target, list(fields), b"", client="10.0.0.1")


A, B = "a", "b"
ALICE = (b"Authorization", b"Bearer alice")
BOB = (b"Authorization", b"Bearer bob")


async def breaks(request: Request) -> Response:
    raise UpstreamClosed("gone")


async def refuses(request: Request) -> Response:
    return Response(503, [], b"busy")


class Held:
    """An upstream that answers when told."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        await self.release.wait()
        return await fine(request)
