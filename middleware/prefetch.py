"""`prefetch`: what a session will probably ask for next is in the cache before it does."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from proxy.apis import Api
from proxy.chain import Env, Handler, RouteInfo
from proxy.errors import ProxyError
from proxy.exchange import Headers, Outcome, Request, Response, Stream
from proxy.units import PositiveDuration, PositiveSize, unit

from .core.http.cache_control import parse
from .core.http.fields import values
from .core.key import digest, tenants
from .core.lru import LRU
from .core.successors import Successors

BURST = 10.0
"""Prefetches that an upstream's budget can save up."""
MAX_SENT = 4096
"""Prefetches whose use is still open; beyond, the oldest counts as wasted."""
MAX_BACKOFF = 64
"""How many times `ttl` an answer is left alone at most that the cache turned out not to keep."""


def _field_name(value: str | None) -> str | None:
    if value is not None and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value) is None:
        raise ValueError("a header's name is expected")
    return value and value.lower()


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
    session: Annotated[str | None, AfterValidator(_field_name)] = Field(
        None,
        description="Request header that tells a tenant's sessions apart; null, or where a "
        "request lacks it: by client address.",
    )
    max_request_bytes: PositiveSize = unit("64KiB", "The largest request body that is kept.")
    max_bytes: PositiveSize = unit("16MiB", "Memory for requests that can be sent again.")


class _Load:
    """What one upstream has to do, and may be given."""

    __slots__ = ("background", "foreground", "tokens")

    def __init__(self) -> None:
        self.foreground = 0
        self.background = 0
        self.tokens = 0.0


@dataclass(slots=True)
class _Known:
    """A request that can be sent again. own: the fields that are the request's, not the client's.

    not_before: when the cache may have lost the answer. backoff: how many `ttl` that is.
    """

    method: bytes
    target: bytes
    own: Headers
    body: bytes
    next: Handler
    label: str
    route_api: Api | None
    load: _Load
    not_before: float = 0.0
    backoff: int = 1

    @property
    def size(self) -> int:
        fields = sum(len(name) + len(value) + 128 for name, value in self.own)
        return len(self.target) + len(self.body) + fields + 256


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
    after = ("auth", "rate_limit", "compress", "transcode")

    def __init__(self, config: PrefetchConfig, env: Env) -> None:
        self.config = config
        self._env = env
        self._clock = env.clock
        self._session = config.session.encode() if config.session else None
        self._tenant_of = tenants()
        self._successors = Successors(config.ttl)
        self._known: LRU[_Known] = LRU(config.max_bytes, lambda known: known.size)
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
        name = route.name.encode()

        async def handle(request: Request) -> Response:
            if request.upgrade is not None or is_prefetch(request.headers):
                return await next(request)
            exchange = _Exchange(request, name, next, load)
            load.foreground += 1
            request.on_end(partial(self._ended, exchange))
            exchange.response = response = await next(request)
            return response

        return handle

    def _ended(self, exchange: _Exchange, outcome: Outcome) -> None:
        """Takes up what a client asked for, then fetches what it may ask for next."""
        load = exchange.load
        load.foreground -= 1
        load.tokens = min(BURST, load.tokens + self.config.budget)
        now = self._clock()
        self._give_up(now)
        if outcome.cancelled or outcome.error is not None:
            return
        if not exchange.repeatable(self.config.max_request_bytes):
            return
        request = exchange.request
        tenant = self._tenant(request)
        key = exchange.key(tenant)
        known = self._known.get(key) or exchange.known()
        self._settle(key, known, exchange, now)
        if now >= known.not_before:
            known.not_before = now + self.config.ttl * known.backoff
            self._known.put(key, known)
        self._successors.seen(tenant, self._session_of(request), key, now)
        for successor, _ in self._successors.likely(tenant, key, self.config.probability):
            self._consider(successor, request, now)

    def _tenant(self, request: Request) -> bytes:
        """Whom `auth` found, else whose credentials these are."""
        if request.tenant is not None:
            return b"=" + request.tenant.encode(errors="surrogateescape")
        return self._tenant_of(request.headers)

    def _session_of(self, request: Request) -> bytes:
        named = request.header(self._session) if self._session is not None else None
        if named is not None:
            return digest((b"header", named))
        return request.client.encode()

    def _settle(self, key: bytes, known: _Known, exchange: _Exchange, now: float) -> None:
        """Whether an earlier prefetch of this was of use."""
        sent = self._sent.pop(key, None)
        if sent is None:
            return
        if exchange.served_from_cache:
            known.backoff = 1
            self._count_useful.inc()
            return
        self._count_wasted.inc()
        if sent.arrived:
            known.backoff = min(MAX_BACKOFF, known.backoff * 2)
            known.not_before = now + self.config.ttl * known.backoff

    def _give_up(self, now: float) -> None:
        """Counts what nobody came for; a few at a time, for many may be due at once."""
        for _ in range(8):
            key = next(iter(self._sent), None)
            if key is None or (self._sent[key].until > now and len(self._sent) <= MAX_SENT):
                return
            del self._sent[key]
            self._count_wasted.inc()

    def _consider(self, key: bytes, trigger: Request, now: float) -> None:
        known = self._known.get(key)
        if known is None or now < known.not_before or key in self._sent:
            return
        load = known.load
        if load.foreground > self.config.max_load or load.background >= self.config.max_inflight:
            self._count_busy.inc()
            return
        if load.tokens < 1:
            self._count_budget.inc()
            return
        load.tokens -= 1
        load.background += 1
        known.not_before = now + self.config.ttl * known.backoff
        self._sent[key] = sent = _Sent(now + self.config.ttl)
        self._count_sent.inc()
        request = again(known, trigger, now)
        self._env.spawn(self._fetch(key, sent, known, request), "prefetch")

    async def _fetch(self, key: bytes, sent: _Sent, known: _Known, request: Request) -> None:
        outcome = request.outcome
        try:
            async with asyncio.timeout(self.config.timeout):
                response = await known.next(request)
                outcome.status = response.status
                outcome.first_byte = monotonic()
                outcome.bytes_sent = await drained(response)
            sent.arrived = response.status == 200
        except asyncio.CancelledError:
            outcome.cancelled = True
            raise
        except ProxyError as error:
            outcome.error = error
        except OSError:
            outcome.cancelled = True  # out of time, or the shared call was cancelled
        finally:
            known.load.background -= 1
            outcome.last_byte = monotonic()
            request.finish()
            if not sent.arrived and self._sent.get(key) is sent:
                del self._sent[key]
                self._count_failed.inc()


