"""Whose turn it is: what a look at every group would choose, without one."""

from __future__ import annotations

from math import inf
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from middleware.core.batch.pace import Pace
from middleware.core.batch.queue import Bounds, Entry, Group, Job
from middleware.core.batch.ranking import SLACK, Ranking
from middleware.core.batch.sizes import Sizes
from middleware.core.batch.turns import Turns

from .test_any_mix import NAMES, play
from .world import World, item, rules


def ripe(world: World) -> Group | None:
    """Every group looked at: the one that may go whose item is first in the fair order."""
    found, first = None, inf
    for group in sorted(world.groups, key=lambda one: one.number):
        if may_go(world, group):
            tag = min(entry.tag for entry in group.waiting)
            if tag < first:
                found, first = group, tag
    return found


def may_go(world: World, group: Group) -> bool:
    now, waiting = world.now, group.waiting
    if not waiting:
        return False
    held = group.jobs < group.expected and now < group.hold_until
    full = len(waiting) >= world.plan.bounds(now, group).size
    due = now >= min(entry.due for entry in waiting)
    return full or due or not (group.running or held)


def soonest(world: World) -> float:
    """When another will go, every group looked at."""
    times = [inf]
    for group in world.groups:
        if group.waiting:
            times.append(group.soonest)
            if not group.running:
                times.append(group.hold_until)
    return min(times)


class Watched(World):
    """One that looks at every group whenever the plan chooses."""

    @property
    def groups(self) -> set[Group]:
        return {job.group for job in self.jobs}

    def pump(self) -> None:
        plan = self.plan
        while True:
            place, parts = plan._under_way.place(self.now), plan.waits
            expected = ripe(self)
            batch = plan.next(self.now)
            if batch is None:
                break
            assert batch.group is expected or (parts and batch.trial is not None)
            self._sent(batch)
        turns = plan._turns
        assert not set(turns._ready) & set(turns._later)
        if place:
            assert expected is None
            late = next((job.arrived + plan.rules.timeout for job in plan._waiting), inf)
            assert (plan.wake(self.now) or inf) == min(soonest(self), late)


def step(draw: Random) -> tuple[Any, ...]:
    """What happens next; often enough that many groups wait, some with a batch under way."""
    what = draw.choices(
        ["ask", "alike", "answer", "wait", "leave", "fail", "size", "limit"],
        [30, 5, 25, 20, 5, 2, 4, 4],
    )[0]
    who = (draw.choice("tuv"), draw.choice("abcdef"))
    match what:
        case "ask":
            few = draw.choice((1, 1, 1, 2, 5))
            return "ask", [item() for _ in range(few)], *who, draw.choice((None, None, 0.03))
        case "alike":
            return "ask", [item(10, draw.choice(NAMES)) for _ in range(2)], *who, None
        case "wait":
            return "wait", draw.choice((0.001, 0.004, 0.01, 0.03, 0.1))
        case "fail":
            return "fail", draw.randrange(1000), draw.choice((400, 500))
        case "size":
            return "size", draw.randint(1, 8)
        case "limit":
            return "limit", draw.randint(1, 4)
        case _:
            return what, draw.randrange(1000)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([0.005, 0.1]), st.integers(0, 2**32))
def test_it_is_whom_a_look_at_all_would_choose(delay: float, seed: int) -> None:
    """At each choice, whatever came and went, while batches of another size or number are allowed;
    and where none may go it is known when one may.
    """
    draw = Random(seed)
    world = Watched(rules(size=8, delay=delay), 4, NAMES[6:], most=6)
    for _ in range(200):
        match taken := step(draw):
            case ("size", number):
                world.plan.pace._size = number
            case ("limit", number):
                world.plan.pace.limit = world.limit = number
            case _:
                play(world, taken)
        world.pump()
    while world.running:
        world.answer(world.running[0])


def entered(group: Group, tag: float, due: float = 1.0) -> None:
    job = Job(group, "t", [item()], True)
    group.waiting[Entry(job, 0, tag, due)] = None
    group.soonest, group.jobs = due, group.jobs + 1


def test_a_choice_looks_at_the_group_that_goes_and_at_no_other() -> None:
    """However many wait: the rest are where they were put."""
    looked: list[Group] = []

    class Counted(Turns):
        __slots__ = ()

        def ready(self, group: Group, now: float) -> bool:
            looked.append(group)
            return super().ready(group, now)

    turns = Counted(Sizes(Bounds(8), Pace(8, 1, None)))
    groups = [Group(number) for number in range(1000)]
    for number, group in enumerate(groups):
        entered(group, float(number))
        turns.changed(group)
    assert turns.first(0.0) is groups[0]
    for group in groups:
        looked.clear()
        assert turns.first(0.0) is group and set(looked) == {group}
        group.waiting.clear()
        turns.changed(group)
    assert turns.first(0.0) is None and turns.wake(0.0) == inf


def test_a_smaller_batch_is_full_also_while_another_group_has_its_own_bound() -> None:
    """What one group was seen to take at most says nothing of when others are full."""
    pace = Pace(8, 1, None)
    sizes = Sizes(Bounds(8), pace)
    turns = Turns(sizes)
    small, large = Group("small"), Group("large")
    sizes.learn(small, 2, 0.0)
    large.running = 1
    for _ in range(5):
        entered(large, 0.0)
    turns.changed(large)
    assert turns.first(0.0) is None
    pace._size = 5
    assert turns.first(0.0) is large


def test_what_is_out_of_date_does_not_heap_up() -> None:
    """A group whose rank changes all the time leaves no more behind than there are groups, and a
    few; the order is that of the last ranks.
    """
    ranking = Ranking()
    groups = [Group(number) for number in range(10)]
    for turn in range(1000):
        for place, group in enumerate(groups):
            ranking.put(group, float((turn + place) % 97))
        assert len(ranking._heap) <= 2 * len(groups) + SLACK
    for place, group in enumerate(reversed(groups)):
        ranking.put(group, float(place // 2))
    found = []
    while (first := ranking.first()) is not None:
        found.append(first)
        ranking.take(first[1])
    assert [group.key for _, group in found] == [8, 9, 6, 7, 4, 5, 2, 3, 0, 1]
    assert not ranking._heap
