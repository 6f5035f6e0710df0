"""Calls about several items: what is known is put together with what is not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from proxy.apis.items import Answer, Parted
from proxy.chain import Handler
from proxy.errors import ProxyError
from proxy.exchange import Request, Response

from ..core.http.freshness import current_age
from ..core.http.reuse import ERRORS
from ..core.http.vary import matches
from .flight import Flight
from .items import Joined, Refused, Single, Unshared, copy_of, landed, singles
from .rules import ModelRules, Plan, Use
from .stats import Tally

if TYPE_CHECKING:
    from .layer import Cache

log = logging.getLogger("remora")

ODD_ANSWERS = 3
"""Answers in a row that are not taken apart, after which such calls are looked up whole."""

MAX_ODD = 256
"""Targets and models of a route with such answers; with one more all are forgotten."""

TakeOff = Callable[[Plan, Request, Handler | None, float], Flight]
Refresh = Callable[[Plan, Request], None]

# What a head says of one body and not of another that is made of its parts.
_OF_THE_BODY = frozenset(
    (b"etag", b"last-modified", b"content-digest", b"repr-digest", b"digest", b"content-md5")
)


class ItemCalls:
    """Answers calls about several items, in one route's chain."""

    def __init__(
        self,
        cache: Cache,
        rules: ModelRules,
        tally: Tally,
        next: Handler,
        take_off: TakeOff,
        refresh: Refresh,
    ) -> None:
        self._cache = cache
        self._rules = rules
        self._tally = tally
        self._next = next
        self._take_off = take_off
        self._refresh = refresh
        self._odd: dict[tuple[bytes, str], int] = {}
        """Such answers in a row, by target and model."""

    async def answer(self, request: Request, plan: Plan) -> Response | None:
        """None: this call is about one item, or it or its answer cannot be taken apart."""
        kind = request.target, plan.model
        if self._odd.get(kind, 0) >= ODD_ANSWERS:
            return None
        parted = request.api.parts(request)
        if parted is None or len(parted.items) < 2:
            return None
        alone = singles(request, parted, plan, self._rules)
        if alone is None:
            return None
        rest = await self._look_up(request, alone)
        asked = [one for one in alone if one.answer is None]
        hits = len(alone) - len(asked)
        if not asked:
            self._tally.hits += 1
            return self._joined(parted, alone, rest, hits, b"hit")
        if plan.wishes.only_if_cached:
            self._cache.not_stored(request)
        request.has_stale = all(one.old is not None for one in asked)
        why = b'fwd=partial; detail="%d of %d"' % (hits, len(alone)) if hits else b"fwd=uri-miss"
        try:
            rest = await self._bring(request, parted, asked) or rest
        except Unshared:
            return None
        except ProxyError as error:
            if request.has_stale and error.status >= 500:
                return self._stale(parted, alone, asked)
            self._tally.misses += 1
            raise
        except Refused as refused:
            status = refused.response.status
            if request.has_stale and status in ERRORS:
                return self._stale(parted, alone, asked)
            if status < 400:
                self._answered_oddly(kind)
                return None
            self._tally.misses += 1
            if refused.about_items and (hits or len(alone) < len(parted.items)):
                # What the server says to this very call, its places counted right.
                return self._told(await self._next(request), b"fwd=miss")
            return self._told(refused.response, b"fwd=miss")
        for one in asked:
            one.age = 0.0
        self._odd.pop(kind, None)
        self._tally.misses += 1
        self._tally.item_misses += len(asked)
        return self._joined(parted, alone, rest, hits, why)

    def _stale(self, parted: Parted, alone: Sequence[Single], asked: Sequence[Single]) -> Response:
        """What is stored of all of them, in the place of the server's failure."""
        rest = None
        for one in asked:
            assert one.old is not None
            one.answer, rest = one.old.answers[0], one.old.rest
        self._tally.stale += 1
        return self._joined(parted, alone, rest, len(alone), b"hit; fwd=stale")

    def _joined(
        self, parted: Parted, alone: Sequence[Single], rest: Response | None, hits: int,
        status: bytes,
    ) -> Response:  # fmt: skip
        """All answers in one. hits: how many of them were stored."""
        self._tally.item_hits += hits
        assert rest is not None
        answers = {one.item.key: one.answer for one in alone}
        response = parted.join(rest, [cast(Answer, answers[item.key]) for item in parted.items])
        response.headers = [
            pair for pair in response.headers if pair[0].lower() not in _OF_THE_BODY
        ]
        if hits and self._cache.config.headers:
            response.headers.append((b"age", b"%d" % max(one.age for one in alone)))
        return self._told(response, status)

    def _answered_oddly(self, kind: tuple[bytes, str]) -> None:
        """Each such call is asked twice, so not many of them are made."""
        odd = self._odd.pop(kind, 0) + 1
        if len(self._odd) >= MAX_ODD:
            self._odd.clear()
        self._odd[kind] = odd
        if odd == ODD_ANSWERS:
            log.warning(
                "%d answers in a row could not be taken apart by item: from now on the cache "
                "looks whole calls of their target and model up", ODD_ANSWERS,
            )  # fmt: skip

    def _told(self, response: Response, status: bytes) -> Response:
        return self._cache.answers.tell(response, status)

    async def _look_up(self, request: Request, alone: Sequence[Single]) -> Response | None:
        """Sets the answers that are stored. What an answer is made of besides."""
        cache = self._cache
        tiers = cache.tiers
        entries = [tiers.near(one.plan.key) for one in alone]
        if tiers.stores:
            far = [one.plan.key for one, entry in zip(alone, entries, strict=True) if entry is None]
            found = dict(zip(far, await tiers.far_many(far), strict=True))
            entries = [
                entry or found[one.plan.key] for one, entry in zip(alone, entries, strict=True)
            ]
        rest = None
        now = cache.now()
        for one, entry in zip(alone, entries, strict=True):
            if entry is None or (entry.vary and not matches(entry.vary, request.headers)):
                continue
            use = self._rules.use(entry, one.plan, now)
            if use is Use.NONE:
                continue
            stored = Response(entry.status, entry.headers, entry.body, entry.reason)
            shares = one.parted.split(stored, (one.item,))
            if shares is None:
                continue
            one.age = current_age(entry.age, entry.stored_at, now)
            if use is Use.IF_ERROR:
                one.old = shares
                continue
            one.answer = shares.answers[0]
            rest = shares.rest
            cache.stats.used(one.plan.key, entry)
            if use is Use.STALE:
                self._refresh(one.plan, one.request)
        return rest

    async def _bring(
        self, request: Request, parted: Parted, asked: Sequence[Single]
    ) -> Response | None:
        """Sets the other answers. Raises Unshared, Refused, or what a call failed with."""
        cache = self._cache
        own: list[Single] = []
        for one in asked:
            flight = cache.flights.get(one.plan.key) if cache.config.coalesce != "off" else None
            if flight is not None and flight.open:
                one.flight = flight
            else:
                own.append(one)
        joined = Joined(cache.env, self._next, request, parted, own) if own else None
        for one in own:
            assert joined is not None
            one.mine = True
            share = 1 / len(own)
            one.flight = self._take_off(one.plan, one.request, joined.handler(one), share)
        rest: Response | None = None
        places = [(one.flight, one.flight.board()) for one in asked if one.flight is not None]
        try:
            for one, (_, place) in zip(asked, places, strict=True):
                rest = await landed(one, place) or rest
        finally:
            for flight, place in places:
                flight.leave(place)
        if joined is not None:
            if joined.refused is not None:
                raise Refused(copy_of(joined.refused))
            rest = joined.rest
        return rest
