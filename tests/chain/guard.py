"""`concurrency`, `retry` and `circuit_breaker` around endpoints that a test plays, on a loop whose
clock it turns: no sockets, no waiting.
"""

from __future__ import annotations

import asyncio
from typing import Any

from middleware.circuit_breaker import CircuitBreaker
from middleware.concurrency import Concurrency
from middleware.retry import Retry
from proxy.assembly import RouteInfo
from proxy.chain import Middleware, build
from proxy.env import Env
from proxy.errors import ProxyError, Unavailable
from proxy.exchange import Outcome, Request, Response, Stream
from proxy.telemetry import Telemetry
from tests.retry.stage import Source

A, B, BACKUP = "http://a", "http://b", "http://backup"
ATTEMPTS = 3
LIMIT, QUEUE, QUEUE_TIMEOUT = 2, 4, 8.0
PROBES = 2

KEYS: dict[str, dict[str, Any]] = {
    "concurrency": {"queue": QUEUE, "queue_timeout": QUEUE_TIMEOUT,
                    "priority": {"header": "x-priority"}},
    "retry": {"attempts": ATTEMPTS, "first_event": 2.0, "max_retry_after": 2.0,
              "on": ["connect", "reset", "timeout", "stream", 500, 502, 503],
              "backoff": {"first": 0.5, "jitter": 0}},
    "circuit_breaker": {"consecutive": 1, "min_calls": 6, "probes": PROBES, "open_for": 1.0,
                        "max_open_for": 4.0},
}  # fmt: skip


class Turned(asyncio.SelectorEventLoop):
    """A loop whose time is the test's."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.unhandled: list[dict[str, Any]] = []
        self.set_exception_handler(lambda loop, context: self.unhandled.append(context))

    def time(self) -> float:
        return self.now

    def turn(self, times: int) -> None:
        for _ in range(times):
            self.call_soon(self.stop)
            self.run_forever()

    def settle(self) -> None:
        """Until nothing is left to do at this time."""
        self.turn(1)
        while self._ready:  # type: ignore[attr-defined]
            self.turn(1)


class Call:
    """One attempt as an endpoint sees it."""

    def __init__(self, request: Request, endpoint: str) -> None:
        self.request = request
        self.endpoint = endpoint
        self.head: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.source = Source()
        self.stream: Stream | None = None
        self.cancelled = False
        self.ends: list[Outcome] = []
        request.on_end(self.ends.append)

    @property
    def number(self) -> bytes:
        """Of the client's request."""
        return self.request.header(b"x-number") or b""

    @property
    def live(self) -> bool:
        """The endpoint is at work on it."""
        if self.stream is not None:
            return not self.stream.done and not self.source.aborted
        return not self.head.done() and not self.cancelled

    def answer(self, response: Response | Exception) -> None:
        if isinstance(response, Response):
            self.head.set_result(response)
        else:
            self.head.set_exception(response)

    def begin(self) -> None:
        """The head of an event stream."""
        self.stream = Stream(self.source)
        self.request.on_end(self._without_reader)
        kind = [(b"content-type", b"text/event-stream")]
        self.answer(Response(200, kind, self.stream))

    def _without_reader(self, outcome: Outcome) -> None:
        """As a connection does behind an answer that nobody has taken."""
        if self.live:
            self.source.abort()


class Client:
    """Asks once and takes what comes, as the edge does. over: its exchange has ended."""

    def __init__(self, request: Request, upload: Source | None) -> None:
        self.request = request
        self.upload = upload
        self.over = False
        self.left = False
        self.error: Exception | None = None
        self.response: Response | None = None
        self.task: asyncio.Task[None] | None = None

    async def ask(self, handler: Any) -> None:
        try:
            self.response = response = await handler(self.request)
            self.request.outcome.status = response.status
            if isinstance(response.body, Stream):
                response.body.pipe(self)
            else:
                self.end([])
        except ProxyError as error:
            self.fail(error)
        except asyncio.CancelledError:
            self._finish(cancelled=True)
            raise

    def leave(self) -> None:
        self.left = True
        assert self.task is not None
        if not self.task.done():
            self.task.cancel()
            return
        assert self.response is not None and isinstance(self.response.body, Stream)
        self.response.body.abort()
        self._finish(cancelled=True)

    def write(self, chunk: bytes) -> None:
        assert self.response is not None and not self.over
        for one in self.response.filters:
            chunk = one.feed(chunk)

    def end(self, trailers: Any) -> None:
        self._finish()

    def fail(self, error: Exception) -> None:
        self.error = error
        if isinstance(error, ProxyError):
            self.request.outcome.error = error
        self._finish()

    def _finish(self, cancelled: bool = False) -> None:
        assert not self.over
        self.over = True
        self.request.outcome.cancelled = cancelled
        self.request.finish()


