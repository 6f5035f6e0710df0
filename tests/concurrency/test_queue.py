"""Who is next, and who gives way."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middleware.core.queue import FairQueue, Place

NOBODY: dict[str, int] = {}


def filled(places: list[tuple[str, int]], lower_share: float = 0.1) -> FairQueue:
    queue = FairQueue(lower_share)
    for tenant, priority in places:
        queue.push(Place(tenant, priority))
    return queue


def order(queue: FairQueue) -> list[tuple[str, int]]:
    """Everything that waits, as it goes when no permit is held."""
    taken = [queue.pop(NOBODY) for _ in range(len(queue))]
    return [(place.tenant, place.priority) for place in taken]


def test_a_tenants_requests_go_in_the_order_they_came() -> None:
    """First come, first served."""
    queue = FairQueue(0)
    places = [Place("a", 0) for _ in range(5)]
    for place in places:
        queue.push(place)
    assert [queue.pop(NOBODY) for _ in range(5)] == places
    with pytest.raises(IndexError):
        queue.pop(NOBODY)


def test_equal_tenants_take_turns() -> None:
    """However many each has waiting."""
    queue = filled([("a", 0)] * 5 + [("b", 0)] * 2 + [("c", 0)])
    assert "".join(tenant for tenant, _ in order(queue)) == "abcabaaa"


def test_who_holds_the_fewest_permits_goes_first() -> None:
    """A tenant with long requests does not get a turn for each short one of another."""
    queue = filled([("a", 0)] * 2 + [("b", 0)] * 2 + [("c", 0)] * 2)
    assert queue.pop({"a": 3, "b": 1, "c": 2}).tenant == "b"
    assert queue.pop({"a": 3, "b": 3, "c": 2}).tenant == "c"
    assert queue.pop({"a": 3, "b": 3, "c": 3}).tenant == "a"


def test_the_higher_priority_goes_first() -> None:
    """With nothing left to those below, they wait for as long as there is a higher one."""
    queue = filled([("a", 0), ("b", 5), ("c", -1), ("d", 5), ("e", 2)], lower_share=0)
    assert [priority for _, priority in order(queue)] == [5, 5, 2, 0, -1]


def test_a_priority_leaves_a_share_to_those_below() -> None:
    """One permit in ten goes down, and of those one in ten further down."""
    queue = FairQueue(0.1)
    got: Counter[int] = Counter()
    for priority in (0, 1, 2):
        for _ in range(1000):
            queue.push(Place("a", priority))
    for _ in range(1000):
        priority = queue.pop(NOBODY).priority
        got[priority] += 1
        queue.push(Place("a", priority))
    assert got == {2: 900, 1: 90, 0: 10}


def test_the_share_is_owed_also_where_the_higher_one_comes_and_goes() -> None:
    """A priority that never has more than one waiting owes the same."""
    queue = filled([("low", 0)] * 20)
    got: Counter[int] = Counter()
    for _ in range(100):
        queue.push(Place("high", 1))
        while queue.pop(NOBODY).priority == 0:
            got[0] += 1
        got[1] += 1
    assert got == {1: 100, 0: 11}


def test_nothing_is_owed_where_nobody_waits_below() -> None:
    """A permit is not kept for a lower priority that does not need it."""
    queue = filled([("a", 1)] * 100)
    for _ in range(100):
        queue.pop(NOBODY)
    queue.push(Place("a", 1))
    queue.push(Place("a", 0))
    assert queue.pop(NOBODY).priority == 1


def test_who_leaves_is_not_served() -> None:
    """And leaves only once."""
    queue = FairQueue(0.1)
    stays, leaves = Place("a", 0), Place("a", 0)
    for place in (leaves, stays):
        queue.push(place)
    assert queue.remove(leaves)
    assert not queue.remove(leaves)
    assert not queue.remove(Place("b", 3))
    assert len(queue) == 1 and queue.pop(NOBODY) is stays


def test_the_flood_gives_way() -> None:
    """Where one too many waits, it is the newest of whoever has most waiting."""
    queue = FairQueue(0.1)
    flood = [Place("flood", 0) for _ in range(5)]
    light = Place("light", 0)
    for place in (*flood, light):
        queue.push(place)
    assert queue.drop() is flood[-1]
    another = Place("flood", 0)
    queue.push(another)
    assert queue.drop() is another


def test_among_equals_the_newcomer_gives_way() -> None:
    """Nobody who waits is thrown out for one who has no better claim."""
    queue = filled([("a", 0), ("a", 0), ("b", 0)])
    newcomer = Place("b", 0)
    queue.push(newcomer)
    assert queue.drop() is newcomer


def test_a_lower_priority_gives_way_down_to_its_share_of_the_places() -> None:
    """A tenth of the places stays with it, and it gets them back from the higher ones."""
    queue = filled([("low", 0)] * 20)
    for _ in range(40):
        queue.push(Place("high", 1))
        queue.drop()
    assert len(queue) == 20
    assert Counter(priority for _, priority in order(queue)) == {1: 18, 0: 2}
    queue = filled([("high", 1)] * 20)
    for _ in range(5):
        queue.push(Place("low", 0))
        queue.drop()
    assert Counter(priority for _, priority in order(queue)) == {1: 18, 0: 2}


def test_each_priority_leaves_a_share_of_the_places_to_those_below() -> None:
    """Where all of them flood, in whatever order: a tenth, and of that a tenth."""
    for floods in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        queue = FairQueue(0.1)
        for priority in floods:
            for _ in range(200):
                queue.push(Place("flood", priority))
                if len(queue) > 100:
                    queue.drop()
        assert Counter(priority for _, priority in order(queue)) == {2: 90, 1: 9, 0: 1}


def test_the_longest_line_is_known_when_others_get_shorter() -> None:
    """Of two that are equally long one goes on: the other one is still the longest."""
    queue = filled([("a", 0)] * 3 + [("b", 0)] * 3)
    queue.pop(NOBODY)
    assert queue.drop().tenant == "b"


def test_nothing_is_left_to_dropping_from_an_empty_queue() -> None:
    """It raises IndexError."""
    with pytest.raises(IndexError):
        FairQueue(0.1).drop()


@settings(deadline=None)
@given(
    floods=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    permits=st.integers(1, 8),
    long=st.integers(1, 5),
)
def test_a_flood_starves_nobody(floods: list[int], permits: int, long: int) -> None:
    """A tenant with one request waiting gets its permit within a round: for each flooding tenant
    no more permits go before it than there are tenants, however much they have waiting and
    however long their requests take.
    """
    queue = FairQueue(0.1)
    for number, size in enumerate(floods):
        for _ in range(size):
            queue.push(Place(f"flood {number}", 0))
    held: Counter[str] = Counter()
    running: list[str] = []
    while len(running) < permits and len(queue):  # the floods had everything before
        tenant = queue.pop(held).tenant
        held[tenant] += 1
        running.append(tenant)
    light = Place("light", 0)
    queue.push(light)
    for before in range(len(floods) + 1):
        # The shortest requests end first: one in `long` of a flood, each of the others.
        ended = running.pop(before % len(running) // long)
        held[ended] -= 1
        place = queue.pop(held)
        held[place.tenant] += 1
        running.append(place.tenant)
        if place is light:
            return
    raise AssertionError(f"not served within {len(floods) + 1} permits")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.integers(0, 1),
            st.sampled_from(["push", "push", "pop", "remove"]),
        ),
        max_size=200,
    ),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_nothing_is_lost(
    steps: list[tuple[str, int, str]], places: int, lower_share: float
) -> None:
    """Whatever happens, each request leaves the queue once; there are never more than places; and
    whoever gives way has at least as much waiting in its priority as any other tenant there.
    """
    queue = FairQueue(lower_share)
    inside: list[Place] = []
    for tenant, priority, step in steps:
        if step == "push":
            place = Place(tenant, priority)
            queue.push(place)
            inside.append(place)
            if len(queue) > places:
                dropped = queue.drop()
                lines = Counter(one.tenant for one in inside if one.priority == dropped.priority)
                assert lines[dropped.tenant] == max(lines.values())
                inside.remove(dropped)
        elif step == "pop" and inside:
            inside.remove(queue.pop(NOBODY))
        elif step == "remove" and inside:
            place = inside.pop(len(steps) % len(inside))
            assert queue.remove(place)
        assert len(queue) == len(inside) <= places
    while inside:
        inside.remove(queue.pop(NOBODY))
    assert not len(queue)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 3), min_size=60, max_size=120),
    st.sampled_from([20, 40]),
)
def test_no_priority_is_starved(higher: list[int], places: int) -> None:
    """However many of higher priorities come: a request of the lowest finds a place, and is served
    within the permits that its share makes out.
    """
    queue = FairQueue(0.5)
    for priority in (1, 2, 3):
        for _ in range(places):
            queue.push(Place("flood", priority))
            if len(queue) > places:
                queue.drop()
    low = Place("low", 0)
    queue.push(low)
    if len(queue) > places:
        assert queue.drop() is not low
    for served in range(40):
        if queue.pop(NOBODY) is low:
            assert served < 2**3 * 3
            return
        queue.push(Place("flood", higher[served]))
        if len(queue) > places:
            assert queue.drop() is not low
    raise AssertionError("never served")
