"""`cache`: the same question is not computed twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from proxy.chain import Env, Handler, RouteInfo, Store
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
from .item_calls import ItemCalls
from .lease import Lease, Leases
from .offered import CacheControl
from .purges import Purges
from .rules import PERSONAL, ModelRules, Plan, Use, for_others
from .stats import Stats
from .tiers import RedisTier, Tiers, size_of
from .warm import Warmer


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
        self.now = wall_clock(env.clock)
        self.flights: dict[bytes, Flight] = {}
        store = _shared(config, env)
        # Whoever asks after a purge must not join a call that began before it.
        self.purges = Purges(self.now, store, self.flights.clear)
        far = () if store is None else (RedisTier(store, config.max_entry_bytes, self.now),)
        self.tiers = Tiers(memory, far, self.purges)
        self.leases = (
            Leases(store, env) if store is not None and config.coalesce == "cluster" else None
        )
        self.answers = Answers(config.headers, config.replay == "paced")
        self.stats = Stats()
        self._handlers: dict[str, Handler] = {}

    async def start(self) -> None:
        if not self.config.enabled:
            return
        CacheControl(self.tiers, self.purges, self.stats, self.now).offer(self.env)
        if self.tiers.stores:
            await self.purges.sync()
            self.env.background(self.purges.keep_in_step(), "cache purges")
        if self.config.warm:
            warmer = Warmer(self.env, self._handlers)
            self.env.background(warmer.run(self.config.warm), "cache warm")

    async def stop(self) -> None:
        if self.leases is not None:
            await self.leases.close()

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        if not self.config.enabled:
            return next
        handle = _Bound(self, ModelRules(self.config, route), route, next).handle
        if self.config.honor_upstream:
            # Around the calls: a POST that is no call of a model makes pages stale.
            handle = HttpCaching(self, self.config, route, handle).handle
        self._handlers[route.name] = handle
        return handle

    def not_stored(self, request: Request) -> Response:
        """Raises NotStored: the client wants a stored answer or none, and there is none."""
        raise NotStored("no stored answer will do, and the client wants no other")


class _Bound:
    """The cache in one route's chain."""

    def __init__(self, cache: Cache, rules: ModelRules, route: RouteInfo, next: Handler) -> None:
        self._cache = cache
        self._rules = rules
        self._tally = cache.stats.route(route.name)
        self._next = next
        self._items: ItemCalls | None = None
        if cache.config.items:
            self._items = ItemCalls(cache, rules, self._tally, next, self._take_off, self._refresh)

    async def handle(self, request: Request) -> Response:
        cache = self._cache
        tally = self._tally
        plan = await self._rules.plan(request)
        if plan is None:
            tally.bypassed += 1
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
                    tally.hits += 1
                    cache.stats.used(plan.key, entry)
                    return cache.answers.of(request, entry, now)
                if use is Use.STALE:
                    self._refresh(plan, request)
                    tally.stale += 1
                    cache.stats.used(plan.key, entry)
                    return cache.answers.of(request, entry, now)
        old = entry if use is Use.IF_ERROR else None
        if self._items is not None and old is None and plan.wishes.read:
            answered = await self._items.answer(request, plan)
            if answered is not None:
                return answered
        if plan.wishes.only_if_cached:
            tally.misses += 1
            cache.not_stored(request)
        request.has_stale = old is not None
        try:
            response, collapsed = await self._fetch(plan, request, _why(plan, entry))
        except ProxyError as error:
            if old is not None and error.status >= 500:
                tally.stale += 1
                return cache.answers.of(request, old, cache.now(), b"hit; fwd=stale")
            tally.misses += 1
            raise
        if old is not None and response.status in ERRORS:
            if isinstance(response.body, Stream):
                response.body.abort()
            tally.stale += 1
            return cache.answers.of(request, old, cache.now(), b"hit; fwd=stale")
        if collapsed:
            tally.collapsed += 1
        elif plan.wishes.read:
            tally.misses += 1
        else:
            tally.bypassed += 1
        return response

    async def _find(self, plan: Plan, request: Request) -> Entry | None:
        """What is stored for this request, in its own form or converted from the other one."""
        tiers = self._cache.tiers
        entry = tiers.near(plan.key)
        if tiers.stores and (
            entry is None or self._cache.now() - entry.stored_at >= entry.lifetime
        ):
            # Where ours is stale, another replica may have a newer one.
            entry = await tiers.far(plan.key) or entry
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

    async def _fetch(self, plan: Plan, request: Request, why: bytes) -> tuple[Response, bool]:
        """The answer, and whether it is another's call that brought it."""
        cache = self._cache
        flight = cache.flights.get(plan.key) if plan.wishes.read else None
        if flight is not None and not (flight.open and cache.config.coalesce != "off"):
            flight = None
        collapsed = flight is not None
        if flight is None:
            flight = self._take_off(plan, request)
        try:
            response = await flight.join()
        except ProxyError as error:
            if collapsed and error.status in PERSONAL:
                # A layer inside refused whoever made the call: that says nothing of this one.
                return cache.answers.tell(await self._next(request), why), False
            raise
        if flight.entry is not None:
            status = why + b"; collapsed"
            return cache.answers.of(request, flight.entry, cache.now(), status), True
        if collapsed and not (
            flight.shareable and self._rules.may_share(flight.request, response, request)
        ):
            if isinstance(response.body, Stream):
                response.body.abort()
            return cache.answers.tell(await self._next(request), why), False
        if collapsed:
            response.headers = for_others(response.headers)
            why += b"; collapsed"
        return cache.answers.tell(response, why), collapsed

    def _take_off(
        self, plan: Plan, request: Request, next: Handler | None = None, share: float = 1.0
    ) -> Flight:
        """next: what brings the answer instead of the route's handler. share: the part of its
        time that counts as the cost of this answer.
        """
        cache = self._cache
        fork = request.fork()
        own = plan.wishes.read and plan.wishes.write
        lease: Lease | None = None
        if next is None:
            next = self._next
            if own and cache.leases is not None:
                lease = cache.leases.of(plan.key, next, lambda: self._brought(plan, fork))
                next = lease.call

        def landed(flight: Flight) -> None:
            if cache.flights.get(plan.key) is flight:
                del cache.flights[plan.key]
            if lease is not None and lease.found is not None:
                flight.entry = lease.found
            elif plan.wishes.write:
                self._store(plan, flight, lease, share)

        flight = Flight(cache.env, fork, next, cache.config.max_entry_bytes, landed)
        if lease is not None:
            lease.worth_waiting = lambda: flight.open
        if own:
            cache.flights[plan.key] = flight
        return flight

    async def _brought(self, plan: Plan, request: Request) -> Entry | None:
        """What another replica's call has brought by now."""
        entry = await self._cache.tiers.far(plan.key)
        if entry is None or (entry.vary and not matches(entry.vary, request.headers)):
            return None
        return entry if self._rules.use(entry, plan, self._cache.now()) is Use.FRESH else None

    def _refresh(self, plan: Plan, request: Request) -> None:
        """In the background, once however many ask."""
        request.has_stale = True
        if plan.wishes.write and plan.key not in self._cache.flights:
            self._take_off(plan, request)

    def _store(self, plan: Plan, flight: Flight, lease: Lease | None, share: float) -> None:
        cache = self._cache
        entry = None
        if flight.complete:
            response = flight.response
            assert response is not None
            entry = self._rules.entry(flight.request, plan, response, flight.recording, cache.now())
        keys: list[bytes] = []
        if entry is not None:
            entry = replace(entry, cost=flight.took * share, tags=tuple(cache.config.tags))
            keys = [key for key in (plan.key, plan.own_form) if key is not None]
            for key in keys:
                cache.tiers.keep(key, entry)
        if cache.tiers.stores and (entry is not None or lease is not None):
            cache.env.spawn(self._share(keys, entry, flight, lease), "cache store")

    async def _share(
        self, keys: list[bytes], entry: Entry | None, flight: Flight, lease: Lease | None
    ) -> None:
        shared = False
        if entry is not None:
            shared = all([await self._cache.tiers.share(key, entry) for key in keys])
        if lease is not None:
            # An answer that is not kept is no use to wait for; a call that failed may be redone.
            failed = flight.error is not None or flight.recording.error is not None
            await lease.release(nothing=not shared and not failed)


def _why(plan: Plan, entry: Entry | None) -> bytes:
    """Why the request goes on to the upstream (RFC 9211 section 2.2)."""
    if not plan.wishes.read:
        return b"fwd=request"
    return b"fwd=uri-miss" if entry is None else b"fwd=stale"


def _shared(config: CacheConfig, env: Env) -> Store | None:
    """The store behind memory. Raises ValueError where the file has none."""
    if "redis" not in config.stores:
        return None
    store = env.store("redis")
    if store is None:
        raise ValueError("`cache` is to use the store `redis`: add `stores: {redis: {url: …}}`")
    return store


def wall_clock(monotonic: Callable[[], float]) -> Callable[[], float]:
    """Wall-clock seconds that a step of the system's clock does not move: replicas share entries
    by wall-clock time, but within a process no answer may grow older or younger by a step.
    """
    offset = time.time() - monotonic()
    return lambda: monotonic() + offset
