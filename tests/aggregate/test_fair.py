"""Tenants take turns."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from middleware.core.batch.fair import MAX_TENANTS, FairOrder

from .world import World, item, keys, rules


def test_a_flood_of_one_does_not_delay_another() -> None:
    """Who asks for one item behind a thousand of another's is in the next batch."""
    world = World(rules(size=4), limit=1)
    world.ask(item())
    for _ in range(100):
        world.ask(item(), tenant="flood")
    one = world.ask(item(), tenant="small")
    world.answer(world.running[0])
    world.answer(world.running[0])
    assert one.fate == "own"


def test_it_holds_between_groups_too() -> None:
    """A tenant gains nothing by asking in many ways."""
    world = World(rules(size=4), limit=1)
    world.ask(item())
    for number in range(100):
        world.ask(item(), tenant="flood", group=f"{number % 25}")
    one = world.ask(item(), tenant="small", group="other")
    world.answer(world.running[0])
    world.answer(world.running[0])
    world.answer(world.running[0])
    assert one.fate in ("own", "alone")


def test_finding_who_is_to_blame_keeps_no_other_tenant_waiting() -> None:
    """The parts of one tenant's failed batch take turns with what another asks."""
    world = World(rules(size=32), limit=1, bad=[b"bad %d" % number for number in range(64)])
    world.ask(item())
    flood = [world.ask(item(key=b"bad %d" % number), tenant="flood") for number in range(64)]
    world.answer(world.running[0])
    for _ in range(20):
        one = world.ask(item(), tenant="other", group="other")
        for _ in range(3):  # what is under way, a part, and its own
            if not one.fate:
                world.answer(world.running[0])
        assert one.fate == "alone"
    while world.running:
        world.answer(world.running[0])
    assert {(job.fate, job.status) for job in flood} == {("alone", 422)}


def test_those_who_are_found_out_wait_for_one_call_of_another_tenant() -> None:
    """However much the other asks: the parts of a failed batch go in between."""
    world = World(rules(size=4), limit=1, bad=[b"bad"])
    world.ask(item())
    for name in ("bad", "a", "b", "c"):
        world.ask(*keys(name), tenant="first", group="first")
    world.answer(world.running[0])
    for number in range(20):
        world.ask(item(), tenant="other", group=f"{number}")
    for _ in range(9):
        world.answer(world.running[0])
    went = ["first" if call.group.key == "first" else "other" for call in world.calls[1:]]
    assert went[:9] == ["first", "first", *["other", "first"] * 3, "other"]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60))
def test_who_waits_is_served_as_often_as_others(order: list[str]) -> None:
    """At any time, of two who still wait, neither has had two items more than the other since
    both waited; each one's own go in their order.
    """
    fair = FairOrder()
    waiting = sorted((fair.tag(tenant), place, tenant) for place, tenant in enumerate(order))
    left = Counter(order)
    served: Counter[str] = Counter()
    for tag, _, tenant in waiting:
        fair.served(tag)
        served[tenant] += 1
        left[tenant] -= 1
        still = [served[one] for one in left if left[one]]
        assert not still or max(still) - min(still) <= 1
    for tenant in "abc":
        places = [place for _, place, one in waiting if one == tenant]
        assert places == sorted(places)


def test_who_was_away_gains_nothing() -> None:
    """A newcomer begins where the others are, not at their beginning."""
    fair = FairOrder()
    for _ in range(10):
        fair.served(fair.tag("a"))
    assert fair.tag("b") == 9.0 and fair.tag("b") == 10.0 and fair.tag("a") == 10.0


def test_tenants_are_remembered_no_longer_than_they_matter() -> None:
    """Every credential can be a new one."""
    fair = FairOrder()
    for number in range(3 * MAX_TENANTS):
        fair.served(fair.tag(number) + 1)
        assert len(fair) <= MAX_TENANTS + 1
    fair.clear()
    assert len(fair) == 0


def test_remembering_many_who_wait_costs_no_look_at_all_of_them_each_time() -> None:
    """With more tenants waiting than are remembered else, all are looked through now and then."""
    fair = FairOrder()
    looks = 0
    for number in range(3 * MAX_TENANTS):
        before = fair._last
        fair.tag(number)
        looks += fair._last is not before
    assert looks == 2 and len(fair) == 3 * MAX_TENANTS
