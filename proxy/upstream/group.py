"""An upstream at work: its endpoints as they come, go, fail and return."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from random import uniform
from typing import Any

from .. import config
from ..chain import Env, Handler
from . import names
from .balance import Balancer
from .checks import Check
from .ejection import may_leave
from .endpoint import Endpoint, endpoints
from .member import STATES, Member
from .pool import Pool

log = logging.getLogger("remora")

JITTER = 0.1
"""Share of an interval by which checks and look-ups are early or late: replicas spread out."""


class Group:
    """name: the upstream's. host: `preserve` the client's Host, or the `upstream`'s own.

    handler: the end of a chain. One endpoint that nothing watches is its pool's own method:
    nothing to choose.
    """

    def __init__(
        self, name: str, upstream: config.Upstream, host: str, env: Env,
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self.name = name
        self._upstream = upstream
        self._env = env
        self._loop = loop
        self._written = endpoints(name, upstream)
        self.members: list[Member] = [self._member(one) for one in self._written]
        self._following: dict[str, list[Member]] = {}
        """Members by the endpoint, as written, whose host they are an address of."""
        if upstream.resolve is not None:
            for endpoint, member in zip(self._written, self.members, strict=True):
                if endpoint.resolvable:
                    self._following[endpoint.name] = [member]
        self._leaving: list[Pool] = []
        self._nobody_in = False
        self._balancer = Balancer(upstream.balance, host, env.clock, self._eject)
        plain = not self._following and upstream.health is None and host == "preserve"
        self.handler: Handler = self._balancer.send
        if plain and len(self.members) == 1:
            pool = self.members[0].pool
            pool.alone = True
            self.handler = pool.send
        else:
            self._offer_numbers()
        self._arrange()

    # -- its life

    def start(self) -> None:
        """Begins checks and look-ups. Needs the running loop."""
        for endpoint, member in zip(self._written, self.members, strict=True):
            if endpoint.name in self._following:
                # Its addresses are checked, once they are known.
                self._env.background(self._follow(endpoint), f"names of {self.name}")
            else:
                self._check(member)

    def close(self) -> None:
        """Lets go of timers and idle connections; tasks end with the Env."""
        for member in self.members:
            member.stop()
            member.pool.close()
        for pool in self._leaving:
            pool.close()

    @property
    def pools(self) -> list[Pool]:
        """Of those that are in use, then of those that left and are not done yet."""
        return [*(member.pool for member in self.members), *self._leaving]

    def _member(self, endpoint: Endpoint) -> Member:
        of = self._upstream
        return Member(Pool(endpoint, self._loop, of.pool, of.timeouts, of.limits), of)

    def _arrange(self) -> None:
        self._balancer.arrange(self.members, self._env.clock())
        nobody_in = not self._balancer.ready
        if nobody_in and not self._nobody_in:
            log.warning("upstream %s: no endpoint is in; the least bad are tried", self.name)
        self._nobody_in = nobody_in

    # -- requests that fail

    def _eject(self, member: Member) -> None:
        ejection = member.ejection
        out = sum(one.ejected or one.unhealthy for one in self.members)
        if ejection is None or member not in self.members or member.unhealthy:
            return
        if not may_leave(out, len(self.members)):
            return
        seconds = ejection.eject(self._env.clock())
        member.ejections += 1
        member.due = self._loop.call_later(seconds, self._return, member)
        log.warning(
            "upstream %s: %s is ejected for %g s: its requests fail",
            self.name, member.name, seconds,
        )  # fmt: skip
        self._arrange()

    def _return(self, member: Member) -> None:
        member.due = None
        now = self._env.clock()
        if member.ejection is not None:
            member.ejection.back(now)
        if not member.unhealthy:
            member.back(now)
            log.info("upstream %s: %s is in again after its ejection", self.name, member.name)
        self._arrange()

    # -- checks

    def _check(self, member: Member) -> None:
        if self._upstream.health is not None:
            member.check = self._env.background(self._checks(member), f"checks of {member.name}")

    async def _checks(self, member: Member) -> None:
        settings = self._upstream.health
        assert settings is not None and member.health is not None
        check = Check(member.pool.endpoint, settings, self._upstream.limits, self._loop)
        try:
            while True:
                why = await check.run()
                member.failed_checks += why is not None
                if member.health.checked(why is None):
                    self._turned(member, why)
                await asyncio.sleep(settings.interval * uniform(1 - JITTER, 1 + JITTER))
        finally:
            check.close()

    def _turned(self, member: Member, why: str | None) -> None:
        """Checks say something else of a member than before."""
        if why is not None:
            log.warning("upstream %s: %s is unhealthy: %s", self.name, member.name, why)
        else:
            log.info("upstream %s: %s is healthy again", self.name, member.name)
            if member.due is not None:
                # It was away and has come back: what its requests met is of the past.
                member.due.cancel()
                self._return(member)
                return
            member.back(self._env.clock())
        self._arrange()

    # -- names

    async def _follow(self, endpoint: Endpoint) -> None:
        settings = self._upstream.resolve
        assert settings is not None
        lost = False
        while True:
            try:
                async with asyncio.timeout(settings.timeout):
                    found = await names.look_up(endpoint.host, endpoint.port)
                self._found(endpoint, found, settings.max_members)
                lost = False
            except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
                if not lost:
                    log.warning(
                        "upstream %s: %s cannot be looked up, its endpoints stay: %s",
                        self.name, endpoint.host, error or "no answer in time",
                    )  # fmt: skip
                lost = True
            self._sweep()
            await asyncio.sleep(settings.interval * uniform(1 - JITTER, 1 + JITTER))

    def _found(self, endpoint: Endpoint, found: Sequence[str], most: int) -> None:
        """Takes up what the endpoint's host resolves to now; nothing found changes nothing."""
        if not found:
            return
        group = self._following[endpoint.name]
        # Before the first answer the name itself is the member.
        first = any(not one.pool.endpoint.asked for one in group)
        known = [] if first else [one.pool.endpoint.host for one in group]
        others = [one.pool.endpoint for one in self.members if one not in group]
        taken = {(one.host, one.port) for one in others}
        free = [address for address in found if (address, endpoint.port) not in taken]
        joined, left, left_out = names.change(known, free, most)
        gone = [one for one in group if first or one.pool.endpoint.host in left]
        if not joined and not gone:
            return
        new = [self._member(endpoint.at(address)) for address in joined]
        self._following[endpoint.name] = [one for one in group if one not in gone] + new
        self.members = [one for one in self.members if one not in gone] + new
        for one in gone:
            one.stop()
            self._leaving.append(one.pool)
        for one in new:
            if not first:
                one.back(self._env.clock())
            self._check(one)
        self._arrange()
        log.info(
            "upstream %s: %s has %d addresses: %d joined, %d left%s",
            self.name, endpoint.host, len(self._following[endpoint.name]), len(new),
            0 if first else len(gone), f", {left_out} are over the bound" if left_out else "",
        )  # fmt: skip

    def _sweep(self) -> None:
        """Lets go of those that left and are done."""
        for pool in [pool for pool in self._leaving if not pool.busy]:
            pool.close()
            self._leaving.remove(pool)

    # -- what it tells

    def show(self) -> dict[str, Any]:
        """Each endpoint's state, as a count of the workers that see it so, and its numbers."""
        now = self._env.clock()
        return {
            member.name: {
                "states": {member.state(now): 1},
                "in_flight": member.busy,
                "picks": member.picks,
                "ejections": member.ejections,
                "failed_checks": member.failed_checks,
            }
            for member in self.members
        }

    def _offer_numbers(self) -> None:
        labels = ("upstream", "endpoint")
        for name, attribute, told in (
            ("upstream_picks", "picks", "Requests that an endpoint was chosen for."),
            ("upstream_ejections", "ejections", "Times that an endpoint's requests failed so often "
             "that it got none for a while."),
            ("upstream_failed_checks", "failed_checks", "Health checks that failed."),
        ):  # fmt: skip

            def read(attribute: str = attribute) -> Iterator[tuple[Sequence[str], float]]:
                for member in self.members:
                    yield (self.name, member.name), getattr(member, attribute)

            self._env.numbers("counter", name, told, labels, read)
        self._env.numbers(
            "counter", "upstream_last_resorts",
            "Requests that an endpoint got which was out, because nobody was in.", ("upstream",),
            lambda: [((self.name,), self._balancer.last_resorts)],
        )  # fmt: skip
        self._env.numbers(
            "gauge", "upstream_endpoint_state",
            "1 for the state that an endpoint is in: up, slow_start, ejected or unhealthy.",
            (*labels, "state"), self._states,
        )  # fmt: skip

    def _states(self) -> Iterator[tuple[Sequence[str], float]]:
        now = self._env.clock()
        for member in self.members:
            state = member.state(now)
            for one in STATES:
                yield (self.name, member.name, one), float(one == state)
