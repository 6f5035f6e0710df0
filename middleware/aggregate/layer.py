"""`aggregate`: what can be computed together is asked together."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Hashable, Sequence
from time import monotonic
from typing import ClassVar

from proxy.apis.items import Item, Parted
from proxy.chain import Env, Handler, RouteInfo
from proxy.exchange import Headers, Request, Response

from ..core.batch.pace import Pace
from ..core.batch.plan import Plan, Rules
from ..core.batch.queue import Batch, Bounds, Group
from ..core.batch.trial import speaks_of_items
from ..core.key import CREDENTIALS
from .client import Client, DeadlineExceeded, QueueTimeout
from .config import AggregateConfig
from .fields import apart, own, patience_of, tenant_of
from .lane import Lane, Road
from .lone import Lone
from .offered import offer
from .stats import Stats

MAX_PASSING = 64
"""Paths of a route that are known to pass; clients choose them."""

MAX_AROUND = 64 * 1024
"""Bytes around a request's items: its group is told by them, and groups are remembered."""


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
            offer(self.env, self.stats, self.lanes)

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
        # Few fields keep requests apart: they are looked through instead of all.
        credentials = self._apart([(name, b"") for name in CREDENTIALS])
        self._has_credentials = len(credentials) == len(CREDENTIALS)
        # Paths of which the last request was about nothing that merges, such as chat: the next one
        # is looked at first, which costs less than to send it as a lone one (bench `costs`).
        self._passing: set[bytes] = set()
        self._pad = layer.config.pad.rule if layer.config.pad is not None else None
        self._tenants = "tenants" not in layer.config.across
        deadline = layer.config.deadline
        self._deadline = None if deadline is None else deadline.encode()
        config = layer.config
        self._small_bytes = min(config.max_batch_bytes, config.max_request_bytes)
        if config.max_batch_tokens is not None or self._deadline is not None:
            self._small_bytes = 0  # more is to be known of a request before it is sent

    async def handle(self, request: Request) -> Response:
        lane = self._lane
        if lane.lone is not None:
            lane.lone.settle()
        elif lane.plan.quiet(now := lane.clock()) and self._small(request, now):
            return await self._lone(request, now)
        if request.method != b"POST" or request.upgrade is not None:
            parted = None
        elif isinstance(request.body, bytes):
            parted = self._taken_apart(request)
        else:
            parted = await self._read_apart(request)
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

    def _small(self, request: Request, now: float) -> bool:
        """Whether a call has room for the request, as far as its bytes tell: a list of n items has
        n - 1 commas at least.
        """
        body = request.body
        return (
            request.method == b"POST"
            and isinstance(body, bytes)
            and 0 < len(body) <= self._small_bytes
            and request.path not in self._passing
            and body.count(b",") < self._lane.plan.bounds(now).size
            and request.upgrade is None
        )

    async def _lone(self, request: Request, now: float) -> Response:
        """Nothing else is about: it goes as it is."""
        lone = Lone(self._lane, request, self._taken_apart, self._found, now)
        soon = self._lane.loop.call_soon
        soon(lone.look)
        try:
            response = await self._next(request)
        except BaseException as error:
            left = isinstance(error, asyncio.CancelledError)
            self._lone_over(lone, 0, left)
            self._tally.left += left and lone.parted is not None
            raise
        # The head is here: what the server had to compute is computed. Its body may take as long as
        # this client likes to read it, and its client does not wait for what is learned of it.
        lone.look()
        soon(self._lone_over, lone, response.status, False)
        return response if lone.parted is None else self._marked(response, lone.batch.sent, 0.0)

    def _lone_over(self, lone: Lone, status: int, left: bool) -> None:
        if speaks_of_items(status):
            lone.settle()
        lone.look()
        lone.over()
        if lone.parted is None:
            self._tally.passed += 1
        else:
            self._sent(lone.batch, lone.parted, 0.0, status, left)

    async def _read_apart(self, request: Request) -> Parted | None:
        """`_taken_apart`, for a request whose body is to be read first."""
        length = request.header(b"content-length")
        if length is None or int(length) > self._config.max_request_bytes:
            return None
        if request.header(b"content-encoding") is not None:
            return None
        await request.read(self._config.max_request_bytes)
        return self._taken_apart(request)

    def _taken_apart(self, request: Request) -> Parted | None:
        """The request taken apart; None where it is none of the layer's business."""
        assert isinstance(request.body, bytes)
        if not 0 < len(request.body) <= self._config.max_request_bytes:
            return None
        parted = request.api.parts(request, self._pad)
        if parted is not None:
            self._passing.discard(request.path)
        elif len(self._passing) < MAX_PASSING:
            self._passing.add(request.path)
        if parted is None or not 0 < len(parted.items) <= self._config.max_queue:
            return None
        size = len(request.body)
        if size > MAX_AROUND and size - sum([one.weight for one in parted.items]) > MAX_AROUND:
            return None
        return parted

    def _group(self, request: Request, fields: Hashable, parted: Parted) -> Group:
        tenant = request.tenant if self._tenants else None
        key = (self._name, request.method, request.target, tenant, fields, parted.group)
        return self._lane.plan.group(key, self._road)

    def _found(self, request: Request, headers: Headers, parted: Parted) -> Group:
        return self._group(request, self._apart(headers), parted)

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
        fields = self._apart(request.headers)
        group = self._group(request, fields, parted)
        items = _each(parted.items) if parted.drawn else parted.items
        if plan.free(group, items, now):
            batch = Batch(group, ())
            batch.sent = len(items)
            plan.began(batch, now)
            return await self._send(request, parted, batch, 0.0)
        tenant = tenant_of(request, fields if self._has_credentials else request.headers)
        whole, waiter = plan.whole(items), lane.loop.create_future()
        client = Client(group, tenant, items, whole, request, parted, waiter)
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
        if isinstance(told, QueueTimeout):
            self._tally.late += 1
        else:
            self._tally.merged += 1
            self._tally.waited(waited)
        if isinstance(told, Exception):
            # Each raise of one exception lengthens its traceback, and all clients raise this one.
            raise told.with_traceback(None)
        if told is not None:
            assert isinstance(told.body, bytes)
            response = Response(told.status, told.headers, told.body, told.reason)
        else:
            response = client.joined()
        # The list may be that of the others' answers, too.
        response.headers = [*response.headers, *(own(request) if client.echoed else ())]
        return self._marked(response, client.size, waited)

    async def _send(
        self, request: Request, parted: Parted, batch: Batch, waited: float
    ) -> Response:
        """The client's own request, as it is, in the place of a batch that has begun."""
        request.on_trial = self._lane.plan.on_trial(batch)
        try:
            response = await self._next(request)
        except BaseException as error:
            left = isinstance(error, asyncio.CancelledError)
            self._sent(batch, parted, waited, 0, left)
            raise
        self._lane.loop.call_soon(self._sent, batch, parted, waited, response.status, False)
        return self._marked(response, batch.sent, waited)

    def _sent(self, batch: Batch, parted: Parted, waited: float, status: int, left: bool) -> None:
        """A request that was sent as it is has its answer's head, or (0) will have none."""
        lane, tally = self._lane, self._tally
        tally.alone += not left
        tally.call(batch.sent)
        tally.waited(waited)
        ok = 0 < status < 400
        if speaks_of_items(status):
            lane.plan.blame(batch, parted.items, lane.clock())
        lane.over(batch, ok)

    def _marked(self, response: Response, size: int, waited: float) -> Response:
        if self._config.headers:
            said = b"size=%d; wait=%dms" % (size, round(waited * 1000))
            response.headers.append((b"x-remora-batch", said))
        return response


_drawn = itertools.count()


def _each(items: Sequence[Item]) -> list[Item]:
    """The items with keys of their own: none does for another."""
    return [item._replace(key=b"%d" % next(_drawn)) for item in items]
