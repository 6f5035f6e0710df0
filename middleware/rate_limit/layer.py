"""`rate_limit`: nobody takes more than their share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

from proxy.chain import Env, Handler, RouteInfo, Store
from proxy.errors import ProxyError, StoreDown
from proxy.exchange import Outcome, Request, Response

from ..core.quota import Limit, Quota, parse_limits
from .accounts import Memory, Shared
from .config import RateLimitConfig
from .fields import Fields
from .tokens import Meter, estimate, read
from .who import account_of

MAX_QUOTAS = 1024
"""Sets of limits that keys bring of their own, remembered; beyond, all are made anew."""

_KEEP_THEIRS = (101, 429, 503)
"""Answers whose limits are the upstream's own, and its to tell."""


class StoreUnavailable(ProxyError):
    """`on_store_error: closed`, and nobody can say what the client has left."""

    status = 503
    code = "rate_limit_unavailable"


class RateLimit:
    """Counts in `remora_rate_limit_total` and, by tokens, `remora_rate_limit_tokens_total`."""

    Config: ClassVar[type] = RateLimitConfig
    unique: ClassVar[bool] = False
    after = ("auth",)
    before = ("aggregate", "concurrency", "retry", "circuit_breaker")

    def __init__(self, config: RateLimitConfig, env: Env) -> None:
        self.config = config
        self.env = env
        self.memory = Memory(env.clock, config.max_keys)
        store = _shared(config, env)
        self.shared = None if store is None else Shared(store)
        self.everyone = self._made(config.limits, ",".join(config.key))
        self._own: dict[Sequence[str], tuple[Quota, Fields]] = {}
        self._tallies: dict[str, Counter[str]] = {}
        self._spent: dict[str, Counter[str]] = {}
        if config.enabled:
            self._count()

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        if not self.config.enabled:
            return next
        outcomes = self._tallies.setdefault(route.name, Counter())
        spent = self._spent.setdefault(route.name, Counter())
        return _Bound(self, route, outcomes, spent, next).handle

    def own(self, limits: tuple[str, ...]) -> tuple[Quota, Fields]:
        """What a key with these limits of its own is counted by. Raises ValueError."""
        known = self._own.get(limits)
        if known is None:
            if len(self._own) >= MAX_QUOTAS:
                self._own.clear()
            known = self._own[limits] = self._made(limits, "of its own")
        return known

    def _made(self, limits: Sequence[str], whose: str) -> tuple[Quota, Fields]:
        config = self.config
        parsed: list[Limit] = [limit for text in limits for limit in parse_limits(text)]
        quota = Quota(config.strategy, parsed, f"{config.name} {config.cost} {whose}")
        return quota, Fields(quota, config.name, config.cost)

    def _count(self) -> None:
        name, numbers, memory = self.config.name, self.env.numbers, self.memory

        def told(tallies: dict[str, Counter[str]]) -> Iterator[tuple[Sequence[str], float]]:
            for route, tally in tallies.items():
                for what, count in tally.items():
                    yield (route, name, what), count

        labels = ("route", "name", "outcome")
        numbers(
            "counter", "rate_limit", "Requests, by what became of them.", labels,
            partial(told, self._tallies),
        )  # fmt: skip
        numbers(
            "counter", "rate_limit_tokens", "Tokens reserved, and those then used.",
            ("route", "name", "what"), partial(told, self._spent),
        )  # fmt: skip
        numbers(
            "gauge", "rate_limit_keys", "Clients remembered in memory.", ("name",),
            lambda: [((name,), len(memory))],
        )  # fmt: skip
        numbers(
            "counter", "rate_limit_forgotten", "Clients that others needed the room of.",
            ("name",), lambda: [((name,), memory.forgotten)],
        )  # fmt: skip


class _Bound:
    """The layer in one route's chain."""

    def __init__(
        self,
        layer: RateLimit,
        route: RouteInfo,
        outcomes: Counter[str],
        spent: Counter[str],
        next: Handler,
    ) -> None:
        config = layer.config
        self._layer = layer
        self._config = config
        self._memory = layer.memory
        self._shared = layer.shared
        self._account = account_of(config.key, route)
        self._outcomes = outcomes
        self._spent = spent
        self._next = next
        self._by_tokens = config.cost == "tokens"
        self._reads = "model" in config.key
        self._tells = config.headers and not config.shadow

    async def handle(self, request: Request) -> Response:
        config, cost, meter = self._config, 1, None
        if self._by_tokens:
            expected = await estimate(
                request, config.max_request_bytes, config.default_max_tokens, not config.shadow
            )
            if expected is None:
                return await self._next(request)
            cost = expected.total
            meter = Meter(request, expected)
        elif self._reads:
            await read(request, config.max_request_bytes, refuses=False)
        identity = request.identity
        if identity is not None and identity.limits is not None and config.own_limits:
            if not identity.limits:
                return await self._next(request)
            quota, fields = self._layer.own(identity.limits)
            account = quota.id + identity.name.encode()
        else:
            quota, fields = self._layer.everyone
            account = quota.id + self._account(request)
        if cost > quota.most:
            self._over(fields.never(cost))
            return await self._next(request)
        shared = self._shared
        if shared is None:
            verdict = self._memory.take(account, quota, cost)
        else:
            try:
                verdict = await shared.take(account, quota, cost)
            except StoreDown:
                shared = None
                if config.on_store_error != "local":
                    self._unchecked()
                    return await self._next(request)
                verdict = self._memory.take(account, quota, cost)
        if not verdict.admitted:
            self._over(fields.refusal(verdict, cost, config.headers))
            return await self._next(request)
        self._outcomes["admitted"] += 1
        if meter is not None:
            self._spent["reserved"] += cost
            request.on_end(
                partial(self._settle, meter, shared, account, quota, verdict.marks, cost)
            )
        response = await self._next(request)
        if meter is not None:
            meter.answered(response)
        if self._tells and response.status not in _KEEP_THEIRS:
            response.headers = fields.put(response.headers, verdict)
        return response

    def _over(self, refusal: ProxyError) -> None:
        """Raises `refusal`; in the shadow only counts it."""
        if not self._config.shadow:
            self._outcomes["refused"] += 1
            raise refusal
        self._outcomes["shadowed"] += 1

    def _unchecked(self) -> None:
        if self._config.on_store_error == "closed" and not self._config.shadow:
            self._outcomes["refused"] += 1
            raise StoreUnavailable("the store of the rate limit does not answer", retry_after=1)
        self._outcomes["unchecked"] += 1

    def _settle(
        self,
        meter: Meter,
        shared: Shared | None,
        account: bytes,
        quota: Quota,
        marks: Sequence[int],
        reserved: int,
        outcome: Outcome,
    ) -> None:
        used = meter.used(outcome)
        self._spent["used"] += used
        if used == reserved:
            return
        if shared is None:
            self._memory.settle(account, quota, marks, used - reserved)
        else:
            self._layer.env.spawn(
                _settle(shared, account, quota, marks, used - reserved), "rate limit settle"
            )


async def _settle(
    shared: Shared, account: bytes, quota: Quota, marks: Sequence[int], delta: int
) -> None:
    try:
        await shared.settle(account, quota, marks, delta)
    except StoreDown:
        pass  # what was reserved stays so until its window is over; what is owed is lost


def _shared(config: RateLimitConfig, env: Env) -> Store | None:
    """The store that replicas share. Raises ValueError where the file has none."""
    if config.store == "memory":
        return None
    store = env.store("redis")
    if store is None:
        raise ValueError("`rate_limit` is to count in `redis`: add `stores: {redis: {url: …}}`")
    return store
