"""Any mix of arrivals, sizes, tenants, departures and failures."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from middleware.core.batch.queue import Group

from .world import Asking, World, item, rules

NAMES = [b"name %d" % n for n in range(8)]
BAD = NAMES[6:]

ITEM = st.one_of(
    st.integers(1, 40).map(lambda size: item(size)),
    st.sampled_from(NAMES).map(lambda key: item(10, key)),
)
STEP = st.one_of(
    st.tuples(
        st.just("ask"), st.lists(ITEM, min_size=1, max_size=9),
        st.sampled_from("tu"), st.sampled_from("gh"), st.sampled_from([None, 0.03]),
    ),
    st.tuples(st.just("leave"), st.integers(0, 1000)),
    st.tuples(st.just("answer"), st.integers(0, 1000)),
    st.tuples(st.just("fail"), st.integers(0, 1000), st.sampled_from([400, 429, 500, 503])),
    st.tuples(st.just("wait"), st.sampled_from([0.001, 0.03, 0.1, 0.5])),
)  # fmt: skip
RULES = st.builds(
    rules,
    size=st.sampled_from([1, 2, 4, 8]),
    tokens=st.sampled_from([None, 60, 200]),
    weight=st.sampled_from([None, 100]),
    delay=st.sampled_from([0.0, 0.01, 0.1]),
    timeout=st.sampled_from([0.2, 30.0]),
    queue=st.sampled_from([5, 1000]),
    waste=st.sampled_from([0.0, 0.5, 1.0]),
    splits=st.sampled_from([0, 3, 31]),
)  # fmt: skip


def held(world: World, group: Group) -> bool:
    return group.jobs < group.expected and world.now < group.hold_until


def check(world: World) -> None:
    """What holds after every step."""
    plan = world.plan
    assert plan.running == len(world.running) <= world.limit
    groups = {job.group for job in world.jobs}
    assert plan.queued == sum(len(group.waiting) for group in groups)
    assert plan.queued <= plan.rules.queue
    free = plan.running < world.limit
    for group in groups:
        assert group.running == sum(one.group is group for one in world.running)
        for entry in group.waiting:
            assert not entry.job.fate  # type: ignore[attr-defined]
            if free:
                assert world.now < entry.due, "an item waits though there is a place and it is time"
        if free and group.waiting and not group.running:
            assert held(world, group), "the upstream idles though somebody waits"
    assert not (free and plan.waits)
    bounds = plan.rules.bounds
    for batch in world.running:
        if batch.task is not None or batch.alone is not None:
            continue
        items = {entry.item.key: entry.item for entry in batch.entries}.values()
        assert len({entry.job.group for entry in batch.entries}) == 1
        assert len(items) == batch.sent <= bounds.size
        if len(items) > 1:
            assert bounds.tokens is None or max(i.size for i in items) * len(items) <= bounds.tokens
            assert bounds.bytes is None or sum(i.weight for i in items) <= bounds.bytes
        assert all(not job.fate for job in batch.jobs)  # type: ignore[attr-defined]


def play(world: World, step: tuple[Any, ...]) -> None:
    match step:
        case ("ask", items, tenant, group, patience):
            world.ask(*items, tenant=tenant, group=group, patience=patience)
        case ("leave", number) if world.jobs:
            job = world.jobs[number % len(world.jobs)]
            if not job.fate:
                world.leave(job)
        case ("answer", number) if world.running:
            world.answer(world.running[number % len(world.running)])
        case ("fail", number, status) if world.running:
            world.answer(world.running[number % len(world.running)], status)
        case ("wait", seconds):
            world.advance(seconds)


def run(world: World, steps: list[tuple[Any, ...]]) -> None:
    for step in steps:
        play(world, step)
        check(world)
    for _ in range(10_000):
        if not world.running and not world.plan.queued:
            break
        if world.running:
            world.answer(world.running[0])
        else:
            world.advance(0.2)
        check(world)
    assert not world.plan.queued and not world.plan.running and not world.plan.waits
    assert not world.plan._under_way.items and world.plan.wake(world.now) is None
    assert all(job.fate for job in world.jobs), "a client waits for ever"


@settings(max_examples=300, deadline=None)
@given(RULES, st.integers(1, 3), st.lists(STEP, max_size=60))
def test_every_client_gets_one_fate_and_no_bound_is_crossed(
    rules: Any, limit: int, steps: list[tuple[Any, ...]]
) -> None:
    """Answers to exactly its own items, each once and in order, or one error, or it left."""
    run(World(rules, limit, BAD), steps)


ASKS = st.lists(
    st.one_of(STEP.filter(lambda step: step[0] in ("ask", "answer", "wait", "leave"))), max_size=50
)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 3), ASKS)
def test_an_error_is_only_for_whom_the_server_refuses(
    limit: int, steps: list[tuple[Any, ...]]
) -> None:
    """With enough divisions and a server that refuses only what is bad: every other client gets
    its answers, and who asked for something bad gets the server's word on its own request.
    """
    world = World(rules(size=16), limit, BAD)
    run(world, steps)
    for job in world.jobs:
        bad = any(one.key in BAD for one in job.items)
        if job.fate == "left":
            continue
        assert isinstance(job, Asking)
        if bad:
            assert (job.fate, job.status) == ("alone", 422)
        else:
            assert job.fate == "own" or (job.fate, job.status) == ("alone", 200)


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 32), st.sets(st.integers(0, 31)), st.sampled_from([400, 422, 500]))
def test_calls_are_fewer_than_two_a_client(clients: int, bad: set[int], status: int) -> None:
    """However many of a batch are bad, and whatever it is refused with."""
    world = World(rules(size=32), 1, [b"bad%d" % n for n in bad])
    world.status = status
    world.ask(item())
    jobs = [world.ask(item(10, b"bad%d" % n if n in bad else None)) for n in range(clients)]
    while world.running:
        world.answer(world.running[0])
    assert all(job.fate for job in jobs)
    assert len(world.calls) - 1 <= 2 * clients - 1
