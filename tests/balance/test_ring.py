"""Consistent hashing, with and without bounded load."""

from __future__ import annotations

from collections import Counter
from math import ceil
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.upstream.ring import LOWEST_BOUND, Consistent, Ring, hashed

from .rig import Fake, fakes

KEYS = st.integers(0, 2**64 - 1)
NAMES = st.lists(st.text("abc123.:", min_size=1, max_size=8), min_size=1, max_size=6, unique=True)


def ring(names: list[str]) -> Ring[str]:
    return Ring([(name, name) for name in names])


@settings(max_examples=50, deadline=None)
@given(NAMES, KEYS)
def test_a_walk_meets_each_owner_once(names: list[str], key: int) -> None:
    """Nobody is left out and nobody comes twice."""
    assert sorted(ring(names).walk(key)) == sorted(names)


@settings(max_examples=50, deadline=None)
@given(NAMES, st.randoms(use_true_random=False))
def test_the_order_of_the_file_makes_no_difference(names: list[str], random: Random) -> None:
    """Replicas whose endpoints come from DNS in another order agree on every key."""
    mixed = list(names)
    random.shuffle(mixed)
    one, other = ring(names), ring(mixed)
    for key in (random.getrandbits(64) for _ in range(50)):
        assert next(one.walk(key)) == next(other.walk(key))


@settings(max_examples=50, deadline=None)
@given(NAMES.filter(lambda names: len(names) > 1), st.randoms(use_true_random=False))
def test_only_keys_of_who_leaves_move(names: list[str], random: Random) -> None:
    """They move to the next on the ring; all others stay where they are."""
    whole, gone = ring(names), names[0]
    less = ring(names[1:])
    for key in (random.getrandbits(64) for _ in range(100)):
        walk = list(whole.walk(key))
        walk.remove(gone)
        assert list(less.walk(key)) == walk


def test_shares_are_near_to_one_another() -> None:
    """Of many keys each of four owners has a quarter, give or take an eighth of that."""
    random = Random(1)
    made = ring([f"http://10.0.0.{number}:8000" for number in range(4)])
    counts = Counter(next(made.walk(random.getrandbits(64))) for _ in range(20_000))
    assert all(5000 * 7 / 8 < count < 5000 * 9 / 8 for count in counts.values()), counts


def test_parts_are_told_apart() -> None:
    """What stands in one part cannot pass for two."""
    assert len({hashed(b"ab", b"c"), hashed(b"a", b"bc"), hashed(b"abc"), hashed(b"abc", b"")}) == 4


def consistent(members: list[Fake], load: float | None) -> Consistent[Fake]:
    policy: Consistent[Fake] = Consistent(lambda one: one.name, load)
    policy.members(members)
    return policy


@given(KEYS)
def test_a_key_stays(key: int) -> None:
    """Without a bound its endpoint gets it however much it has to do."""
    members = fakes(0, 0, 0, 0)
    policy = consistent(members, None)
    first = policy.pick(members, key)
    first.busy = 1000
    assert policy.pick(members, key) is first


@given(KEYS)
def test_a_key_whose_endpoint_is_out_goes_to_the_next(key: int) -> None:
    """To the same one each time, and back when its own is in again."""
    members = fakes(0, 0, 0, 0)
    policy = consistent(members, 2.0)
    first = policy.pick(members, key)
    others = [one for one in members if one is not first]
    second = policy.pick(others, key)
    assert second is not first and policy.pick(others, key) is second
    assert policy.pick(members, key) is first


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6), KEYS, st.floats(1.0, 4.0), st.booleans()
)
def test_load_is_bounded(loads: list[int], key: int, load: float, some: bool) -> None:
    """Whoever is chosen has, with this request, at most `load` times the mean of those that could
    be; or it has at most the number that everybody may have.
    """
    members = fakes(*loads)
    among = members[1:] if some and len(members) > 1 else members
    policy = consistent(members, load)
    chosen = policy.pick(among, key)
    total = sum(one.busy for one in among) + 1
    assert chosen in among
    assert chosen.busy + 1 <= max(LOWEST_BOUND, ceil(load * total / len(among)))


def test_one_key_alone_spreads_over_its_bound() -> None:
    """The same prompt from everybody fills its own endpoint up to the bound, then the others."""
    members = fakes(0, 0, 0, 0)
    policy = consistent(members, 1.25)
    for _ in range(400):
        policy.pick(members, 7).busy += 1
    assert max(one.busy for one in members) <= 126
    assert min(one.busy for one in members) >= 22


def test_few_requests_are_not_spread() -> None:
    """Up to LOWEST_BOUND in flight stay together, the next one goes elsewhere."""
    members = fakes(0, 0, 0, 0)
    policy = consistent(members, 1.0)
    first = policy.pick(members, 7)
    for _ in range(LOWEST_BOUND - 1):
        first.busy += 1
        assert policy.pick(members, 7) is first
    first.busy += 1
    assert policy.pick(members, 7) is not first


def test_without_a_key_the_least_outstanding() -> None:
    """A request that belongs nowhere goes where there is least to do."""
    members = fakes(3, 1, 2)
    assert consistent(members, 2.0).pick(members, None) is members[1]
