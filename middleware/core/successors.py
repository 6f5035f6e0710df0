"""Which request follows which: first-order counts, each tenant's apart, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict

SUPPORT = 2
"""Times that a successor must have been seen: once is chance."""
CEILING = 64
"""Departures of a state at which its counts are halved, so that old habits fade."""
SWEPT = 8
"""Sessions that one call ends at most: many that end at once must not hold the caller up."""


class _Departures:
    """What was asked for behind one state. total: departures counted, those to nothing too."""

    __slots__ = ("links", "total")

    def __init__(self) -> None:
        self.links: dict[bytes, int] = {}
        self.total = 0

    def add(self, successor: bytes | None, most: int) -> None:
        links = self.links
        if self.total >= CEILING:
            self.total //= 2
            for link, count in list(links.items()):
                if count > 1:
                    links[link] = count // 2
                else:
                    del links[link]
        self.total += 1
        if successor is None:
            return
        if successor not in links and len(links) >= most:
            # The one seen least, of several the oldest; its departures still count in `total`.
            del links[min(links, key=links.__getitem__)]
        links[successor] = links.get(successor, 0) + 1


class Successors:
    """A Markov chain of the first order over what the sessions of a tenant ask for.

    gap: seconds without a request that end a session. max_states: states with successors, all
    tenants together; max_per_tenant: of one of them; max_successors: of one state; max_sessions:
    whose last request is known. Over a bound what was used longest ago goes first, over
    max_states what belongs to the tenant that was away longest.
    """

    def __init__(
        self,
        gap: float,
        max_states: int = 32768,
        max_per_tenant: int = 8192,
        max_successors: int = 8,
        max_sessions: int = 16384,
    ) -> None:
        self._gap = gap
        self._max_states = max_states
        self._max_per_tenant = max_per_tenant
        self._max_successors = max_successors
        self._max_sessions = max_sessions
        self._sessions: OrderedDict[tuple[bytes, bytes], tuple[bytes, float]] = OrderedDict()
        self._tenants: OrderedDict[bytes, OrderedDict[bytes, _Departures]] = OrderedDict()
        self.states = 0
        """States with successors, of all tenants."""

    @property
    def sessions(self) -> int:
        """Sessions whose last request is known."""
        return len(self._sessions)

    def seen(self, tenant: bytes, session: bytes, state: bytes, now: float) -> None:
        """A session asks for `state`. Asking again for the same is no step. `now`: monotonic."""
        self._sweep(now)
        key = (tenant, session)
        last = self._sessions.pop(key, None)
        if last is None:
            if len(self._sessions) >= self._max_sessions:
                self._sessions.popitem(last=False)
        elif now - last[1] > self._gap:
            self._departed(tenant, last[0], None)
        elif last[0] != state:
            self._departed(tenant, last[0], state)
        self._sessions[key] = (state, now)

    def likely(self, tenant: bytes, state: bytes, probability: float) -> list[tuple[bytes, float]]:
        """(successor, its share of the departures), the likeliest first, none under `probability`.

        A session that ended in `state` counts as a departure to nothing.
        """
        states = self._tenants.get(tenant)
        departures = states.get(state) if states is not None else None
        if departures is None:
            return []
        total = departures.total
        found = [
            (successor, count / total)
            for successor, count in departures.links.items()
            if count >= SUPPORT and count >= probability * total
        ]
        found.sort(key=lambda pair: -pair[1])
        return found

    def _departed(self, tenant: bytes, state: bytes, successor: bytes | None) -> None:
        states = self._tenants.get(tenant)
        departures = states.get(state) if states is not None else None
        if departures is None and successor is None:
            return  # states that never had a successor are not worth their memory
        if states is None:
            states = self._tenants[tenant] = OrderedDict()
        self._tenants.move_to_end(tenant)
        if departures is None:
            if len(states) >= self._max_per_tenant:
                states.popitem(last=False)
                self.states -= 1
            elif self.states >= self._max_states:
                self._make_room()
            departures = states[state] = _Departures()
            self.states += 1
        else:
            states.move_to_end(state)
        departures.add(successor, self._max_successors)

    def _make_room(self) -> None:
        # A tenant's first state is just being added where its own are none yet.
        tenant, states = next(pair for pair in self._tenants.items() if pair[1])
        states.popitem(last=False)
        self.states -= 1
        if not states and len(self._tenants) > 1:
            del self._tenants[tenant]

    def _sweep(self, now: float) -> None:
        """Ends sessions that were left; they are in the order of their last request."""
        for _ in range(SWEPT):
            if not self._sessions:
                return
            key = next(iter(self._sessions))
            state, at = self._sessions[key]
            if now - at <= self._gap:
                return
            del self._sessions[key]
            self._departed(key[0], state, None)
