"""The layer in one route's chain: what is sent, judged, and sent again."""

from __future__ import annotations

import asyncio
import random
from time import time

from proxy.chain import Env, Handler
from proxy.errors import ProxyError, UpstreamClosed, UpstreamError, UpstreamTimeout
from proxy.exchange import IDEMPOTENT, Request, Response, Stream

from ..core.backoff import Backoff
from ..core.budget import RetryBudget
from ..core.http.retry_after import retry_after
from ..core.latencies import Latencies
from .attempt import Attempt, Original
from .config import HedgeKeys, RetryConfig
from .first_event import begins_well, is_event_stream
from .race import Making, Race
from .stats import Tally

_BUSY = (429, 503, 504)  # statuses with which a server says when to come back


class Retrying:
    """Makes attempts until what came is final, or no other may follow."""

    def __init__(
        self, config: RetryConfig, env: Env, next: Handler, budget: RetryBudget, tally: Tally
    ) -> None:
        self._config = config
        self._env = env
        self._clock = env.clock
        self._next = next
        self._budget = budget
        self._tally = tally
        self._statuses = frozenset(one for one in config.on if isinstance(one, int))
        self._reasons = frozenset(one for one in config.on if isinstance(one, str))
        self._looks = "stream" in self._reasons
        keys = config.backoff
        self._backoff = Backoff(keys.first, keys.factor, keys.cap, keys.jitter)
        self._hedge = config.hedge if isinstance(config.hedge, HedgeKeys) else None
        self._latencies = Latencies()

    async def handle(self, request: Request) -> Response:
        if request.upgrade is not None or request.want_continue is not None:
            return await self._next(request)
        if not isinstance(request.body, bytes):
            await self._take_in(request)
        began = self._clock()
        self._budget.offered(began)
        original = Original(request)
        if self._hedge is not None and self._may_hedge(request):
            return await self._hedged(original, began, self._hedge)
        self._tally.attempts += 1
        attempt = None
        try:
            response = await self._next(request)
        except UpstreamError as error:
            attempt = self._failed(Attempt(original), original, error)
            if attempt.reason is None:
                raise
        else:
            # One await for a request that goes well (tests/bench/costs.py).
            if response.status not in self._statuses and not self._may_look(request, response):
                return response
            attempt = await self._judged(Attempt(original), original, response)
        return await self._again(original, attempt, began, request.avoid, 1)

    # -- what is kept of a request

    async def _take_in(self, request: Request) -> None:
        """Reads a body of a size that is kept, and no other: the rest streams, and passes once."""
        length = request.header(b"content-length")
        if (
            length is not None
            and request.body is request.declared
            and int(length) <= self._config.max_body
        ):
            await request.read(self._config.max_body)

    def _may_repeat(self, original: Original) -> bool:
        """Whether it may be sent once more though the server may have seen it."""
        if not isinstance(original.body, bytes):
            return False
        if self._config.repeat == "all" or original.request.method in IDEMPOTENT:
            return True
        asked = original.unchanged
        return asked.api.repeatable(asked)

    # -- attempts

    async def _again(
        self,
        original: Original,
        attempt: Attempt,
        began: float,
        avoid: frozenset[str],
        sent: int,
    ) -> Response:
        """Goes on behind an attempt, until one is final or no other may follow."""
        failures = 1
        while (reason := attempt.reason) is not None:
            wait = attempt.wait + self._backoff.wait(failures, random.random())
            if not self._may_retry(began, wait, sent):
                break
            avoid |= {attempt.request.endpoint}
            attempt.give_up()
            await asyncio.sleep(wait)
            self._tally.retried(reason)
            attempt = await self._make(original, original.fork(avoid))
            sent += 1
            failures += 1
        return attempt.hand_over(sent, self._config.headers)

    def _may_retry(self, began: float, wait: float, sent: int) -> bool:
        now = self._clock()
        why = None
        if sent >= self._config.attempts:
            why = "attempts"
        elif self._config.timeout is not None and now + wait - began > self._config.timeout:
            why = "timeout"
        elif not self._budget.take(now):
            why = "budget"
        if why is not None:
            self._tally.given_up[why] += 1
        return why is None

    async def _make(self, original: Original, fork: Request | None) -> Attempt:
        """One attempt, judged; with the client's own request where there is no fork."""
        self._tally.attempts += 1
        attempt = Attempt(original, fork)
        try:
            try:
                response = await self._next(attempt.request)
            except ProxyError as error:
                return self._failed(attempt, original, error)
            return await self._judged(attempt, original, response)
        except BaseException as error:
            attempt.give_up(cancelled=isinstance(error, asyncio.CancelledError))
            raise

    def _failed(self, attempt: Attempt, original: Original, error: ProxyError) -> Attempt:
        # Kept with its frames, which hold the attempt, it would be garbage in a circle.
        attempt.error = error.with_traceback(None)
        if isinstance(error, UpstreamError):
            attempt.reason = self._reason_of(original, error)
        return attempt

    def _reason_of(self, original: Original, error: UpstreamError) -> str | None:
        if not error.sent:
            body = original.body
            if "connect" in self._reasons and not (isinstance(body, Stream) and body.piped):
                return "connect"
            return None
        for reason, kind in (("reset", UpstreamClosed), ("timeout", UpstreamTimeout)):
            if isinstance(error, kind) and reason in self._reasons and self._may_repeat(original):
                return reason
        return None

    def _may_look(self, request: Request, response: Response) -> bool:
        """Whether this is the event stream of a model, whose beginning tells how it goes."""
        return (
            self._looks
            and response.status == 200
            and request.method == b"POST"
            and is_event_stream(response)
        )

    async def _judged(self, attempt: Attempt, original: Original, response: Response) -> Attempt:
        attempt.response = response
        if response.status in self._statuses:
            self._judge_status(attempt, original, response)
        elif self._may_look(original.request, response) and self._may_repeat(original):
            try:
                api = original.unchanged.api
                if not await begins_well(response, api, self._config.first_event):
                    attempt.reason = "stream"
            except ProxyError as error:
                # The head has not left: this can still be told as an error.
                attempt.error = error.with_traceback(None)
                attempt.reason = "stream"
        return attempt

    def _judge_status(self, attempt: Attempt, original: Original, response: Response) -> None:
        status = response.status
        wait = None
        if status in _BUSY:
            wait = retry_after(response.header(b"retry-after"), time())
        if not self._may_repeat(original) or (status == 429 and wait is None):
            return
        if wait is not None:
            if wait > self._config.max_retry_after:
                self._tally.given_up["retry_after"] += 1
                return
            attempt.wait = wait
        attempt.reason = str(status)

    # -- hedging

    def _may_hedge(self, request: Request) -> bool:
        return isinstance(request.body, bytes) and request.api.deterministic(request)

    async def _hedged(self, original: Original, began: float, keys: HedgeKeys) -> Response:
        request = original.request
        after = self._hedge_after(keys)
        fork: Request | None = None

        def second() -> Making | None:
            nonlocal fork
            if not self._budget.take(self._clock()):
                self._tally.hedges["no_budget"] += 1
                return None
            self._tally.hedges["sent"] += 1
            fork = original.fork(request.avoid | {request.endpoint})
            return self._make(original, fork)

        first = self._make(original, None)
        attempt = await (first if after is None else Race(self._env, second).run(first, after))
        if attempt.good:
            # Where the second try has won, the first would have taken longer: how much is not
            # known, but it is behind the quantile, which thus stays where it is.
            self._latencies.add(self._clock() - began)
        avoid, sent = request.avoid, 1
        if fork is not None:
            avoid |= {request.endpoint, fork.endpoint}
            sent = 2
            if attempt.request is fork:
                self._tally.hedges["won"] += 1
        return await self._again(original, attempt, began, avoid, sent)

    def _hedge_after(self, keys: HedgeKeys) -> float | None:
        """Seconds until a second try; None: not yet known."""
        if keys.quantile is None:
            return keys.seconds
        if len(self._latencies) < keys.min_calls:
            return None
        return self._latencies.quantile(keys.quantile)
