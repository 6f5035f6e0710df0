"""`cache`: the same question is not computed twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from proxy.chain import Env, Handler, RouteInfo
from proxy.errors import ProxyError
from proxy.exchange import Request, Response, Stream

from ..core.entry import Entry
from ..core.http.reuse import ERRORS
from ..core.http.vary import matches
from ..core.lru import LRU
from .answers import Answers
from .config import CacheConfig
from .convert import converted
from .flight import Flight
from .http import HttpCaching
from .rules import ModelRules, Plan, Use
from .tiers import Tiers, size_of


class NotStored(ProxyError):
    """The client wants a stored answer or none (RFC 9111 section 5.2.1.7), and there is none."""

    status = 504
    code = "not_cached"


class Cache:
    """Looks up, shares calls under way, stores what came whole."""

    Config: ClassVar[type] = CacheConfig
    before = ("aggregate", "concurrency", "retry", "circuit_breaker")
    after = ("auth", "compress", "transcode")

    def __init__(self, config: CacheConfig, env: Env) -> None:
        self.config = config
        self.env = env
        memory: LRU[Entry] | None = (
            LRU(config.max_bytes, size_of) if "memory" in config.stores else None
        )
        self.tiers = Tiers(memory, ())
        self.answers = Answers(config.headers, config.replay == "paced")
        self.flights: dict[bytes, Flight] = {}
        self.now = wall_clock(env.clock)

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        if not self.config.enabled:
            return next
        calls = _Bound(self, ModelRules(self.config, route), next).handle
        if not self.config.honor_upstream:
            return calls
        # Around the calls: a POST that is no call of a model makes pages stale.
        return HttpCaching(self, self.config, route, calls).handle

    def not_stored(self, request: Request) -> Response:
        """Raises NotStored: the client wants a stored answer or none, and there is none."""
        raise NotStored("no stored answer will do, and the client wants no other")


class _Bound:
    """The cache in one route's chain."""

    def __init__(self, cache: Cache, rules: ModelRules, next: Handler) -> None:
        self._cache = cache
        self._rules = rules
        self._next = next

    async def handle(self, request: Request) -> Response:
        cache = self._cache
        plan = await self._rules.plan(request)
        if plan is None:
            return await self._next(request)
        entry, use = None, Use.NONE
        if plan.wishes.read:
            entry = await self._find(plan, request)
            if entry is not None:
                now = cache.now()
                use = self._rules.use(entry, plan, now)
                if use is Use.FRESH:
                    if self._worn(entry, now):
                        self._refresh(plan, request)
                    return cache.answers.of(request, entry, now)
                if use is Use.STALE:
                    self._refresh(plan, request)
                    return cache.answers.of(request, entry, now)
        if plan.wishes.only_if_cached:
            cache.not_stored(request)
        old = entry if use is Use.IF_ERROR else None
        try:
            response = await self._fetch(plan, request, _why(plan, entry))
        except ProxyError as error:
            if old is not None and error.status >= 500:
                return cache.answers.of(request, old, cache.now(), b"hit; fwd=stale")
            raise
        if old is not None and response.status in ERRORS:
            if isinstance(response.body, Stream):
                response.body.abort()
            return cache.answers.of(request, old, cache.now(), b"hit; fwd=stale")
        return response

    async def _find(self, plan: Plan, request: Request) -> Entry | None:
        """What is stored for this request, in its own form or converted from the other one."""
        tiers = self._cache.tiers
        entry = tiers.near(plan.key)
        if entry is None and tiers.stores:
            entry = await tiers.far(plan.key)
        if entry is None and plan.other_form is not None:
            other = tiers.near(plan.other_form) or await tiers.far(plan.other_form)
            if other is not None:
                entry = converted(request, plan.streams, other)
                if entry is not None:
                    tiers.keep(plan.key, entry)
        if entry is not None and entry.vary and not matches(entry.vary, request.headers):
            return None
        return entry

    def _worn(self, entry: Entry, now: float) -> bool:
        """So near its end that a hit should see to the next one: nobody then waits for it."""
        ahead = self._cache.config.refresh_ahead
        return ahead > 0 and now - entry.stored_at > entry.lifetime * (1 - ahead)

    async def _fetch(self, plan: Plan, request: Request, why: bytes) -> Response:
        cache = self._cache
        flight = cache.flights.get(plan.key) if plan.wishes.read else None
        if flight is not None and flight.open and cache.config.coalesce:
            why += b"; collapsed"
        else:
            flight = self._take_off(plan, request)
        return cache.answers.tell(await flight.join(), why)

    def _take_off(self, plan: Plan, request: Request) -> Flight:
        cache = self._cache

        def landed(flight: Flight) -> None:
            if cache.flights.get(plan.key) is flight:
                del cache.flights[plan.key]
            if plan.wishes.write and flight.complete:
                self._store(plan, flight)

        flight = Flight(cache.env, request.fork(), self._next, cache.config.max_entry_bytes, landed)
        if plan.wishes.read and plan.wishes.write:
            cache.flights[plan.key] = flight
        return flight

    def _refresh(self, plan: Plan, request: Request) -> None:
        """In the background, once however many ask."""
        if plan.key not in self._cache.flights:
            self._take_off(plan, request)

    def _store(self, plan: Plan, flight: Flight) -> None:
        cache = self._cache
        response = flight.response
        assert response is not None
        entry = self._rules.entry(flight.request, plan, response, flight.recording, cache.now())
        if entry is None:
            return
        entry = replace(entry, cost=flight.took)
        for key in filter(None, (plan.key, plan.own_form)):
            cache.tiers.keep(key, entry)
            if cache.tiers.stores:
                cache.env.spawn(cache.tiers.share(key, entry), "cache store")


def _why(plan: Plan, entry: Entry | None) -> bytes:
    """Why the request goes on to the upstream (RFC 9211 section 2.2)."""
    if not plan.wishes.read:
        return b"fwd=request"
    return b"fwd=uri-miss" if entry is None else b"fwd=stale"


def wall_clock(monotonic: Callable[[], float]) -> Callable[[], float]:
    """Wall-clock seconds that a step of the system's clock does not move: replicas share entries
    by wall-clock time, but within a process no answer may grow older or younger by a step.
    """
    offset = time.time() - monotonic()
    return lambda: monotonic() + offset
