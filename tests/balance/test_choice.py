"""Policies that choose by load or by turn."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.choice import LeastOutstanding, PowerOfTwo, RoundRobin

from .rig import Fake, fakes

LOADS = st.lists(st.integers(0, 5), min_size=1, max_size=8)


@given(LOADS, st.integers(0, 20))
def test_least_outstanding_takes_none_with_more(loads: list[int], before: int) -> None:
    """Whatever its turn, nobody has fewer requests in flight than the one chosen."""
    policy: LeastOutstanding[Fake] = LeastOutstanding()
    among = fakes(*loads)
    for _ in range(before + 1):
        chosen = policy.pick(among, None)
        assert chosen.busy == min(loads)


def test_least_outstanding_lets_equals_take_turns() -> None:
    """A light load, one request at a time, is spread evenly."""
    policy: LeastOutstanding[Fake] = LeastOutstanding()
    among = fakes(0, 0, 0, 0)
    assert set(Counter(policy.pick(among, None).name for _ in range(40)).values()) == {10}


def test_least_outstanding_levels_loads() -> None:
    """Requests that stay bring all to the same number."""
    policy: LeastOutstanding[Fake] = LeastOutstanding()
    among = fakes(7, 0, 3, 0)
    for _ in range(18):
        policy.pick(among, None).busy += 1
    assert [one.busy for one in among] == [7, 7, 7, 7]


@given(st.integers(1, 9))
def test_round_robin_gives_each_the_same(count: int) -> None:
    """In the order of the list, from its beginning, whatever they have to do."""
    policy: RoundRobin[Fake] = RoundRobin()
    among = fakes(*range(count))
    assert [policy.pick(among, None) for _ in range(2 * count)] == among * 2


@given(LOADS, st.randoms(use_true_random=False))
def test_power_of_two_never_takes_the_most_loaded(loads: list[int], random: Random) -> None:
    """Of two different ones the lesser: the one that has most is never chosen, where it is alone
    with that.
    """
    policy: PowerOfTwo[Fake] = PowerOfTwo(random.random)
    among = fakes(*loads)
    chosen = policy.pick(among, None)
    if len(loads) > 1 and loads.count(max(loads)) == 1:
        assert chosen.busy < max(loads)


def test_power_of_two_chooses_each_pair() -> None:
    """Every endpoint comes up, and as often as the others where loads are equal."""
    policy: PowerOfTwo[Fake] = PowerOfTwo(Random(3).random)
    counts = Counter(policy.pick(fakes(0, 0, 0, 0), None).name for _ in range(4000))
    assert len(counts) == 4 and min(counts.values()) > 900
