"""`aggregate`: what can be computed together is asked together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import monotonic
from typing import Any, ClassVar

from proxy.apis.items import Parted
from proxy.chain import Env, Handler, RouteInfo
from proxy.exchange import Request, Response

from ..core.batch.pace import Pace
from ..core.batch.plan import Plan, Rules
from ..core.batch.queue import Batch, Bounds
from ..core.batch.trial import speaks_of_items
from .client import Client, DeadlineExceeded
from .config import AggregateConfig
from .fields import apart, own, patience_of, tenant_of
from .lane import Lane, Road
from .stats import Stats


class Aggregate:
    """Merges requests that wait for the upstream at the same time, and splits those that are too
    large for it.
    """

    Config: ClassVar[type] = AggregateConfig
    before = ("concurrency", "retry", "circuit_breaker")
    after = ("auth", "rate_limit", "compress", "transcode", "cache", "prefetch")

    def __init__(self, config: AggregateConfig, env: Env) -> None:
        self.config = config
        self.env = env
        self.stats = Stats()
        self.lanes: dict[str, Lane] = {}
        """By upstream: routes to one server share its time."""
        ignore = [name.encode() for name in config.ignore]
        if config.deadline is not None:
            ignore.append(config.deadline.encode())
        self.apart = apart("tenants" in config.across, ignore)

    async def start(self) -> None:
        if self.lanes:
            self._offer()

    async def stop(self) -> None:
        for lane in self.lanes.values():
            lane.stop()

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        if not self.config.enabled:
            return next
        lane = self.lanes.get(route.upstream)
        if lane is None:
            lane = self.lanes[route.upstream] = self._lane()
        return _Bound(self, route, lane, next).handle

    def _lane(self) -> Lane:
        config = self.config
        bounds = Bounds(config.max_batch_size, config.max_batch_tokens, config.max_batch_bytes)
        rules = Rules(
            bounds, config.max_queue_delay, config.queue_timeout, config.max_queue,
            config.max_waste, config.max_splits,
        )  # fmt: skip
        limit = None if config.max_inflight == "adaptive" else config.max_inflight
        pace = Pace(config.max_batch_size, limit, config.target_latency)
        return Lane(self.env, Plan(rules, pace), config.max_answer_bytes)

    def _offer(self) -> None:
        numbers, stats = self.env.numbers, self.stats
        numbers(
            "counter", "aggregate_requests", "Requests, by what was done with them.",
            ("route", "how"), stats.requests,
        )  # fmt: skip
        numbers("counter", "aggregate_items", "Items sent.", ("route",), stats.items)
        numbers(
            "counter", "aggregate_duplicates", "Items not sent, the same being in the call.",
            ("route",), stats.duplicates,
        )  # fmt: skip
        numbers(
            "counter", "aggregate_calls", "Calls, by items, up to this many.",
            ("route", "items"), stats.calls,
        )  # fmt: skip
        numbers(
            "counter", "aggregate_waits", "Requests, by seconds before they were sent, up to this.",
            ("route", "seconds"), stats.waits,
        )  # fmt: skip
        numbers(
            "counter", "aggregate_wait_seconds", "Seconds that requests waited to be sent.",
            ("route",), stats.seconds,
        )  # fmt: skip
        for name, kind, documentation in _LANES:
            numbers(kind, f"aggregate_{name}", documentation, ("upstream",), self._of_lanes(name))
        numbers(
            "counter", "aggregate_padding_tokens",
            "Tokens that padding adds: as sent, and had the same calls been made in the order of "
            "arrival.", ("upstream", "order"), self._padding,
        )  # fmt: skip

    def _of_lanes(self, name: str) -> Any:
        def read() -> Iterator[tuple[tuple[str], float]]:
            for upstream, lane in self.lanes.items():
                plan = lane.plan
                fit = plan.pace.fit
                yield (
                    (upstream,),
                    {
                        "queued": plan.queued,
                        "inflight": plan.running,
                        "inflight_limit": plan.pace.limit,
                        "size_limit": plan.bounds(lane.clock()).size,
                        "divided": plan.divided,
                        "cancelled": lane.cancelled,
                        "tokens": plan.padding.tokens,
                        "item_seconds": fit.a if fit is not None else 0.0,
                        "call_seconds": fit.b if fit is not None else 0.0,
                    }[name],
                )

        return read

    def _padding(self) -> Iterator[tuple[tuple[str, str], float]]:
        for upstream, lane in self.lanes.items():
            padding = lane.plan.padding
            yield (upstream, "sent"), padding.sent
            yield (upstream, "arrival"), padding.in_order


_LANES: tuple[tuple[str, Any, str], ...] = (
    ("queued", "gauge", "Items that wait."),
    ("inflight", "gauge", "Calls under way."),
    ("inflight_limit", "gauge", "Calls that may be under way."),
    ("size_limit", "gauge", "Items that a call may have."),
    ("divided", "counter", "Failed calls that were divided to find who is to blame."),
    ("cancelled", "counter", "Calls cancelled because every client had left."),
    ("tokens", "counter", "Tokens of queued items that were sent, padding left out."),
    ("item_seconds", "gauge", "What an item adds to a call's time, as fitted."),
    ("call_seconds", "gauge", "What a call takes whatever its size, as fitted."),
)


class _Bound:
    """The layer in one route's chain."""

    def __init__(self, layer: Aggregate, route: RouteInfo, lane: Lane, next: Handler) -> None:
        self._config = layer.config
        self._lane = lane
        self._next = next
        self._tally = layer.stats.route(route.name)
        self._road = Road(next, self._tally)
        self._name = route.name
        self._apart = layer.apart
        self._pad = layer.config.pad.rule if layer.config.pad is not None else None
        self._tenants = "tenants" not in layer.config.across
        deadline = layer.config.deadline
        self._deadline = None if deadline is None else deadline.encode()

    async def handle(self, request: Request) -> Response:
        parted = await self._parted(request)
        if parted is None:
            self._tally.passed += 1
            return await self._next(request)
        try:
            if self._deadline is not None:
                patience = patience_of(request, self._deadline)
                if patience is not None:
                    return await self._in_time(request, parted, patience)
            return await self._serve(request, parted, None)
        except asyncio.CancelledError:
            self._tally.left += 1
            raise

    async def _parted(self, request: Request) -> Parted | None:
        """The request taken apart; None where it is none of the layer's business."""
        if request.method != b"POST" or request.upgrade is not None:
            return None
        body = request.body
        if not isinstance(body, bytes):
            length = request.header(b"content-length")
            if length is None or int(length) > self._config.max_request_bytes:
                return None
            if request.header(b"content-encoding") is not None:
                return None
            body = await request.read(self._config.max_request_bytes)
        if not 0 < len(body) <= self._config.max_request_bytes:
            return None
        parted = request.api.parts(request, self._pad)
        if parted is None or not 0 < len(parted.items) <= self._config.max_queue:
            return None
        return parted

    async def _in_time(self, request: Request, parted: Parted, patience: float) -> Response:
        """The answer, within so many seconds of the request's head. Raises DeadlineExceeded."""
        left = patience - (monotonic() - request.received_at)
        timeout = asyncio.timeout(left)
        if left > 0:
            try:
                async with timeout:
                    return await self._serve(request, parted, left)
            except TimeoutError:
                if not timeout.expired():
                    raise
        self._tally.late += 1
        raise DeadlineExceeded("the time is over that the request gave")

    async def _serve(self, request: Request, parted: Parted, patience: float | None) -> Response:
        lane = self._lane
        plan, now = lane.plan, lane.clock()
        tenant = request.tenant if self._tenants else None
        fields = self._apart(request.headers)
        key = (self._name, request.method, request.target, tenant, fields, parted.group)
        group = plan.group(key, self._road)
        items = parted.items
        if plan.free(group, items, now):
            batch = Batch(group, ())
            batch.sent = len(items)
            plan.began(batch, now)
            return await self._send(request, parted, batch, 0.0)
        client = Client(
            group, tenant_of(request), plan.whole(items), request, parted,
            asyncio.get_running_loop().create_future(),
        )  # fmt: skip
        try:
            lane.join(client, patience)
        except Exception:
            self._tally.full += 1
            raise
        try:
            told = await client.told
        except asyncio.CancelledError:
            lane.leave(client)
            raise
        waited = 0.0 if client.first is None else client.first - client.arrived
        if isinstance(told, Batch):
            return await self._send(request, parted, told, waited)
        if isinstance(told, Exception):
            # Each raise of one exception lengthens its traceback, and all clients raise this one.
            raise told.with_traceback(None)
        self._tally.merged += 1
        self._tally.waited(waited)
        if told is not None:
            assert isinstance(told.body, bytes)
            response = Response(told.status, list(told.headers), told.body, told.reason)
        else:
            response = client.joined()
            # The list may be that of the others' answers, too.
            response.headers = [*response.headers, *(own(request) if client.echoed else ())]
        return self._marked(response, client.size, waited)

    async def _send(
        self, request: Request, parted: Parted, batch: Batch, waited: float
    ) -> Response:
        """The client's own request, as it is, in the place of a batch that has begun."""
        lane = self._lane
        count = batch.sent
        self._tally.alone += 1
        self._tally.call(count)
        self._tally.waited(waited)
        ok = False
        try:
            response = await self._next(request)
            ok = response.status < 400
            if not ok and speaks_of_items(response.status):
                lane.plan.blame(batch.group, parted.items, lane.clock())
        finally:
            # The head is here: what the server had to compute is computed. Its body may take as
            # long as this client likes to read it.
            lane.over(batch, ok)
        return self._marked(response, count, waited)

    def _marked(self, response: Response, size: int, waited: float) -> Response:
        if self._config.headers:
            said = b"size=%d; wait=%dms" % (size, round(waited * 1000))
            response.headers.append((b"x-remora-batch", said))
        return response
