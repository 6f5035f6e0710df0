"""Several questions in one call: each is looked up, stored and shared by itself.

A call about n items is looked up as n calls about one. Those that are not known go on in one call;
what it brings is taken apart, and each item's answer is stored as if it had been asked for alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from proxy.apis.items import Answer, Item, Parted, Shares
from proxy.chain import Env, Handler
from proxy.errors import BodyTooLarge, ProxyError, UpstreamError
from proxy.exchange import Request, Response, Stream

from .flight import Flight
from .rules import PERSONAL, ModelRules, Plan, for_others

# What a call was refused for may be the fault of one item among many.
_ABOUT_ITEMS = frozenset((400, 404, 413, 415, 422, 500))

MAX_ANSWER = 256 * 1024 * 1024
"""Bytes of an answer to several items, which is taken apart in memory."""


class AnswerTooLarge(UpstreamError):
    """The server's answer to several items is over MAX_ANSWER."""

    code = "upstream_answer_too_large"


class Single:
    """One item of a call, as a call of its own."""

    __slots__ = ("age", "answer", "flight", "item", "mine", "old", "parted", "plan", "request")

    def __init__(self, item: Item, request: Request, parted: Parted, plan: Plan) -> None:
        self.item = item
        self.request = request
        self.parted = parted
        self.plan = plan
        self.answer: Answer | None = None
        self.old: Shares | None = None
        """What is stored, where it may be given in the place of an error alone."""
        self.age = 0.0
        """Of what is stored, in seconds."""
        self.flight: Flight | None = None
        self.mine = False
        """Its flight is one of this client's own call."""


def singles(request: Request, parted: Parted, plan: Plan, rules: ModelRules) -> list[Single] | None:
    """Each different item as a call of its own; None where one of them would not be cached."""
    found: dict[bytes, Single] = {}
    for item in parted.items:
        if item.key in found:
            continue
        call = parted.call((item,))
        single = request.fork(call.body)
        single.headers = list(call.headers)
        alone = request.api.parts(single)
        own = rules.plan_read(single)
        if alone is None or own is None:
            return None
        found[item.key] = Single(item, single, alone, replace(own, wishes=plan.wishes))
    return list(found.values())


class Joined:
    """The items that nobody has, in one call: each one's flight gets its own answer out of it.

    It ends with the last flight that waits for it.
    """

    def __init__(
        self, env: Env, next: Handler, request: Request, parted: Parted, asked: Sequence[Single]
    ) -> None:
        self.rest: Response | None = None
        """What an answer to the whole request is made of, besides the items."""
        self.refused: Response | None = None
        """The answer, where it is none that can be taken apart."""
        self._next = next
        self._asked = asked
        call = parted.call([one.item for one in asked])
        self._parted = parted
        # Where nothing is known of any of them, the client's own bytes go on.
        same = len(asked) == len(parted.items)
        self._request = request.fork(None if same else call.body)
        self._request.headers = list(call.headers)
        self._request.declared = None  # those headers count nothing
        self._failed: ProxyError | None = None
        self._waiting = len(asked)
        self._task = env.spawn(self._call(), "cache items")

    def handler(self, single: Single) -> Handler:
        """What the flight of an item calls."""

        async def one(request: Request) -> Response:
            try:
                await asyncio.shield(self._task)
            finally:
                self._waiting -= 1
                if not self._waiting and not self._task.done():
                    self._task.cancel()
            if self._failed is not None:
                raise self._failed.with_traceback(None)
            if single.answer is None:
                assert self.refused is not None and single.flight is not None
                single.flight.unshare()
                return copy_of(self.refused)
            assert self.rest is not None
            response = single.parted.join(self.rest, (single.answer,))
            assert isinstance(response.body, bytes)
            response.headers.append((b"content-length", b"%d" % len(response.body)))
            response.declared = response.body
            return response

        return one

    async def _call(self) -> None:
        request = self._request
        try:
            response = await self._next(request)
            request.outcome.status = response.status
            body = await _whole(response)
            response.body = body
            shares = None
            if response.status == 200:
                shares = self._parted.split(response, [one.item for one in self._asked])
            if shares is None:
                self.refused = response
                return
            self.rest = shares.rest
            for one, answer in zip(self._asked, shares.answers, strict=True):
                one.answer = answer
        except ProxyError as error:
            # Told by the flights: a task that fails is taken for a bug, and logged.
            request.outcome.error = self._failed = error
        except asyncio.CancelledError:
            request.outcome.cancelled = True
            raise
        finally:
            request.finish()


class Refused(Exception):
    """The server's answer is none that can be taken apart."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response

    @property
    def about_items(self) -> bool:
        """Whether the call may have been refused for one of its items."""
        return self.response.status in _ABOUT_ITEMS or self.response.status < 400


class Unshared(Exception):
    """What another's call brought is no answer to an item of this one: ask for all of it."""


async def landed(single: Single, place: asyncio.Future[Response]) -> Response | None:
    """Waits for the item's flight. What an answer is made of besides items, where the flight is
    another client's. Raises Unshared, or what the call failed with.
    """
    try:
        response = await place
    except ProxyError as error:
        if not single.mine and error.status in PERSONAL:
            raise Unshared from None
        raise
    if single.mine:
        return None
    response.body = await _whole(response)
    response.headers = for_others(response.headers)
    shares = None
    assert single.flight is not None
    if response.status == 200 and single.flight.shareable:
        shares = single.parted.split(response, (single.item,))
    if shares is None:
        raise Unshared
    single.answer = shares.answers[0]
    return shares.rest


async def _whole(response: Response) -> bytes:
    body = response.body
    if isinstance(body, Stream):
        try:
            body = await body.read_all(MAX_ANSWER)
        except BodyTooLarge:
            raise AnswerTooLarge(f"the server's answer is over {MAX_ANSWER} bytes") from None
    for one in response.filters:
        body = (one.feed(body) if body else b"") + one.end()
    response.filters = []
    return body


def copy_of(response: Response) -> Response:
    copy = Response(response.status, list(response.headers), response.body, response.reason)
    if response.declared is not None:
        copy.declared = copy.body
    return copy