class Guard:
    """The three layers in their order, before two endpoints and a fallback."""

    def __init__(self, loop: Turned, **keys: dict[str, Any]) -> None:
        self.loop = loop
        self.telemetry = Telemetry()
        self.env = Env(loop, self.telemetry)
        self.env.clock = loop.time
        self.env.upstreams["backup"] = self._fall_back
        self.calls: list[Call] = []
        self.clients: list[Client] = []
        layers: list[Middleware] = []
        for name, kind in (("concurrency", Concurrency), ("retry", Retry),
                           ("circuit_breaker", CircuitBreaker)):  # fmt: skip
            config = kind.Config(**{**KEYS[name], **keys.get(name, {})})
            layers.append(kind(config, self.env))
        for one in layers:
            loop.run_until_complete(one.start())
        self.handler = build(layers, RouteInfo("r", "default"), self._balance)
        self.concurrency, _, self.breaker = layers
        (self.permits,) = self.concurrency.permits.values()

    async def _balance(self, request: Request) -> Response:
        gate = request.gate
        among = [one for one in (A, B) if gate is None or gate.admits(one)]
        if not among:
            raise Unavailable("none", code="no_endpoint", retry_after=1)
        chosen = ([one for one in among if one not in request.avoid] or among)[0]
        if gate is not None:
            gate.chosen(chosen)
        return await self._call(request, chosen)

    async def _fall_back(self, request: Request) -> Response:
        assert request.gate is None, "its circuits are those of another upstream"
        return await self._call(request, BACKUP)

    async def _call(self, request: Request, endpoint: str) -> Response:
        request.endpoint = endpoint
        call = Call(request, endpoint)
        self.calls.append(call)
        try:
            return await call.head
        except asyncio.CancelledError:
            call.cancelled = True
            if call.head.done() and not call.head.cancelled():
                call.head.exception()  # its answer came in this very moment
                call.source.aborted = True  # what a connection does whose exchange is cancelled
            raise

    def ask(self, target: bytes, body: bytes, priority: int, who: str, stale: bool) -> Client:
        """body: empty: it is still to come, from the client's `upload`."""
        headers = [(b"x-number", b"%d" % len(self.clients)), (b"x-priority", b"%d" % priority)]
        upload = None if body else Source()
        request = Request(b"POST", target, headers, body or Stream(upload), client=who)
        request.declared = request.body
        request.has_stale = stale
        client = Client(request, upload)
        self.clients.append(client)
        client.task = self.loop.create_task(client.ask(self.handler))
        return client

    @property
    def under_way(self) -> list[Client]:
        return [one for one in self.clients if not one.over]

    @property
    def uploads(self) -> list[Stream]:
        """Bodies of requests that are still to come."""
        bodies = [one.request.body for one in self.under_way]
        return [one for one in bodies if isinstance(one, Stream) and not one.done]

    @property
    def live(self) -> list[Call]:
        return [one for one in self.calls if one.live]

    def number(self, name: str, **labels: str) -> float:
        return self.telemetry.registry.get_sample_value(f"remora_{name}", labels) or 0.0

    def sums(self, name: str) -> float:
        """Over all labels."""
        return sum(
            sample.value for metric in self.telemetry.registry.collect()
            for sample in metric.samples if sample.name == f"remora_{name}"
        )  # fmt: skip
