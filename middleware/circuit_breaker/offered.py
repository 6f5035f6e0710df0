"""What the layer offers on the admin port and in the metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN

from proxy.chain import ControlRefused, Env

from ..core.circuit import Circuit
from .circuits import Circuits, Place

log = logging.getLogger("remora")

STATES = (STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN)

_PLACE = ("route", "upstream", "endpoint")
_USAGE = "write ?endpoint=URL, ?route=NAME, ?upstream=NAME, several of them, or ?all=1"


@dataclass(slots=True)
class Tally:
    """Requests of one route that found no open way. fell_back: those that went elsewhere."""

    route: str
    upstream: str
    refused: int = 0
    fell_back: int = 0


class BreakerControl:
    """One layer's `proxy.chain.Control`. now: seconds, monotonic."""

    def __init__(
        self, scope: str, circuits: Circuits, tallies: list[Tally], now: Callable[[], float]
    ) -> None:
        self._scope = scope
        self._circuits = circuits
        self._tallies = tallies
        self._now = now

    def offer(self, env: Env) -> None:
        env.control("circuit_breaker", self)
        for kind, name, what, more, read in (
            ("gauge", "state", "1 for the state that a circuit is in.", ("state",), self._states),
            ("counter", "transitions", "Changes of a circuit's state.", ("to",), self._changes),
            ("counter", "probes", "Calls let through half-open.", (), self._probes),
        ):
            env.numbers(kind, f"circuit_breaker_{name}", what, (*_PLACE, *more), read)  # type: ignore[arg-type]
        where = ("route", "upstream")
        what = "Requests for which no circuit was closed, those that fell back among them."
        env.numbers("counter", "circuit_breaker_refused", what, where, self._refused)
        what = "Requests that went to the fallback."
        env.numbers("counter", "circuit_breaker_fallbacks", what, where, self._fell_back)

    # -- Control

    def show(self) -> dict[str, Any]:
        now = self._now()
        found = sorted(self._circuits, key=lambda one: one[2].state == STATE_CLOSED)
        return {
            "circuits": [_shown(place, endpoint, one, now) for place, endpoint, one in found],
            "routes": {
                one.route: {"refused": one.refused, "fell_back": one.fell_back}
                for one in self._tallies
            },
        }

    def told(self, total: dict[str, Any]) -> dict[str, Any]:
        """One entry for a circuit that several workers have, each with a state of its own."""
        merged: dict[tuple[str, ...], dict[str, Any]] = {}
        for one in total["circuits"]:
            key = tuple(one[part] for part in _PLACE)
            if key not in merged:
                merged[key] = one
                continue
            same = merged[key]
            for part, number in one.items():
                if part == "state":
                    for state, count in number.items():
                        same["state"][state] = same["state"].get(state, 0) + count
                elif part == "retry_in":
                    same[part] = max(same[part], number)
                elif part not in _PLACE:
                    same[part] += number
        return {**total, "circuits": list(merged.values())}

    async def act(self, action: str, query: Mapping[str, str]) -> dict[str, Any]:
        if action not in ("open", "close"):
            raise ControlRefused(
                f"`{action[:80]}` is not done here; there are POST /circuit_breaker/open and "
                "POST /circuit_breaker/close"
            )
        wanted = _wanted(query)
        now = self._now()
        found = self._matching(wanted, now if action == "open" else None)
        for circuit in found:
            if action == "open":
                circuit.hold(now)
            else:
                circuit.close("closed by hand")
        log.warning("circuit breaker: %d circuits %s by hand", len(found), _DONE[action])
        return {_DONE[action]: len(found)}

    def _matching(self, wanted: Mapping[str, str], now: float | None) -> list[Circuit]:
        """now: also make the one that is named and is not there yet; None: do not."""
        found: list[Circuit] = []
        for (route, upstream), place in self._circuits.places.items():
            if wanted.get("route", route) != route or wanted.get("upstream", upstream) != upstream:
                continue
            endpoint = wanted.get("endpoint")
            if self._scope == "endpoint" and endpoint is None:
                found += place.circuits.values()
                continue
            name = endpoint or ""
            if (name == "") != (self._scope != "endpoint"):
                continue
            one = place.circuits.get(name) if now is None else place.circuit(name, now)
            if one is not None:
                found.append(one)
        return found

    # -- numbers

    def _states(self) -> Iterator[tuple[tuple[str, ...], float]]:
        for place, endpoint, circuit in self._circuits:
            for state in STATES:
                labels = place.route, place.upstream, endpoint, state
                yield labels, float(circuit.state == state)

    def _changes(self) -> Iterator[tuple[tuple[str, ...], float]]:
        for place, endpoint, circuit in self._circuits:
            for state in STATES:
                labels = place.route, place.upstream, endpoint, state
                yield labels, circuit.changes.get(state, 0)

    def _probes(self) -> Iterator[tuple[tuple[str, ...], float]]:
        for place, endpoint, circuit in self._circuits:
            yield (place.route, place.upstream, endpoint), circuit.probes

    def _refused(self) -> Iterator[tuple[tuple[str, ...], float]]:
        for one in self._tallies:
            yield (one.route, one.upstream), one.refused

    def _fell_back(self) -> Iterator[tuple[tuple[str, ...], float]]:
        for one in self._tallies:
            yield (one.route, one.upstream), one.fell_back


_DONE = {"open": "opened", "close": "closed"}


def _shown(place: Place, endpoint: str, circuit: Circuit, now: float) -> dict[str, Any]:
    circuit.window.advance(now)
    return {
        "route": place.route,
        "upstream": place.upstream,
        "endpoint": endpoint,
        "state": {circuit.state: 1},
        "held": int(circuit.held),
        "calls": circuit.window.calls,
        "failures": circuit.window.failures,
        "slow": circuit.window.slow,
        "in_a_row": circuit.counter,
        "retry_in": round(circuit.wait(now), 3) if circuit.state != STATE_CLOSED else 0.0,
    }


def _wanted(query: Mapping[str, str]) -> Mapping[str, str]:
    """Which circuits. Raises ControlRefused."""
    if dict(query) == {"all": "1"}:
        return {}
    if not query or not all(key in _PLACE and value for key, value in query.items()):
        raise ControlRefused(f"which circuits? {_USAGE}")
    return query
