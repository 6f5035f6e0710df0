"""`prefetch`: what a session will probably ask for next is in the cache before it does."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from time import monotonic, time
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from proxy.chain import Env, Handler, RouteInfo
from proxy.errors import ProxyError
from proxy.exchange import Outcome, Request, Response, Stream
from proxy.units import FieldName, PositiveDuration, PositiveSize, unit

from .core.key import digest, tenants
from .core.lru import LRU
from .core.recording import TooSlow
from .core.repeat import Asked, Repeat, cache_status, is_prefetch, life
from .core.successors import Successors

BURST = 10.0
"""Prefetches that an upstream's budget can save up."""
MAX_SENT = 4096
"""Prefetches whose use is still open; beyond, the oldest counts as wasted."""
MAX_BACKOFF = 64
"""For how many of its lives an answer rests at most that the cache turned out not to keep."""


class PrefetchConfig(BaseModel):
    """Keys of `prefetch`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="Whether anything is learned or fetched.")
    probability: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="How likely a successor must be to be fetched: its share of what followed."
    )
    max_inflight: Annotated[int, Field(ge=1)] = Field(
        2, description="Prefetches that an upstream may have at once."
    )
    max_load: Annotated[int, Field(ge=0)] = Field(
        1,
        description="Clients' requests in flight to an upstream beyond which none is sent. With "
        "`max_inflight` it should not exceed what the server computes side by side.",
    )
    budget: Annotated[float, Field(gt=0, le=1)] = Field(
        0.2, description="Prefetches sent, as a share of the clients' requests."
    )
    ttl: PositiveDuration = unit("5m", "How long the cache keeps an answer: its own `ttl`.")
    timeout: PositiveDuration = unit("1m", "How long a prefetch may take.")
    session: FieldName | None = Field(
        None,
        description="Request header that tells a tenant's sessions apart; null, or where a "
        "request lacks it: the client's address does.",
    )
    max_request_bytes: PositiveSize = unit("64KiB", "The largest request body that is kept.")
    max_bytes: PositiveSize = unit("16MiB", "Memory for requests that can be sent again.")


class _Load:
    """What one upstream has to do, and how many prefetches it may be given."""

    __slots__ = ("background", "foreground", "tokens")

    def __init__(self) -> None:
        self.foreground = 0
        self.background = 0
        self.tokens = 0.0


@dataclass(frozen=True, slots=True)
class _Bound:
    """The layer's place in one route's chain."""

    name: bytes
    next: Handler
    load: _Load


@dataclass(slots=True)
class _Exchange:
    """One exchange of a client."""

    bound: _Bound
    asked: Asked
    response: Response | None = None


@dataclass(slots=True)
class _Known:
    """A request that can be sent again, and where to.

    life: seconds that the cache keeps its answer. not_before: when that may be over. backoff: how
    many lives it rests between two prefetches.
    """

    repeat: Repeat
    bound: _Bound
    life: float = 0.0
    not_before: float = 0.0
    backoff: int = 1


@dataclass(slots=True)
class _Sent:
    """A prefetch whose use is still open."""

    until: float
    arrived: bool = False


class Prefetch:
    """Learns when an exchange has ended, and fetches then: the client's own one is not touched.

    What is fetched goes down the successor's own `next`, where the cache stores it. Counted in
    `remora_prefetch_total`; each one `sent` ends up `useful`, `wasted` or `failed`.
    """

    Config: ClassVar[type] = PrefetchConfig
    before = ("cache", "aggregate", "concurrency", "retry", "circuit_breaker")
    after = ("auth", "compress", "transcode")

    def __init__(self, config: PrefetchConfig, env: Env) -> None:
        self.config = config
        self._env = env
        self._clock = env.clock
        self._session = config.session.encode() if config.session else None
        self._tenant_of = tenants()
        self._successors = Successors(config.ttl)
        self._known: LRU[_Known] = LRU(config.max_bytes, lambda known: known.repeat.size)
        self._sent: OrderedDict[bytes, _Sent] = OrderedDict()
        self._loads: dict[str, _Load] = {}
        counter = env.counter("prefetch", "What became of requests fetched ahead.", ["outcome"])
        self._count_sent = counter.labels("sent")
        self._count_useful = counter.labels("useful")
        self._count_wasted = counter.labels("wasted")
        self._count_failed = counter.labels("failed")
        self._count_busy = counter.labels("skipped_busy")
        self._count_budget = counter.labels("skipped_budget")

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        if not self.config.enabled:
            return next
        load = self._loads.setdefault(route.upstream, _Load())
        bound = _Bound(route.name.encode(), next, load)
        ended = self._ended

        async def handle(request: Request) -> Response:
            if request.upgrade is not None or is_prefetch(request.headers):
                return await next(request)
            exchange = _Exchange(bound, Asked(request))
            load.foreground += 1
            request.on_end(partial(ended, exchange))
            exchange.response = response = await next(request)
            return response

        return handle

    def _ended(self, exchange: _Exchange, outcome: Outcome) -> None:
        """Takes up what a client asked for, then fetches what it may ask for next."""
        bound, request, response = exchange.bound, exchange.asked.request, exchange.response
        bound.load.foreground -= 1
        bound.load.tokens = min(BURST, bound.load.tokens + self.config.budget)
        now = self._clock()
        self._give_up(now)
        if response is None or outcome.cancelled or outcome.error is not None:
            return
        repeat = exchange.asked.repeat(response, self.config.max_request_bytes)
        if repeat is None:
            return
        fresh, age = life(repeat, response, self.config.ttl, time())
        if age >= fresh:
            return
        tenant = self._tenant(request)
        key = repeat.key(tenant, bound.name)
        known = self._known.get(key) or _Known(repeat, bound)
        self._settle(key, known, response, now)
        # A hit makes nothing younger: until then the answer is the one that was stored before.
        if now >= known.not_before:
            known.life = fresh
            known.not_before = now + (fresh - age) * known.backoff
            self._known.put(key, known)
        self._successors.seen(tenant, self._session_of(request), key, now)
        for successor, _ in self._successors.likely(tenant, key, self.config.probability):
            self._consider(successor, request, now)

    def _tenant(self, request: Request) -> bytes:
        """Whom a layer outside has found, else whose credentials these are."""
        if request.tenant is not None:
            return b"=" + request.tenant.encode(errors="surrogateescape")
        return self._tenant_of(request.headers)

    def _session_of(self, request: Request) -> bytes:
        named = request.header(self._session) if self._session is not None else None
        return digest((named,)) if named is not None else request.client.encode()

    def _settle(self, key: bytes, known: _Known, response: Response, now: float) -> None:
        """Whether an earlier prefetch of this was of use."""
        sent = self._sent.pop(key, None)
        if sent is None:
            return
        if now < sent.until and _from_cache(response):
            known.backoff = 1
            self._count_useful.inc()
            return
        self._count_wasted.inc()
        if now < sent.until and sent.arrived:
            # The cache did not keep it; it would not the next time either.
            known.backoff = min(MAX_BACKOFF, known.backoff * 2)
            known.not_before = now + known.life * known.backoff

    def _give_up(self, now: float) -> None:
        """Counts what nobody came for; a few at a time, for many may be due at once."""
        for _ in range(8):
            key = next(iter(self._sent), None)
            if key is None or (now < self._sent[key].until and len(self._sent) <= MAX_SENT):
                return
            del self._sent[key]
            self._count_wasted.inc()

    def _consider(self, key: bytes, client: Request, now: float) -> None:
        known = self._known.get(key)
        if known is None or now < known.not_before:
            return
        load = known.bound.load
        if load.foreground > self.config.max_load or load.background >= self.config.max_inflight:
            self._count_busy.inc()
            return
        if load.tokens < 1:
            self._count_budget.inc()
            return
        load.tokens -= 1
        load.background += 1
        known.not_before = now + known.life * known.backoff
        if self._sent.pop(key, None) is not None:
            self._count_wasted.inc()
        self._sent[key] = sent = _Sent(now + known.life)
        self._count_sent.inc()
        self._env.spawn(self._fetch(key, sent, known, known.repeat.by(client, now)), "prefetch")

    async def _fetch(self, key: bytes, sent: _Sent, known: _Known, request: Request) -> None:
        outcome = request.outcome
        try:
            async with asyncio.timeout(self.config.timeout):
                response = await known.bound.next(request)
                outcome.status = response.status
                outcome.first_byte = monotonic()
                outcome.bytes_sent = await _drain(response)
            sent.arrived = response.status == 200
        except ProxyError as error:
            outcome.error = error
        except (OSError, TooSlow):
            outcome.cancelled = True  # out of time, or the shared call was cancelled
        except asyncio.CancelledError:
            outcome.cancelled = True
            raise
        finally:
            known.bound.load.background -= 1
            outcome.last_byte = monotonic()
            request.finish()
            if not sent.arrived and self._sent.get(key) is sent:
                del self._sent[key]
                self._count_failed.inc()


def _from_cache(response: Response) -> bool:
    """Whether an answer was there or under way; where the cache says nothing, it is believed."""
    said = cache_status(response)
    return not said or b"; hit" in said or b"; collapsed" in said


async def _drain(response: Response) -> int:
    """Takes the whole body and drops it; its size in bytes. Raises what it broke off with."""
    body = response.body
    if not isinstance(body, Stream):
        return len(body)
    size = 0
    try:
        while piece := await body.read():
            size += len(piece)
    finally:
        body.abort()  # does nothing to one that came to its end
    return size
