"""`concurrency`: the server is never given more at once than it can do."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Iterator
from typing import ClassVar

from proxy.chain import Env, Handler, RouteInfo
from proxy.errors import UpstreamTimeout
from proxy.exchange import Outcome, Request, Response, Stream

from ..core.gradient import Gradient
from .config import ConcurrencyConfig, HeaderPriority
from .first_byte import FirstByte
from .permits import Permit, Permits

Numbers = Callable[[], Iterator[tuple[tuple[str, ...], float]]]


class Concurrency:
    """Gives a permit to each request, and takes it back when the exchange has ended.

    Where one is free nothing is awaited, and no clock is read unless the limit is adaptive.
    """

    Config: ClassVar[type] = ConcurrencyConfig
    before = ("retry", "circuit_breaker")
    after = ("auth", "rate_limit", "compress", "transcode", "cache", "prefetch", "aggregate")

    def __init__(self, config: ConcurrencyConfig, env: Env) -> None:
        self.config = config
        self.permits: dict[str, Permits] = {}
        """By upstream, by route, or the one of the chain, as `scope` says."""
        self._gradients: dict[str, Gradient] = {}
        self._env = env
        self._clock = env.clock

    async def start(self) -> None:
        if not self.config.enabled:
            return
        offer = self._env.numbers
        labels = ["scope"]
        gauges: tuple[tuple[str, str, Callable[[Permits], float]], ...] = (
            ("limit", "Requests that may be in flight.", lambda one: one.limit),
            ("in_flight", "Requests in flight.", lambda one: one.in_flight),
            ("waiting", "Requests that wait for a permit.", lambda one: one.waiting),
        )
        counters: tuple[tuple[str, str, Callable[[Permits], float]], ...] = (
            ("waited", "Requests that had to wait.", lambda one: one.waited),
            ("waited_seconds", "Time that they waited.", lambda one: one.waited_seconds),
            ("left", "Requests whose client left while they waited.", lambda one: one.left),
        )
        for name, told, read in gauges:
            offer("gauge", f"concurrency_{name}", told, labels, self._each(read))
        for name, told, read in counters:
            offer("counter", f"concurrency_{name}", told, labels, self._each(read))
        offer(
            "counter", "concurrency_refused", "Requests refused, by why.",
            ["scope", "reason"], self._refused,
        )  # fmt: skip

    async def stop(self) -> None:
        pass

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        if not self.config.enabled:
            return next
        scope = {"upstream": route.upstream, "route": route.name, "chain": "chain"}
        name = scope[self.config.scope]
        permits = self.permits.get(name) or self._make(name)
        priority_of = _priority_of(self.config)
        gradient = self._gradients.get(name)
        if gradient is not None:
            return _Adaptive(permits, gradient, priority_of, self._clock, next).handle

        async def handle(request: Request) -> Response:
            tenant = request.tenant or request.client
            if permits.in_flight < permits.limit:
                permits.take(tenant)
            else:
                await permits.turn(tenant, priority_of(request), request.has_left)
            permit = Permit(permits, tenant)
            request.on_end(permit.ended)
            try:
                return await next(request)
            except BaseException:
                permit.ended(request.outcome)
                raise

        return handle

    def _make(self, name: str) -> Permits:
        config = self.config
        limit = config.limit
        if limit == "adaptive":
            gradient = Gradient(config.min_limit, config.max_limit, config.tolerance)
            self._gradients[name] = gradient
            limit = gradient.limit
        made = self.permits[name] = Permits(
            limit, config.queue, config.queue_timeout, config.lower_share, self._clock
        )
        return made

    def _each(self, read: Callable[[Permits], float]) -> Numbers:
        def told() -> Iterator[tuple[tuple[str, ...], float]]:
            for name, permits in self.permits.items():
                yield (name,), read(permits)

        return told

    def _refused(self) -> Iterator[tuple[tuple[str, ...], float]]:
        for name, permits in self.permits.items():
            yield (name, "queue_full"), permits.full
            yield (name, "queue_timeout"), permits.late


class _Adaptive:
    """The layer in one route's chain, where the limit is found from latency."""

    def __init__(
        self,
        permits: Permits,
        gradient: Gradient,
        priority_of: Callable[[Request], int],
        clock: Callable[[], float],
        next: Handler,
    ) -> None:
        self._permits = permits
        self._gradient = gradient
        self._priority_of = priority_of
        self._clock = clock
        self._next = next

    async def handle(self, request: Request) -> Response:
        permits = self._permits
        tenant = request.tenant or request.client
        if permits.in_flight < permits.limit:
            permits.take(tenant)
        else:
            await permits.turn(tenant, self._priority_of(request), request.has_left)
        permit = Permit(permits, tenant)
        request.on_end(permit.ended)
        in_flight = permits.in_flight
        sent_at = self._clock()
        try:
            response = await self._next(request)
        except BaseException as error:
            if isinstance(error, UpstreamTimeout):
                self._dropped()
            elif isinstance(error, CancelledError):
                self._left(in_flight, sent_at)
            permit.ended(request.outcome)
            raise
        status = response.status
        if status == 429 or status == 503:
            self._dropped()
        elif 200 <= status < 500:
            if isinstance(response.body, Stream) and _is_event_stream(response):
                # Many servers send the head of a stream before they have computed anything.
                self._watch(request, response, in_flight, sent_at)
            else:
                self._completed(in_flight, sent_at)
        return response

    def _watch(self, request: Request, response: Response, in_flight: int, sent_at: float) -> None:
        first = FirstByte(lambda: self._completed(in_flight, sent_at))
        response.filters.append(first)

        def ended(outcome: Outcome) -> None:
            if outcome.cancelled and not first.came:
                self._left(in_flight, sent_at)

        request.on_end(ended)

    def _completed(self, in_flight: int, sent_at: float) -> None:
        now = self._clock()
        self._gradient.completed(in_flight, now - sent_at, now)
        self._follow()

    def _left(self, in_flight: int, sent_at: float) -> None:
        now = self._clock()
        self._gradient.left(in_flight, now - sent_at, now)
        self._follow()

    def _dropped(self) -> None:
        self._gradient.dropped()
        self._follow()

    def _follow(self) -> None:
        if self._gradient.limit != self._permits.limit:
            self._permits.set_limit(self._gradient.limit)


def _is_event_stream(response: Response) -> bool:
    kind = response.header(b"content-type")
    return kind is not None and kind.lower().startswith(b"text/event-stream")


def _priority_of(config: ConcurrencyConfig) -> Callable[[Request], int]:
    """Asked only where a request has to wait."""
    asked = config.priority
    if not isinstance(asked, HeaderPriority):
        return lambda request: request.identity.priority if request.identity is not None else 0
    name = asked.header.encode()
    highest, default = asked.highest, asked.default

    def of_header(request: Request) -> int:
        value = request.header(name)
        # int() takes signs, underscores and more digits than anybody should have to convert.
        if value is None or not value.isdigit():
            return default
        return min(int(value), highest) if len(value) < 10 else highest

    return of_header
