"""The way to one upstream: starts what the plan says may go, and tells clients what came of it."""

from __future__ import annotations

import asyncio
import math
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from proxy.chain import Env, Handler
from proxy.errors import BodyTooLarge, ProxyError, UpstreamError
from proxy.exchange import Request, Response, Stream, header

from ..core.batch.plan import Plan
from ..core.batch.queue import Batch, Group, unlike
from ..core.batch.trial import speaks_of_items
from .client import Client, QueueFull, QueueTimeout
from .fields import common, shared
from .stats import Tally

if TYPE_CHECKING:
    from .lone import Lone

MIN_TIMER = 0.001
"""Seconds: the loop's clock counts milliseconds, and may be behind the plan's by one."""


class AnswerTooLarge(UpstreamError):
    """The answer to a shared call is over `max_answer_bytes`."""

    code = "batch_answer_too_large"


class AnswerUnclear(UpstreamError):
    """The answer to a shared call does not have one for each item."""

    code = "batch_answer_unclear"


class Road:
    """Of a route: where a group's requests go, and where they are counted."""

    __slots__ = ("next", "tally")

    def __init__(self, next: Handler, tally: Tally) -> None:
        self.next = next
        self.tally = tally


class Lane:
    """One upstream's queue, and the calls under way to it. Each call is a task of its own and
    belongs to no client; it is cancelled when the last one has left.
    """

    def __init__(self, env: Env, plan: Plan, max_answer_bytes: int) -> None:
        self.plan = plan
        self.clock = env.clock
        self.cancelled = 0
        """Calls that every client had left."""
        self.lone: Lone | None = None
        """Under way and not taken apart yet."""
        self.unknown = Group(None)
        """Its group, until then."""
        self._env = env
        self._max_answer_bytes = max_answer_bytes
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Asked for once: that is a system call in Python 3.11."""
        return asyncio.get_running_loop()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = math.inf

    # -- clients

    def join(self, client: Client, patience: float | None) -> None:
        """Queues the client's items. Raises QueueFull."""
        plan, now = self.plan, self.clock()
        first = not plan.queued
        if not plan.arrive(client, now, patience):
            wait = max(1.0, plan.pace.seconds(plan.queued))
            raise QueueFull(f"{plan.queued} items wait already", retry_after=math.ceil(wait))
        due = plan.due(client.group, now)
        if due <= now:
            self.pump()
        elif first or due < self._timer_at:
            self._arm()

    def leave(self, client: Client) -> None:
        """The client wants no answer any more, or has one; what is done for it alone is ended."""
        for batch in self.plan.depart(client):
            if batch.task is not None:
                self.cancelled += 1
                batch.task.cancel()
            elif batch.alone is client:  # told to go, and gone
                self.over(batch, ok=False)
        if self._timer is not None and not self.plan.queued:
            self._arm()

    # -- batches

    def over(self, batch: Batch, ok: bool) -> None:
        """A batch has ended; others may go."""
        self.plan.ended(batch, self.clock(), ok)
        if self.plan.queued or self.plan.waits:
            self.pump()

    def pump(self) -> None:
        """Starts what may go."""
        plan = self.plan
        while (batch := plan.next(self.clock())) is not None:
            for job in batch.jobs:
                if cast(Client, job).first is None:
                    cast(Client, job).first = batch.began
            if batch.alone is not None:
                cast(Client, batch.alone).tell(batch)
            else:
                road: Road = batch.group.told
                road.tally.call(batch.sent)
                road.tally.duplicates += len(batch.entries) - batch.sent
                batch.task = self._env.spawn(self._call(batch), "aggregate call")
                batch.task.add_done_callback(lambda task, batch=batch: self._never_ran(batch))
        self._arm()

    async def _call(self, batch: Batch) -> None:
        group = batch.group
        ok = False
        fork: Request | None = None
        try:
            entries = [entry for entry in batch.entries if entry.job in batch.jobs]
            if not entries:
                return  # all are being sent alone
            items = unlike(entries)
            first = cast(Client, entries[0].job)
            parted = first.parted
            call = parted.call(items)
            fork = first.request.fork(call.body)
            fork.on_trial = self.plan.on_trial(batch)
            fork.has_stale = all(cast(Client, job).request.has_stale for job in batch.jobs)
            fork.headers = call.headers if len(batch.jobs) == 1 else shared(call.headers)
            del first  # its client may leave
            response = await self._ask(group, fork)
            shares = parted.split(response, items) if 200 <= response.status < 300 else None
            if shares is not None:
                ok = True
                answers = dict(zip([item.key for item in items], shares.answers, strict=True))
                self._answered(batch, shares.rest, answers, fork.endpoint)
            elif 200 <= response.status < 300:
                unclear = AnswerUnclear("the upstream's answer does not have one for each item")
                self._failed(batch, 422, unclear)
            else:
                self._failed(batch, response.status, response)
        except asyncio.CancelledError:
            if fork is not None:
                fork.outcome.cancelled = True
            self._tell(batch, ConnectionAbortedError("the shared call was cancelled"))
            raise
        except BodyTooLarge:
            self._failed(batch, 413, AnswerTooLarge("the upstream's answer is too large"))
        except Exception as error:
            if fork is not None and isinstance(error, ProxyError):
                fork.outcome.error = error
            self._tell(batch, error)
        finally:
            if fork is not None:
                fork.outcome.last_byte = monotonic()
                fork.finish()
            batch.task = None
            self.over(batch, ok)

    async def _ask(self, group: Group, fork: Request) -> Response:
        """The whole answer, its body in memory. Raises BodyTooLarge."""
        road: Road = group.told
        response = await road.next(fork)
        outcome = fork.outcome
        outcome.status = response.status
        outcome.first_byte = monotonic()
        body = response.body
        if isinstance(body, Stream):
            try:
                body = await body.read_all(self._max_answer_bytes)
            except BaseException:
                response.body.abort()  # type: ignore[union-attr]
                raise
        for one in response.filters:
            body = (one.feed(body) if body else b"") + one.end()
        if len(body) > self._max_answer_bytes:
            raise BodyTooLarge("the answer is too large")
        outcome.bytes_sent = len(body)
        response.body = body
        response.filters = []
        return response

    def _answered(
        self, batch: Batch, rest: Response, answers: dict[bytes, Any], endpoint: str
    ) -> None:
        echoed = header(rest.headers, b"x-request-id") is not None
        if len(batch.jobs) > 1:
            rest.headers = common(rest.headers)
        for number, job in enumerate(batch.jobs):
            client = cast(Client, job)
            client.rest = rest
            client.number = number
            client.echoed = echoed and len(batch.jobs) > 1
            client.size = batch.sent
            client.request.endpoint = endpoint
        for entry in batch.entries:
            if entry.job in batch.jobs:
                client = cast(Client, entry.job)
                client.answer(entry.index, answers[entry.item.key])
                if not client.missing:
                    client.tell(None)

    def _failed(self, batch: Batch, status: int, answer: Response | Exception) -> None:
        """The server refused the call. Whoever is to be blamed is found, where that can be."""
        if not (speaks_of_items(status) and self.plan.divide(batch, status)):
            for part in self.plan.given_up(batch):
                self._tell(part, answer)
            self._tell(batch, answer)

    def _tell(self, batch: Batch, what: Response | Exception) -> None:
        """All of a batch's clients get what it failed with, and nothing more is done for them."""
        clients = [cast(Client, job) for job in batch.jobs]
        echoed = False
        if isinstance(what, Response) and len(clients) > 1:
            echoed = header(what.headers, b"x-request-id") is not None
            what.headers = common(what.headers)
        for client in clients:
            client.echoed = echoed
            client.size = batch.sent
            client.tell(what)
            client.batches.pop(batch, None)  # it ends by itself; what else is done for them is not
            self.leave(client)

    def _never_ran(self, batch: Batch) -> None:
        """A task that is cancelled before its first step runs none of its own clauses."""
        if batch.task is not None:
            batch.task = None
            self._tell(batch, ConnectionAbortedError("the shared call was cancelled"))
            self.over(batch, ok=False)

    # -- time

    def _arm(self) -> None:
        now = self.clock()
        at = self.plan.wake(now)
        if at is None:
            self.stop()
            return
        if self._timer is not None:
            if self._timer_at == at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self.loop.call_later(max(MIN_TIMER, at - now), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        for job in self.plan.expired(self.clock()):
            client = cast(Client, job)
            client.tell(QueueTimeout("the upstream had no time for it"))
            self.leave(client)
        self.pump()