class _Exchange:
    """One exchange of a client, as it was before inner layers changed the request."""

    __slots__ = ("headers", "load", "method", "next", "request", "response", "route", "target")

    def __init__(self, request: Request, route: bytes, next: Handler, load: _Load) -> None:
        self.request = request
        self.method = request.method
        self.target = request.target
        self.headers = request.headers
        self.route = route
        self.next = next
        self.load = load
        self.response: Response | None = None

    def repeatable(self, max_bytes: int) -> bool:
        """Whether it may be asked again on nobody's behalf, and its answer be kept."""
        response = self.response
        if response is None or response.status not in (200, 304):
            return False
        body = self.request.body
        if not isinstance(body, bytes) or len(body) > max_bytes:
            return False
        for name, _ in self.headers:
            if name.lower() in _SPECIAL:
                return False
        if b"no-store" in parse(response.headers) or response.header(b"set-cookie") is not None:
            return False
        if self.method == b"POST":
            return self.request.api.deterministic(self.request)
        kind = (response.header(b"content-type") or b"").lower()
        return (
            self.method in (b"GET", b"HEAD")
            and not body
            and not kind.startswith(b"text/event-stream")
        )

    @property
    def served_from_cache(self) -> bool:
        """By what the cache says of it; where it says nothing, it is believed to have been."""
        assert self.response is not None
        said = [it for it in values(self.response.headers, b"cache-status") if b"remora;" in it]
        return not said or b"; hit" in said[-1] or b"; collapsed" in said[-1]

    @property
    def own(self) -> Headers:
        return [pair for pair in self.headers if pair[0].lower() in _OWN]

    def key(self, tenant: bytes) -> bytes:
        """No other tenant's, and no other route's."""
        body = self.request.body
        assert isinstance(body, bytes)
        own = [part for name, value in self.own for part in (name.lower(), value)]
        return digest((tenant, self.route, self.method, self.target, body, *own))

    def known(self) -> _Known:
        body = self.request.body
        assert isinstance(body, bytes)
        return _Known(
            self.method, self.target, self.own, body,
            self.next, self.request.label, self.request.route_api, self.load,
        )  # fmt: skip


_OWN = frozenset((b"accept", b"content-encoding", b"content-type", b"host"))
"""Fields that belong to what is asked for. All others are the client's, and are not kept."""

_SPECIAL = frozenset((b"cache-control", b"pragma", b"range", b"x-remora-cache"))
"""A request with one of these wants something of its own of a cache: it is not learned from."""

_NOT_AGAIN = _OWN | {
    b"content-digest", b"content-length", b"expect", b"if-match", b"if-modified-since",
    b"if-none-match", b"if-range", b"if-unmodified-since", b"purpose", b"sec-purpose", b"te",
    b"trailer",
}  # fmt: skip
"""Fields of the client's that do not go with another request of its."""

_MARK = (b"sec-purpose", b"prefetch")
"""Tells whoever stands behind that no client waits (Fetch standard, section 3.9)."""


def is_prefetch(headers: Headers) -> bool:
    """Whether somebody in front, a browser or another remora, fetches ahead already."""
    return any(
        name.lower() in (b"sec-purpose", b"purpose") and b"prefetch" in value.lower()
        for name, value in headers
    )


def again(known: _Known, trigger: Request, now: float) -> Request:
    """What the client of `trigger` would send, were it to ask for `known`.

    Its own credentials, address and trace: nobody's are kept.
    """
    twin = trigger.fork(known.body)
    twin.method = known.method
    twin.target = known.target
    twin.path = known.target.partition(b"?")[0]
    twin.headers = [
        *known.own,
        *(pair for pair in trigger.headers if pair[0].lower() not in _NOT_AGAIN),
        _MARK,
    ]
    twin.declared = None
    twin.chunked = False
    twin.http10 = False
    twin.received_at = now
    twin.label = known.label
    twin.route_api = known.route_api
    return twin


async def drained(response: Response) -> int:
    """Takes the whole body and drops it; its size in bytes. Raises what it broke off with."""
    body = response.body
    if not isinstance(body, Stream):
        return len(body)
    size = 0
    try:
        while piece := await body.read():
            size += len(piece)
    finally:
        body.abort()  # nothing, where it came to its end
    return size
