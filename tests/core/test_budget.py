"""The bound on retries."""

from __future__ import annotations

from fractions import Fraction
from math import floor

from hypothesis import given
from hypothesis import strategies as st

from middleware.core.budget import SLOTS, RetryBudget

WINDOW = 10.0
EVENTS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.001, 0.4, 1.0, 1.7, 9.0, 10.0, 11.0, 300.0]),
        st.integers(0, 30),  # requests
        st.integers(0, 30),  # retries wanted
    ),
    max_size=40,
)


def used(budget: RetryBudget, now: float, wanted: int) -> int:
    return sum(budget.take(now) for _ in range(wanted))


def test_light_traffic_has_the_floor() -> None:
    """With hardly any requests there are `floor` retries in a window, and no more."""
    budget = RetryBudget(0.2, WINDOW, 3)
    budget.offered(100.0)
    assert used(budget, 100.0, 10) == 3
    assert used(budget, 109.0, 10) == 0
    assert used(budget, 110.5, 10) == 3


def test_requests_earn_their_share() -> None:
    """Each request adds `ratio` of a retry."""
    budget = RetryBudget(0.2, WINDOW, 0)
    for _ in range(4):
        budget.offered(0.0)
    assert not budget.take(0.0)
    budget.offered(0.0)
    assert budget.take(0.0)
    assert not budget.take(0.0)


def test_what_was_earned_expires() -> None:
    """A request earns for one window: an hour of good traffic saves up no storm."""
    budget = RetryBudget(0.2, WINDOW, 0)
    for _ in range(100):
        budget.offered(5.0)
    assert used(budget, 14.9, 5) == 5
    assert used(budget, 16.0, 100) == 0


def test_nothing_means_nothing() -> None:
    """`ratio: 0` with `floor: 0` admits no retry at all."""
    budget = RetryBudget(0.0, WINDOW, 0)
    for now in range(100):
        budget.offered(float(now))
        assert not budget.take(float(now))


@given(EVENTS, st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0, 3.0]), st.integers(0, 5))
def test_retries_never_exceed_the_bound(
    events: list[tuple[float, int, int]], ratio: float, least: int
) -> None:
    """Whatever comes when: retries are at most `ratio` of the requests, and `floor` a window."""
    budget = RetryBudget(ratio, WINDOW, least)
    now = first = 1000.0
    requests = retries = 0
    for passed, offered, wanted in events:
        now += passed
        for _ in range(offered):
            budget.offered(now)
        requests += offered
        retries += used(budget, now, wanted)
        slots = floor(now / (WINDOW / SLOTS)) - floor(first / (WINDOW / SLOTS)) + 1
        windows = -(-slots // SLOTS)
        assert retries <= Fraction(ratio) * requests + least * windows


@given(EVENTS, st.sampled_from([0.1, 0.2, 1.0]), st.integers(0, 5))
def test_it_gives_all_that_the_window_holds(
    events: list[tuple[float, int, int]], ratio: float, least: int
) -> None:
    """One is refused only where the window's retries and it exceed the bound, counted naively."""
    budget = RetryBudget(ratio, WINDOW, least)
    now = 1000.0
    seen: list[tuple[int, int, int]] = []  # slot, requests, retries

    def within(slot: int) -> tuple[int, int]:
        last = [one for one in seen if one[0] > slot - SLOTS]
        return sum(one[1] for one in last), sum(one[2] for one in last)

    for passed, offered, wanted in events:
        now += passed
        slot = int(now / (WINDOW / SLOTS))
        for _ in range(offered):
            budget.offered(now)
        seen.append((slot, offered, 0))
        for _ in range(wanted):
            requests, retries = within(slot)
            expected = retries + 1 <= least + ratio * requests
            assert budget.take(now) == expected
            if expected:
                seen.append((slot, 0, 1))
