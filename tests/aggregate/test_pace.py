"""What is learned of the server's time, and what follows from it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.batch.pace import LAST_TRIAL, MOST_LEVELS, SAMPLES, Fit, Pace
from middleware.core.batch.plan import Plan

from .simulation import Simulation
from .world import rules


@given(st.floats(0, 0.1), st.floats(0, 1), st.lists(st.integers(1, 64), min_size=2, max_size=60))
def test_a_line_is_found(a: float, b: float, sizes: list[int]) -> None:
    """From batches of two sizes or more, exactly; otherwise what was seen is told again."""
    fit = Fit()
    for size in sizes:
        fit.add(size, a * size + b)
    for size in set(sizes):
        assert fit.at(size) == pytest.approx(a * size + b, rel=0.02, abs=1e-4)
    if max(sizes) >= 2 * min(sizes):
        assert fit.a == pytest.approx(a, rel=0.02, abs=1e-4)


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0, 10)), min_size=1, max_size=60))
def test_neither_part_is_negative(seen: list[tuple[int, float]]) -> None:
    """Whatever is seen: a batch never gets cheaper by another item, nor free."""
    fit = Fit()
    for size, seconds in seen:
        fit.add(size, seconds)
        assert fit.a >= 0 and fit.b >= 0


def test_what_was_long_ago_is_forgotten() -> None:
    """A server that has become ten times slower is seen to be."""
    fit = Fit()
    for factor in (1, 10):
        for turn in range(300):
            size = 1 + turn % 16
            fit.add(size, factor * (0.003 * size + 0.008))
    assert fit.at(8) == pytest.approx(10 * (0.003 * 8 + 0.008), rel=0.05)


def test_a_slope_outlasts_batches_of_one_size() -> None:
    """What an item costs is not forgotten while all batches are full."""
    fit = Fit()
    for size in (1, 2, 4, 8, 16, 32):
        fit.add(size, 0.003 * size + 0.008)
    for _ in range(2000):
        fit.add(32, 0.003 * 32 + 0.008)
    assert fit.a == pytest.approx(0.003, rel=0.05)


def test_batches_are_made_small_enough_for_the_target() -> None:
    """As many items as the target's time allows, at least one, at most the file's bound."""
    for target, size in ((0.040, 10), (0.011, 1), (0.001, 1), (10.0, 32)):
        pace = Pace(32, 1, target)
        for turn in range(50):
            n = 1 + turn % 32
            pace.seen(n, 1.0, n, 0.003 * n + 0.0079)
        assert pace.size == size


def test_a_target_does_not_keep_batches_at_the_size_that_was_seen_first() -> None:
    """Where only singles came so far, some larger ones are let through: else nobody would know."""
    pace = Pace(32, 1, 0.040)
    for _ in range(100):
        pace.seen(1, 1.0, 1, 0.025)
    assert pace.size == 2
    pace.seen(2, 1.0, 2, 0.026)
    assert pace.size > 10


def test_batches_that_overlap_in_part_are_worth_what_they_overlap() -> None:
    """By Little's law: eight items in each of 2.5 calls of a second are 20 a second, whatever
    number of calls was allowed.
    """
    pace = Pace(32, 3, None)
    for _ in range(50):
        pace.seen(8, 2.6, 24, 1.0)
    assert pace._rate(3) == pytest.approx(8 * 2.6, rel=0.01)


def test_a_trial_is_judged_by_what_it_shows_and_not_by_what_was() -> None:
    """A server that has got more cores since is found out by the first trial."""
    pace = Pace(32, None, None)
    for turn in range(4000):
        limit = pace.limit
        pace.seen(8, limit, 64, 0.03 * (limit if turn < 2000 else 1))
        if turn == 1999:
            assert pace._home == 1
            pace._wait = 1
    assert pace._home > 4


def one_by_one(items: int, longest: int) -> float:
    return 0.0075 + 0.003 * items


def simulated(
    limit: int | None,
    side_by_side: int,
    clients: int,
    seconds: Callable[[int, int], float] = one_by_one,
    target: float | None = None,
    time: float = 30.0,
) -> tuple[float, Pace, Simulation]:
    """Items a second in the second half of the time."""
    chance = random.Random(5)
    pace = Pace(32, limit, target)
    plan = Plan(rules(size=32), pace)
    world = Simulation(
        plan,
        lambda items, longest: seconds(items, longest) * chance.uniform(0.97, 1.03),
        side_by_side,
        lambda: chance.uniform(0.0005, 0.004),
    )
    world.clients(clients)
    world.run(time / 2)
    half = world.answered
    world.run(time / 2)
    return (world.answered - half) / (time / 2), pace, world


def test_a_server_that_computes_four_at_once_gets_four() -> None:
    """And what waits is shared out among them: more than twice what one batch at a time gives,
    and nine tenths of what the best fixed choice would.
    """
    one, _, _ = simulated(1, 4, 32)
    found, pace, _ = simulated(None, 4, 32, time=60)
    best = 4 * 8 / (one_by_one(8, 0) + 0.00225)
    assert found > 2.5 * one and found > 0.8 * best
    assert 3 <= pace.limit <= 6


def test_a_server_that_computes_one_at_a_time_gets_one() -> None:
    """More would only make everybody wait: its throughput is that of one at a time."""
    one, _, _ = simulated(1, 1, 32)
    found, pace, _ = simulated(None, 1, 32)
    assert found > 0.97 * one
    assert pace._home == 1


def test_the_target_holds_with_batches_side_by_side_too() -> None:
    """Most calls take no longer than it."""
    _, pace, world = simulated(None, 4, 64, target=0.04, time=60)
    late = [one for one in world.batches[-500:] if pace.size < one.sent and one.sent > 16]
    assert pace.fit is not None and pace.fit.at(pace.size) <= 0.045
    assert len(late) < 50


def test_trials_become_rare_where_they_are_of_no_use() -> None:
    """And the number of batches side by side has an end."""
    pace = Pace(32, None, None)
    tried = []
    for turn in range(20_000):
        limit = pace.limit
        pace.seen(8, limit, 1000, 0.03 * limit)
        if limit > 1:
            tried.append(turn)
    assert tried and len(tried) < 20 * SAMPLES
    assert pace._wait == LAST_TRIAL
    pace = Pace(32, None, None)
    for _ in range(20_000):
        pace.seen(8, pace.limit, 100_000, 0.03)
    assert pace.limit <= MOST_LEVELS and pace._home > 0.9 * MOST_LEVELS


def test_more_batches_are_not_tried_than_there_are_items() -> None:
    """A client that is alone is never an experiment."""
    pace = Pace(32, None, None)
    for _ in range(1000):
        pace.seen(1, 1.0, 1, 0.01)
        assert pace.limit == 1
