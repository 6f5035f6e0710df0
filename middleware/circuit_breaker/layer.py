"""`circuit_breaker`: an endpoint that fails or has become slow is left alone for a while."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import ClassVar

from pybreaker import STATE_CLOSED, STATE_OPEN

from proxy.chain import Env, Handler, RouteInfo
from proxy.errors import (
    Unavailable,
    UpstreamClosed,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from proxy.exchange import Body, Outcome, Request, Response

from ..core.call import Call
from ..core.circuit import Circuit
from ..core.http.retry_after import retry_after
from .circuits import Circuits, Place
from .config import CircuitBreakerConfig
from .offered import BreakerControl, Tally
from .shared import Shared

log = logging.getLogger("remora")

_BROKE_OFF = (UpstreamClosed, UpstreamProtocolError, UpstreamTimeout)
"""How an answer fails behind its head. Other errors are of layers that could not use it."""


class CircuitOpen(Unavailable):
    """The upstream has failed of late and is not asked for now; nothing was sent."""

    code = "circuit_open"


class CircuitBreaker:
    """Judges each call by what became of it, and makes none where too many ended badly."""

    Config: ClassVar[type] = CircuitBreakerConfig
    after = (
        "auth", "rate_limit", "compress", "transcode", "cache", "prefetch", "aggregate",
        "concurrency", "retry",
    )  # fmt: skip

    def __init__(self, config: CircuitBreakerConfig, env: Env) -> None:
        self.config = config
        self.clock = env.clock
        self._env = env
        self.fallback: Handler | None = None
        if config.enabled and config.fallback is not None:
            self.fallback = env.upstream(config.fallback)
            if self.fallback is None:
                raise ValueError(f"there is no upstream `{config.fallback}` to fall back to")
        self.circuits = Circuits(config.rules, self._changed, config.store != "memory")
        self.shared: Shared | None = None
        if config.enabled and config.store != "memory":
            store = env.store(config.store)
            if store is None:
                raise ValueError(
                    "`circuit_breaker` is to use the store `redis`: add `stores: {redis: {url: …}}`"
                )
            self.shared = Shared(store, env.clock, self.circuits)
        self.tallies: list[Tally] = []

    async def start(self) -> None:
        if not self.config.enabled:
            return
        BreakerControl(self.config.scope, self.circuits, self.tallies, self.clock).offer(self._env)
        if self.shared is not None:
            self._env.background(self.shared.keep_in_step(), "circuit breakers of other replicas")

    async def stop(self) -> None:
        pass

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        if not self.config.enabled:
            return next
        tally = Tally(route.name, route.upstream)
        self.tallies.append(tally)
        scope = self.config.scope
        place = self.circuits.place("" if scope == "upstream" else route.name, route.upstream)
        bound = _Bound(self, place, tally, next)
        return bound.by_endpoint if scope == "endpoint" else bound.as_one

    def _changed(self, circuit: Circuit, old: str, new: str, why: str, told: bool) -> None:
        for_s = ""
        if new == STATE_OPEN and not circuit.held:
            for_s = f" for {circuit.until - self.clock():.3g} s"
        log.warning("circuit breaker of %s: %s%s: %s", circuit.name, new, for_s, why)
        if self.shared is not None and not told:
            self.shared.changed(circuit, new)


class _Gate:
    """One request's: what the balancer asks, and tells."""

    __slots__ = ("_body", "_bound", "_circuits", "_now", "call", "retry_after")

    def __init__(self, bound: _Bound, body: Body) -> None:
        self._bound = bound
        self._circuits = bound.place.circuits
        self._body = body
        self._now: float | None = None
        """When it was first asked: a balancer may have waited for the request's body before."""
        self.call: Call | None = None
        self.retry_after: float | None = None
        """Seconds after which the first of the endpoints that were refused may be asked again."""

    def admits(self, endpoint: str) -> bool:
        now = self._now
        if now is None:
            now = self._now = self._bound.clock()
        circuit = self._circuits.get(endpoint)
        if circuit is not None and circuit.state == STATE_CLOSED and now < circuit.overdue.look_at:
            return True  # what nearly all find, in one call (tests/bench: costs)
        circuit = circuit or self._bound.place.circuit(endpoint, now)
        if circuit is None or circuit.admits(now):
            return True
        wait = circuit.wait(now)
        if self.retry_after is None or wait < self.retry_after:
            self.retry_after = wait
        return False

    def chosen(self, endpoint: str) -> None:
        now = self._now
        assert now is not None, "`admits` comes first"
        if self.call is not None:  # another one was chosen first, and not asked
            self.call.circuit.left(self.call, now)
        circuit = self._circuits.get(endpoint) or self._bound.place.circuit(endpoint, now)
        self.call = None if circuit is None else self._bound.take(circuit, self._body, now)


