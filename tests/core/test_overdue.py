"""Calls that wait for too long, by a clock of the test."""

from __future__ import annotations

from math import inf

from middleware.core.call import Call
from middleware.core.circuit import Circuit
from middleware.core.outcomes import Rules
from middleware.core.overdue import Overdue


def call(started: float) -> Call:
    return Call(Circuit("c", Rules(), lambda *told: None), 0, started)


def test_nothing_is_looked_at_before_it_can_be_overdue() -> None:
    """The time to look is that of the oldest that waits; where none waits there is none."""
    overdue = Overdue(1.0)
    assert overdue.look_at == inf
    first, second, third = call(10.0), call(10.5), call(10.75)
    for one in (first, second, third):
        overdue.waits(one)
    assert overdue.look_at == 11.0
    assert list(overdue.found(11.0)) == []
    assert not overdue.ended(first, 10.9)
    assert list(overdue.found(11.001)) == [] and overdue.look_at == 11.5
    assert list(overdue.found(11.6)) == [second] and overdue.look_at == 11.75
    assert list(overdue.found(20.0)) == [third] and overdue.look_at == inf


def test_one_is_overdue_once() -> None:
    """Found while it waits or when it ends, not by both; nor one that never waited."""
    overdue = Overdue(1.0)
    first, second = call(0.0), call(0.0)
    overdue.waits(first)
    overdue.waits(second)
    assert overdue.ended(first, 1.5) and not overdue.ended(first, 1.5)
    assert list(overdue.found(1.5)) == [second] and not overdue.ended(second, 1.5)
    assert not overdue.ended(call(0.0), 9.0)


def test_all_may_be_forgotten_while_they_are_told() -> None:
    """As a circuit does that opens at one of them."""
    overdue = Overdue(1.0)
    for _ in range(3):
        overdue.waits(call(0.0))
    for _ in overdue.found(2.0):
        overdue.clear()
    assert overdue.look_at == inf and list(overdue.found(9.0)) == []
