"""A walk through everything that can happen to a circuit, beside a model of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from middleware.core.outcomes import Rules

from .both import Both

PLAIN = {"window": 5.0, "min_calls": 2, "open_for": 1.0, "max_open_for": 4.0, "probes": 2}
RULES = {
    "errors": Rules(**PLAIN, error_ratio=0.5, slow_ratio=None, consecutive=None),  # type: ignore[arg-type]
    "slow": Rules(**PLAIN, error_ratio=None, slow_ratio=0.9, consecutive=None),  # type: ignore[arg-type]
    "in a row": Rules(**PLAIN, error_ratio=None, slow_ratio=None, consecutive=2),  # type: ignore[arg-type]
    "all": Rules(**PLAIN, error_ratio=0.6, slow_ratio=0.9, consecutive=3),  # type: ignore[arg-type]
}
EVERY = pytest.mark.parametrize("rules", RULES.values(), ids=RULES)


def replayed(rules: Rules, events: tuple[str, ...], bodies: bool = False) -> Both:
    both = Both(rules, bodies)
    for event in events:
        both.tell(event)
    return both


def sequences(
    rules: Rules, depth: int, bodies: bool = False, told: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Every sequence of that many events."""
    if len(told) == depth:
        yield told
        return
    for event in replayed(rules, told, bodies).events(most=2):
        yield from sequences(rules, depth, bodies, (*told, event))


@EVERY
def test_every_sequence(rules: Rules) -> None:
    """All sequences of seven events, with up to two calls under way: the circuit does what its
    model does.
    """
    count = 0
    for told in sequences(rules, 7):
        replayed(rules, told)
        count += 1
    assert count > 30_000


def test_every_sequence_with_bodies() -> None:
    """The same for six events, where a request's body may come later than its head."""
    rules = RULES["slow"]
    count = 0
    for told in sequences(rules, 6, bodies=True):
        replayed(rules, told, bodies=True)
        count += 1
    assert count > 20_000


@EVERY
def test_every_state(rules: Rules) -> None:
    """Every state that up to nine events lead to, and every event in it: each is as its model
    has it, each recovers, and all three states with all changes between them are among them.
    """
    seen = {Both(rules).snapshot()}
    edge: list[tuple[str, ...]] = [()]
    changes: set[tuple[str, str]] = set()
    for _ in range(9):
        found = []
        for told in edge:
            for event in replayed(rules, told).events(most=2):
                both = replayed(rules, (*told, event))
                snapshot = both.snapshot()
                if snapshot not in seen:
                    seen.add(snapshot)
                    found.append((*told, event))
                    both.recovers()
                    changes.update(both.changes)
        edge = found
    assert changes == {
        ("closed", "open"), ("open", "half-open"), ("half-open", "open"), ("half-open", "closed"),
    }  # fmt: skip
    assert len(seen) > 1_000
