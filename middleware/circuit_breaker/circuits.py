"""The circuits of a layer: found by where they stand, and no more of them than can be kept."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.circuit import Changed, Circuit
from ..core.outcomes import Rules

MAX_CIRCUITS = 4096
"""Circuits of a layer. Calls to further endpoints are let through and not judged."""
FORGET_AFTER = 600.0
"""Seconds without a question after which a circuit is forgotten: its endpoint has gone."""


class Place:
    """One route in whose chain the layer stands, or with `scope: upstream` one upstream.

    route: empty where the circuits are those of an upstream.
    """

    def __init__(self, route: str, upstream: str, all: Circuits) -> None:
        self.route = route
        self.upstream = upstream
        self.circuits: dict[str, Circuit] = {}
        """By the endpoint's name; by the empty one where endpoints have none of their own."""
        self._all = all

    def circuit(self, endpoint: str, now: float) -> Circuit | None:
        """None: there are too many already."""
        found = self.circuits.get(endpoint)
        return found if found is not None else self._all.make(self, endpoint, now)

    def named(self, endpoint: str) -> str:
        """For the log."""
        where = f"route {self.route}" if self.route else f"upstream {self.upstream}"
        return f"{where}, {endpoint}" if endpoint else where


class Circuits:
    """Made when first asked for, and forgotten when nobody has asked for long."""

    def __init__(self, rules: Rules, changed: Changed, shared: bool) -> None:
        self.places: dict[tuple[str, str], Place] = {}
        self._rules = rules
        self._changed = changed
        self._shared = shared
        self._swept_at = 0.0
        self._count = 0

    def place(self, route: str, upstream: str) -> Place:
        key = route, upstream
        if key not in self.places:
            self.places[key] = Place(route, upstream, self)
        return self.places[key]

    def make(self, place: Place, endpoint: str, now: float) -> Circuit | None:
        # Endpoints come and go with DNS; looking for those that went costs, so not at each one.
        if now - self._swept_at >= FORGET_AFTER:
            self._sweep(now)
        if self._count >= MAX_CIRCUITS:
            return None
        self._count += 1
        name = place.named(endpoint)
        made = place.circuits[endpoint] = Circuit(name, self._rules, self._changed, self._shared)
        made.asked_at = now
        return made

    def __iter__(self) -> Iterator[tuple[Place, str, Circuit]]:
        """(place, endpoint, circuit) of each."""
        for place in self.places.values():
            for endpoint, circuit in place.circuits.items():
                yield place, endpoint, circuit

    def _sweep(self, now: float) -> None:
        self._swept_at = now
        for place, endpoint, circuit in list(self):
            unasked = now - circuit.asked_at >= FORGET_AFTER
            if unasked and now >= circuit.until and not circuit.held:
                del place.circuits[endpoint]
                self._count -= 1
