"""Plain HTTP caching: GET and HEAD as RFC 9111 and RFC 9110 say, where `honor_upstream` is set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.chain import Handler, RouteInfo
from proxy.errors import ProxyError, UpstreamError
from proxy.exchange import Headers, Request, Response, Stream

from ..core.entry import Entry
from ..core.http import freshness, ranges, reuse, storing, validators, vary
from ..core.http.cache_control import parse
from ..core.http.invalidation import invalidates
from ..core.http.reuse import Decision
from ..core.key import digest, tenant_of
from .config import CacheConfig
from .control import SWITCH, wishes, without_switch
from .flight import Flight
from .purges import tags_of
from .stats import Tally
from .variants import INDEX, Variants

if TYPE_CHECKING:
    from .layer import Cache


class NotValidated(UpstreamError):
    """What is stored may not be served unvalidated, and the upstream could not be asked."""

    status = 504
    code = "not_validated"


_WISHES = frozenset((
    SWITCH, b"cache-control", b"pragma", b"range", b"if-range", b"if-match", b"if-none-match",
    b"if-modified-since", b"if-unmodified-since",
))  # fmt: skip


def _is_plain(request: Request) -> bool:
    """The request has no wish of its own about what is stored."""
    return request.upgrade is None and not any(
        name.lower() in _WISHES for name, _ in request.headers
    )


def _lifetime(status: int, headers: Headers, now: float, shared: bool) -> float:
    """None at all for what must be validated before each use (RFC 9111 section 5.2.2.4)."""
    if parse(headers).unqualified(b"no-cache"):
        return 0.0
    return freshness.lifetime(status, headers, now, shared)


class HttpCaching:
    """The cache in the chain of a route of plain HTTP."""

    def __init__(self, cache: Cache, config: CacheConfig, route: RouteInfo, next: Handler) -> None:
        self._cache = cache
        self._config = config
        self._route = route
        self._next = next
        self._variants = Variants(cache.tiers)
        self._tally = cache.stats.route(route.name)
        self._shared = reuse.Options(grace=config.grace, stale_if_error=config.stale_if_error)
        self._private = replace(self._shared, shared=False)
        secret = config.secret.get_secret_value().encode() if config.secret else None
        self._tenant: Callable[[Request], bytes] = (
            tenant_of(secret) if config.share == "tenant" else _everyone
        )

    async def handle(self, request: Request) -> Response:
        if request.method == b"GET" and request.body == b"" and _is_plain(request):
            response = self._plain_hit(request)
            if response is not None:
                return response
        if request.header(SWITCH) is not None and self._left_out(request):
            self._tally.bypassed += 1
            return await self._next(request)
        if request.method not in (b"GET", b"HEAD"):
            return await self._unsafe(request)
        if request.body != b"" or request.upgrade is not None:
            return await self._next(request)  # means what its server says, and nobody else
        cache = self._cache
        tally = self._tally
        key = self._key(request, request.target)
        entry = await self._variants.find(key, request.headers)
        if entry is None:
            if reuse.only_if_cached(request.headers, self._options(request)):
                tally.misses += 1
                return cache.not_stored(request)
            return await self._fetch(key, request, b"fwd=uri-miss", tally)
        now = cache.now()
        age = freshness.current_age(entry.age, entry.stored_at, now)
        decision = reuse.decide(
            request.headers, entry.headers, age, entry.lifetime, self._options(request)
        )
        if decision in (Decision.FRESH, Decision.STALE):
            tally.hits += 1
            cache.stats.used(key, entry)
            return self._serve(request, entry, b"hit")
        if decision is Decision.STALE_WHILE_REVALIDATE:
            if _validating(key, entry) not in cache.flights:
                cache.env.spawn(self._refresh(key, request, entry), "cache refresh")
            tally.stale += 1
            cache.stats.used(key, entry)
            return self._serve(request, entry, b"hit")
        if decision is Decision.REFUSE:
            tally.misses += 1
            return cache.not_stored(request)
        if decision is Decision.PASS:
            tally.bypassed += 1
            return cache.answers.tell(await self._next(request), b"fwd=request")
        return await self._revalidate(key, request, entry, tally)

    def _plain_hit(self, request: Request) -> Response | None:
        """The way of most hits: a client without wishes, a fresh answer in memory that does not
        vary. Everything else goes the long way (bench `cache`).
        """
        cache = self._cache
        key = self._key(request, request.target)
        entry = cache.tiers.near(key)
        if entry is None or entry.status == INDEX or entry.vary:
            return None
        now = cache.now()
        if freshness.current_age(entry.age, entry.stored_at, now) >= entry.lifetime:
            return None
        self._tally.hits += 1
        cache.stats.used(key, entry)
        return cache.answers.whole(entry, now)

    def _options(self, request: Request) -> reuse.Options:
        """What is kept under a tenant's key serves that tenant alone, like a private cache."""
        return self._private if self._tenant(request) else self._shared

    def _left_out(self, request: Request) -> bool:
        """Whether the client's own switch turns the cache off; the switch goes no further."""
        if request.method == b"POST":
            return False  # a call of a model: its own rules read the switch
        asked = wishes(request.headers)
        request.headers = without_switch(request.headers)
        return asked is None

    # -- keys

    def _key(self, request: Request, target: bytes) -> bytes:
        host = request.header(b"host") or b""
        upstream = self._route.upstream.encode()
        return digest((b"GET", upstream, host.lower(), target, self._tenant(request)))

    # -- serving what is stored

    def _serve(self, request: Request, entry: Entry, status: bytes) -> Response:
        return self._cache.answers.page(request, entry, self._cache.now(), status)

    # -- asking the upstream

    async def _fetch(self, key: bytes, request: Request, why: bytes, tally: Tally) -> Response:
        """Nothing that is stored will do."""
        cache = self._cache
        if request.method == b"HEAD" or ranges.is_range(request.headers):
            tally.misses += 1
            return cache.answers.tell(await self._next(request), why)
        flight = cache.flights.get(key) if self._config.coalesce != "off" else None
        if flight is not None and flight.open:
            response = await flight.join()
            if self._may_share(flight, request):
                tally.collapsed += 1
                return cache.answers.tell(response, why + b"; collapsed")
            if isinstance(response.body, Stream):
                response.body.abort()
            tally.misses += 1
            return cache.answers.tell(await self._next(request), why)
        tally.misses += 1
        flight = self._take_off(key, key, request, _twin(request))
        return cache.answers.tell(await flight.join(), why)

    def _may_share(self, flight: Flight, request: Request) -> bool:
        """Whether an answer to another's request may serve this one, too."""
        response = flight.response
        if response is None or not self._storable(flight.request.headers, request, response):
            return False
        selecting = vary.selecting_fields(response.headers, flight.request.headers)
        return selecting is not None and vary.matches(selecting, request.headers)

    def _storable(self, asked: Headers, request: Request, response: Response) -> bool:
        shared = self._options(request).shared
        return storing.storable(b"GET", asked, response.status, response.headers, shared)

    def _take_off(self, key: bytes, place: bytes, request: Request, fork: Request) -> Flight:
        """key: where the answer is to lie. place: under which other requests find the flight."""
        cache = self._cache
        asked = list(request.headers)
        began = cache.now()

        def landed(flight: Flight) -> None:
            if cache.flights.get(place) is flight:
                del cache.flights[place]
            if flight.complete and not flight.outdated:
                entry = self._entry(asked, flight, began, self._options(request))
                if entry is not None:
                    cache.env.spawn(self._variants.put(key, entry), "cache store")

        flight = Flight(
            cache.env, fork, self._next, self._config.max_entry_bytes, landed,
            lambda response: self._storable(asked, request, response),
        )  # fmt: skip
        cache.flights.setdefault(place, flight)
        return flight

    def _entry(
        self, asked: Headers, flight: Flight, began: float, options: reuse.Options
    ) -> Entry | None:
        response = flight.response
        assert response is not None
        shared = options.shared
        if not storing.storable(b"GET", asked, response.status, response.headers, shared):
            return None
        arrived = began + flight.head_took
        selecting = vary.selecting_fields(response.headers, asked)
        age = freshness.initial_age(response.headers, began, arrived)
        lifetime = _lifetime(response.status, response.headers, arrived, shared)
        keep = reuse.keep(response.headers, age, lifetime, options)
        if selecting is None or keep <= 0:
            return None
        return Entry(
            status=response.status,
            reason=response.reason,
            headers=storing.storable_headers(response.headers, shared),
            body=flight.recording.body(),
            stored_at=arrived,
            age=age,
            lifetime=lifetime,
            keep=keep,
            trailers=flight.recording.trailers,
            vary=selecting,
            route=self._route.name,
            tags=tags_of(self._config.tags, response.headers),
            cost=flight.took,
        )

    async def _revalidate(
        self, key: bytes, request: Request, entry: Entry, tally: Tally
    ) -> Response:
        """Asks whether the stored answer still holds (RFC 9111 section 4.3)."""
        cache = self._cache
        began = cache.now()
        place = _validating(key, entry)
        flight = cache.flights.get(place) if self._config.coalesce != "off" else None
        if flight is None or not flight.open:
            fork = _twin(request)
            fork.has_stale = request.has_stale or self._after_error(request, entry)
            fork.method = b"GET"
            fork.headers = validators.revalidation(request.headers, entry.headers)
            flight = self._take_off(key, place, request, fork)
        try:
            response = await flight.join()
        except ProxyError as error:
            if error.status >= 500 and self._after_error(request, entry):
                tally.stale += 1
                return self._serve(request, entry, b"hit; fwd=stale")
            tally.misses += 1
            if not isinstance(error, UpstreamError):
                raise
            # RFC 9111 section 5.2.2.2: what must be validated and cannot be is 504.
            raise NotValidated(
                "the stored answer is stale, and the upstream failed", detail=error.detail
            ) from error
        if response.status in reuse.ERRORS and self._after_error(request, entry):
            _drop(response)
            tally.stale += 1
            return self._serve(request, entry, b"hit; fwd=stale; fwd-status=%d" % response.status)
        if response.status != 304:
            tally.misses += 1
            if request.method == b"HEAD":
                _drop(response)
                return Response(response.status, response.headers, b"", response.reason)
            return self._conditioned(request, response)
        if not validators.confirms(entry.headers, response.headers):
            return await self._fetch(key, request, b"fwd=stale", tally)
        tally.misses += 1
        renewed = self._renewed(entry, response, began, self._options(request))
        await self._variants.put(key, renewed)
        return self._serve(request, renewed, b"hit; fwd=stale; fwd-status=304")

    def _conditioned(self, request: Request, response: Response) -> Response:
        """A new answer, to a client that may hold the same one already."""
        response = self._cache.answers.tell(response, b"fwd=stale")
        if validators.not_modified(
            request.method, request.headers, response.headers, response.status, self._cache.now()
        ):
            _drop(response)
            return Response(304, validators.not_modified_headers(response.headers))
        return response

    def _renewed(
        self, entry: Entry, response: Response, began: float, options: reuse.Options
    ) -> Entry:
        now = self._cache.now()
        headers = validators.merge_304(entry.headers, response.headers, options.shared)
        age = freshness.initial_age(response.headers, began, now)
        lifetime = _lifetime(entry.status, headers, now, options.shared)
        return replace(
            entry, headers=headers, stored_at=now, age=age, lifetime=lifetime,
            keep=reuse.keep(headers, age, lifetime, options),
            cost=max(entry.cost, now - began),  # a purge counts from when it was asked
        )  # fmt: skip

    async def _refresh(self, key: bytes, request: Request, entry: Entry) -> None:
        """In the background; a failure leaves what is stored as it is."""
        try:
            fork = request.fork()
            fork.has_stale = True
            # Nobody asked for this: it counts in no route.
            response = await self._revalidate(key, fork, entry, Tally())
        except ProxyError:
            return
        _drop(response)

    def _after_error(self, request: Request, entry: Entry) -> bool:
        now = self._cache.now()
        age = freshness.current_age(entry.age, entry.stored_at, now)
        return reuse.after_error(
            request.headers, entry.headers, age, entry.lifetime, self._options(request)
        )

    async def _unsafe(self, request: Request) -> Response:
        """Passed on; what it made stale is forgotten (RFC 9111 section 4.4)."""
        response = await self._next(request)
        if request.method == b"POST" and request.api.deterministic(request):
            return response  # a model's answer to a question changes nothing
        for target in invalidates(
            request.method,
            response.status,
            request.target,
            response.headers,
            request.header(b"host") or b"",
            request.scheme.encode(),
        ):
            key = self._key(request, target)
            if (flight := self._cache.flights.pop(key, None)) is not None:
                flight.outdated = True
            await self._cache.tiers.delete(key)
        return response


def _validating(key: bytes, entry: Entry) -> bytes:
    """The place of a flight that asks whether this very entry still holds."""
    asked = [value for _, value in validators.conditional_headers(entry.headers)]
    return digest((key, b"validating", *asked, b"for", *(value for _, value in entry.vary)))


def _twin(request: Request) -> Request:
    """The request for a flight. Interim answers go to its first client, while that waits."""
    fork = request.fork()
    interim = request.interim
    if interim is not None:

        def passed_on(status: int, reason: bytes, headers: Headers) -> None:
            if not request.finished:
                interim(status, reason, headers)

        fork.interim = passed_on
    return fork


def _everyone(request: Request) -> bytes:
    return b""


def _drop(response: Response) -> None:
    if isinstance(response.body, Stream):
        response.body.abort()
