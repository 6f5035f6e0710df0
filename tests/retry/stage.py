"""`retry` between a request and a server that a test plays by hand: no sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from middleware.core.budget import RetryBudget
from middleware.retry.config import RetryConfig
from middleware.retry.retrying import Retrying
from middleware.retry.stats import Tally
from proxy.env import Env
from proxy.exchange import Outcome, Request, Response, Stream
from proxy.telemetry import Telemetry
from tests.retry.rig import QUESTION, QUICK


class Source:
    """Notes that it was aborted."""

    def __init__(self) -> None:
        self.aborted = False

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


class Call:
    """One attempt as the server sees it. `answer` and `fail` end the wait for its head."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.head: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.cancelled = False
        self.source: Source | None = None
        self.stream: Stream | None = None
        self.ends: list[Outcome] = []
        request.on_end(self.ends.append)

    def answer(self, status: int = 200, *fields: tuple[bytes, bytes]) -> None:
        """The head, with a body that is still to come."""
        self.source = Source()
        self.stream = Stream(self.source)
        if not self.head.done():
            self.head.set_result(Response(status, list(fields), self.stream))

    def begin(self) -> None:
        """The head of an event stream."""
        self.answer(200, (b"content-type", b"text/event-stream"))

    def fail(self, error: Exception) -> None:
        if not self.head.done():
            self.head.set_exception(error)


class Stage:
    """What is played: `ask` sends a request, `calls` are the attempts in their order."""

    def __init__(self, **keys: Any) -> None:
        self.env = Env(asyncio.get_running_loop(), Telemetry())
        self.calls: list[Call] = []
        self.now = 1000.0
        self.env.clock = lambda: self.now
        config = RetryConfig(**{**QUICK, **keys})
        self.tally = Tally()
        self.budget = RetryBudget(config.budget.ratio, config.budget.window, config.budget.floor)
        self.layer = Retrying(config, self.env, self._next, self.budget, self.tally)
        self.play: Callable[[Call], None] = lambda call: None
        """What to do with a call when it comes."""

    async def _next(self, request: Request) -> Response:
        call = Call(request)
        request.endpoint = f"http://e{len(self.calls)}"
        self.calls.append(call)
        self.play(call)
        try:
            return await call.head
        except asyncio.CancelledError:
            call.cancelled = True
            raise

    def request(self, target: bytes = b"/v1/embeddings", body: bytes = QUESTION) -> Request:
        return Request(b"POST", target, [(b"host", b"h")], body)


async def ticks(count: int = 10) -> None:
    """Lets the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)
