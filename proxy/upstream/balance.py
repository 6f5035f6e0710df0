"""Which endpoint of an upstream gets a request, and what becomes known of it by that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..errors import UpstreamError
from ..exchange import Outcome, Request, Response, Stream
from ..headers import with_host
from .affinity import Affinity, ByPrefix, BySession
from .choice import LeastOutstanding, Policy, PowerOfTwo, RoundRobin
from .member import Member
from .pool import no_endpoint
from .ring import Consistent
from .settings import Balance

BACK_PRESSURE = (429, 503)
"""Answers of an endpoint that has enough to do: neither a fault nor a success."""


def policy_of(balance: Balance) -> tuple[Policy[Member], Affinity | None]:
    """What the file asks for, and what gives a request its key."""
    if balance.session is not None:
        return Consistent(_name, load=None), BySession(balance.session.header)
    if balance.prefix is not None:
        prefix = balance.prefix
        return Consistent(_name, prefix.load), ByPrefix(prefix.chars, prefix.max_body)
    if balance.policy == "round_robin":
        return RoundRobin(), None
    if balance.policy == "power_of_two":
        return PowerOfTwo(), None
    return LeastOutstanding(), None


def _name(member: Member) -> str:
    return member.name


class Balancer:
    """The handler at the end of a chain, for more than one endpoint.

    Chosen from, in this order: who is in; who is out for failing requests; who is out for failing
    checks. So where nobody is in, all of the least bad ones are tried, and no request is refused
    for it. A gate is asked for each; what a request avoids is taken only where its group has no
    other. faulty: told of each member whose faults make it due to be ejected.
    """

    def __init__(
        self, balance: Balance, host: str, clock: Callable[[], float],
        faulty: Callable[[Member], None],
    ) -> None:  # fmt: skip
        self._policy, self._affinity = policy_of(balance)
        self._own_host = host == "upstream"
        self._clock = clock
        self._faulty = faulty
        self._known: Sequence[Member] = ()
        self._groups: tuple[list[Member], ...] = ([],)
        self._calm = False
        """Somebody is in, and nobody who is in gets less than a full share."""
        self.last_resorts = 0
        """Requests that an endpoint got which was out."""

    def arrange(self, members: Sequence[Member], now: float) -> None:
        """Called after each change of who there is, and of how they stand."""
        if list(self._known) != list(members):
            self._known = tuple(members)
            self._policy.members(self._known)
        ready = [one for one in members if not one.ejected and not one.unhealthy]
        self._groups = (
            ready,
            [one for one in members if one.ejected and not one.unhealthy],
            [one for one in members if one.unhealthy],
        )
        self._calm = bool(ready) and all(one.state(now) == "up" for one in ready)

    @property
    def ready(self) -> Sequence[Member]:
        """Who is in."""
        return self._groups[0]

    async def send(self, request: Request) -> Response:
        """One exchange. Raises what the pool raises, and Unavailable where the gate refuses all."""
        key = None
        if self._affinity is not None:
            key = await self._affinity.key(request, len(self._known))
        if self._calm and request.gate is None and not request.avoid:
            member = self._policy.pick(self._groups[0], key)
        else:
            member = self._choose(request, key)
        member.picks += 1
        if self._own_host:
            request.headers = with_host(request.headers, member.pool.endpoint.authority)
        ejection = member.ejection
        if ejection is None:
            return await member.pool.send(request)
        era = ejection.era
        try:
            response = await member.pool.send(request)
        except UpstreamError:
            self._fault(member, era)
            raise
        status, body = response.status, response.body
        if status in BACK_PRESSURE:
            return response
        if status >= 500:
            if request.accuses(status):
                self._fault(member, era)
        elif isinstance(body, bytes):
            ejection.success(era)
        else:
            # A server may send its head first and fail then: the end tells.
            request.on_end(partial(self._stream_ended, member, era, body))
        return response

    def _choose(self, request: Request, key: int | None) -> Member:
        """Where a gate, a request that failed before, or an endpoint's state has to be looked at.
        Raises Unavailable.
        """
        gate, avoid = request.gate, request.avoid
        now = self._clock()
        for rank, group in enumerate(self._groups):
            among = group if gate is None else [one for one in group if gate.admits(one.name)]
            if avoid:
                among = [one for one in among if one.name not in avoid] or among
            if not among:
                continue
            if rank:
                self.last_resorts += 1
            else:
                among = self._in_turn(among, now)
            member = self._policy.pick(among, key)
            if gate is not None:
                gate.chosen(member.name)
            return member
        raise no_endpoint()

    def _in_turn(self, among: list[Member], now: float) -> list[Member]:
        """`among` less those whose slow start leaves this request to others."""
        if self._calm:
            return among
        mean = sum(one.busy for one in among) / len(among)
        ramps = False
        taking = []
        for one in among:
            ramp = one.ramp
            if ramp is None or ramp.takes(now, one.busy, mean):
                taking.append(one)
            ramps = ramps or (ramp is not None and ramp.share(now) < 1)
        if not ramps and among == self._groups[0]:
            self._calm = True
        return taking or among

    def _fault(self, member: Member, era: int) -> None:
        if member.ejection is not None and member.ejection.fault(era):
            self._faulty(member)

    def _stream_ended(self, member: Member, era: int, body: Stream, outcome: Outcome) -> None:
        if body.complete:
            if member.ejection is not None:
                member.ejection.success(era)
        elif body.done and not outcome.cancelled:
            self._fault(member, era)