class _Bound:
    """The layer in one route's chain."""

    def __init__(self, layer: CircuitBreaker, place: Place, tally: Tally, next: Handler) -> None:
        self.place = place
        self._tally = tally
        self._next = next
        self.clock = layer.clock
        self._neutral = frozenset(layer.config.neutral)
        same = layer.config.fallback == tally.upstream
        self._fallback = None if same else layer.fallback

    async def by_endpoint(self, request: Request) -> Response:
        """The balancer is told which endpoints it may choose, and tells which one it did."""
        gate = _Gate(self, request.body)
        request.gate = gate
        try:
            response = await self._next(request)
        except BaseException as error:
            if gate.call is not None:
                self._raised(gate.call, error)
            elif gate.retry_after is not None and _found_none(error):
                return await self._refused(request, gate.retry_after)
            raise
        if gate.call is not None:
            self._judge(gate.call, request, response)
        return response

    async def as_one(self, request: Request) -> Response:
        """All endpoints have one circuit."""
        now = self.clock()
        circuit = self.place.circuit("", now)
        if circuit is None:
            return await self._next(request)
        if not circuit.admits(now):
            return await self._refused(request, circuit.wait(now))
        call = self.take(circuit, request.body, now)
        try:
            response = await self._next(request)
        except BaseException as error:
            self._raised(call, error)
            raise
        self._judge(call, request, response)
        return response

    async def _refused(self, request: Request, wait: float) -> Response:
        self._tally.refused += 1
        # What an outer layer has stored is this upstream's own answer: better than another's.
        if self._fallback is not None and not request.has_stale:
            self._tally.fell_back += 1
            request.gate = None
            return await self._fallback(request)
        raise CircuitOpen(
            "the upstream has failed of late and is not asked for now", retry_after=wait
        ) from None

    def take(self, circuit: Circuit, body: Body, now: float) -> Call:
        if isinstance(body, bytes) or body.done:
            return circuit.take(now)
        call = circuit.take(now, sent=False)
        body.on_done(partial(self._sent, call))
        return call

    def _sent(self, call: Call) -> None:
        call.circuit.sent(call, self.clock())

    def _raised(self, call: Call, error: BaseException) -> None:
        if isinstance(error, UpstreamError):
            call.circuit.failed(call, self.clock())
        else:  # the client left, a bound of remora's own was reached, or a layer has a bug
            call.circuit.left(call, self.clock())

    def _judge(self, call: Call, request: Request, response: Response) -> None:
        """By the head; what is still to come is judged as it comes."""
        circuit = call.circuit
        status = response.status
        if status in self._neutral:
            wish = retry_after(response.header(b"retry-after"), time.time())
            circuit.pushed_back(call, self.clock(), wish)
            return
        if status >= 500:
            if request.accuses(status):
                wish = retry_after(response.header(b"retry-after"), time.time())
                circuit.failed(call, self.clock(), wish)
            else:
                circuit.left(call, self.clock())
            return
        body = response.body
        if isinstance(body, bytes):
            circuit.answered(call, self.clock())
            return
        if response.declared is body:
            circuit.answered(call, self.clock())
        else:
            # The head of an answer of unknown length may leave before anything is computed.
            body.on_first(partial(self._begun, call))
        request.on_end(partial(self._ended, call))

    def _begun(self, call: Call) -> None:
        call.circuit.answered(call, self.clock())

    def _ended(self, call: Call, outcome: Outcome) -> None:
        if isinstance(outcome.error, _BROKE_OFF):
            call.circuit.failed(call, self.clock())
        elif call.begun:
            return
        elif outcome.cancelled or outcome.error is not None:
            call.circuit.left(call, self.clock())
        else:
            call.circuit.answered(call, self.clock())


def _found_none(error: BaseException) -> bool:
    """Whether the balancer had no endpoint left to choose."""
    return isinstance(error, Unavailable) and error.code == "no_endpoint"
