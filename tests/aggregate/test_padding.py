"""Items of like length are computed together, and nobody waits long for its likes."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from middleware.core.batch.padding import LOOKAHEAD, SHORT, Padding, choose
from middleware.core.batch.queue import Bounds, Entry, Group, Job

from .world import World, item, rules


def entries(*sizes: int) -> list[Entry]:
    group = Group("g")
    made = []
    for place, size in enumerate(sizes):
        made.append(Entry(Job(group, "t", [item(size)], True), 0, float(place), 0.0))
    return made


def chosen(waiting: list[Entry], size: int = 4, waste: float = 0.5, now: float = 0.0) -> list[int]:
    picked = choose(waiting, Bounds(size), waste, 0.1, now)
    return [entry.item.size for entry in picked]


def test_the_first_one_goes_with_its_likes() -> None:
    """Whatever came between them waits."""
    assert chosen(entries(10, 100, 11, 120, 9, 10, 130)) == [10, 10, 11, 9]
    assert chosen(entries(100, 10, 11, 120, 9, 10, 130), size=3) == [100, 120, 130]


def test_waste_is_bounded() -> None:
    """The share of padding in a batch; at 1 there is no bound, at 0 all must be equal."""
    assert chosen(entries(10, 100), waste=0.5) == [10, 100]
    assert chosen(entries(10, 10, 100), waste=0.5) == [10, 10]
    assert chosen(entries(10, 10, 100), waste=1.0) == [10, 10, 100]
    assert chosen(entries(20, 20, 21), waste=0.0) == [20, 20]


def test_short_ones_are_all_alike() -> None:
    """A few tokens more or less are no reason for another call."""
    assert chosen(entries(1, 2, SHORT, 5), waste=0.0) == [1, 2, 5, SHORT]
    assert chosen(entries(1, 2, SHORT + 1), waste=0.0) == [1, 2]


def test_one_that_was_passed_over_comes_first_after_the_delay() -> None:
    """The next batch is built around it, whatever its length and whoever else waits."""
    waiting = entries(10, 100, *[10] * 9)
    first = choose(waiting, Bounds(4), 0.5, 0.1, 0.0)
    rest = [entry for entry in waiting if entry not in first]
    assert rest[0].passed == 0.0 and rest[1].passed is None
    assert chosen(rest, now=0.1, waste=0.3) == [100]
    rest = [*entries(10, 100, *[10] * 9), *entries(90, 80)]
    for late in (1, -1):
        rest[late].passed = 0.0
    assert chosen(rest, size=2, now=0.1) == [100, 80], "those that are late go before their likes"
    assert chosen(rest, now=0.09, waste=0.3) == [10] * 4


def test_likes_are_looked_for_among_so_many() -> None:
    """The work for a batch does not grow with the queue."""
    near = entries(10, *[100] * (4 * LOOKAHEAD - 2), 10)
    assert chosen(near).count(10) == 2
    far = entries(10, *[100] * (4 * LOOKAHEAD - 1), 10)
    assert chosen(far).count(10) == 1


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=60),
    st.integers(1, 8),
    st.floats(0, 1),
    st.sampled_from([None, 50, 1000]),
)
def test_a_choice_keeps_its_bounds(
    sizes: list[int], size: int, waste: float, tokens: int | None
) -> None:
    """The first one is in it; items, padded tokens and waste are bounded; none is in it twice."""
    waiting = entries(*sizes)
    picked = choose(waiting, Bounds(size, tokens), waste, 0.1, 0.0)
    assert waiting[0] in picked and len(set(picked)) == len(picked) <= size
    longest = max(entry.item.size for entry in picked)
    lengths = [max(SHORT, entry.item.size) for entry in picked]
    if len(picked) > 1:
        assert tokens is None or longest * len(picked) <= tokens
        assert sum(lengths) >= (1 - waste) * max(lengths) * len(picked)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(0, 1 << 30))
def test_nobody_is_passed_over_for_longer_than_the_delay(sizes: list[int], seed: int) -> None:
    """Whatever else comes: once a batch in the fair order would have had it, an item waits for the
    delay, and then only for others that were passed over before it.
    """
    chance = random.Random(seed)
    world = World(rules(size=4, delay=0.1, waste=0.3), limit=1)
    world.ask(item())
    left = list(sizes)
    while left or world.running:
        for _ in range(chance.randrange(4)):
            if left:
                world.ask(item(left.pop()))
        waiting = [entry for group in world.plan._groups for entry in group.waiting]
        late = [one for one in waiting if one.passed is not None and world.now - one.passed >= 0.1]
        if world.running:
            world.answer(world.running[0])
            if late and world.running:
                assert min(late, key=lambda one: one.tag) in world.running[0].entries
        world.advance(0.03)


def test_what_padding_costs_is_counted() -> None:
    """Beside what the same batches had cost in the order of arrival."""
    padding = Padding()
    for size in (10, 100, 10, 100, 40, 100):
        padding.arrived(size)
    padding.batch([10, 10])
    padding.batch([100, 100])
    assert (padding.tokens, padding.sent, padding.in_order) == (220, 0, 180)
    padding.batch([40, 100])
    assert (padding.tokens, padding.sent, padding.in_order) == (360, 60, 240)


def test_one_that_left_is_not_counted() -> None:
    """Neither as sent nor as it would have been."""
    padding = Padding()
    for size in (10, 500, 10):
        padding.arrived(size)
    padding.left(500)
    padding.batch([10, 10])
    assert (padding.tokens, padding.sent, padding.in_order) == (20, 0, 0)


def test_like_lengths_waste_less() -> None:
    """Of a mix of lengths, against the order of arrival, with the queue that 64 clients make."""
    chance = random.Random(1)
    world = World(rules(size=16, delay=1.0, waste=0.5), limit=1)
    world.ask(item())
    for _ in range(100):
        while world.plan.queued < 64:
            world.ask(item(int(min(256, max(4, chance.lognormvariate(3, 1))))))
        world.advance(0.05)
        world.answer(world.running[0])
    padding = world.plan.padding
    assert padding.sent < 0.5 * padding.in_order
