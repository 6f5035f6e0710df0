"""What goes to the server, and when: on a clock that the test turns."""

from __future__ import annotations

import pytest

from middleware.core.batch.groups import MAX_GROUPS
from middleware.core.batch.pace import FIRST_PATIENCE, STUCK

from .world import World, item, keys, rules


def test_an_idle_upstream_is_asked_at_once() -> None:
    """The request goes as it is, and nothing is left that would have to wake up."""
    world = World(rules())
    world.ask(item())
    assert world.sizes == [1] and world.plan.wake(0.0) is None


def test_at_concurrency_one_nothing_waits() -> None:
    """However long the calls take and however many items each has."""
    world = World(rules(size=8))
    for number in range(50):
        job = world.ask(*[item() for _ in range(1 + number % 7)])
        assert world.running and world.calls[-1].began == world.now
        world.advance(0.01 * (number % 3 + 1))
        world.answer(world.running[0])
        assert job.fate == "alone"


def test_the_next_batch_is_collected_while_one_runs() -> None:
    """What came meanwhile goes together when the one before it has ended."""
    world = World(rules(), limit=2)
    world.ask(item())
    waiting = [world.ask(item()) for _ in range(3)]
    assert world.sizes == [1]
    world.answer(world.running[0])
    assert world.sizes == [1, 3]
    world.answer(world.running[0])
    assert [job.fate for job in waiting] == ["own"] * 3


def test_a_full_batch_does_not_wait_for_the_one_before_it() -> None:
    """Where another call may be under way; with a limit of one it does."""
    for limit, sizes in ((2, [1, 4]), (1, [1])):
        world = World(rules(), limit=limit)
        for _ in range(5):
            world.ask(item())
        assert world.sizes == sizes


def test_nobody_is_held_longer_than_the_delay_while_there_is_a_place() -> None:
    """The delay over, a batch goes beside the one under way."""
    world = World(rules(delay=0.1), limit=2)
    world.ask(item())
    world.advance(0.05)
    world.ask(item())
    world.advance(0.099)
    assert world.sizes == [1]
    world.advance(0.002)
    assert world.sizes == [1, 1] and world.calls[1].began == pytest.approx(0.15)


def test_where_there_is_no_place_the_delay_does_not_make_one() -> None:
    """`max_inflight` is never exceeded; the queue has a timeout of its own."""
    world = World(rules(delay=0.1, timeout=1.0), limit=1)
    world.ask(item())
    late = world.ask(item())
    world.advance(0.9)
    assert world.sizes == [1] and not late.fate
    world.advance(0.2)
    assert late.fate == "late" and world.plan.queued == 0


def test_a_call_that_hangs_does_not_hold_up_all() -> None:
    """Where the number of calls is remora's to find: another goes in its place after a second, or
    four times what it should have taken. A number in the file is never exceeded.
    """
    world = World(rules(), limit=None)
    world.ask(item())
    world.ask(item(), group="other")
    world.advance(FIRST_PATIENCE - 0.01)
    assert world.sizes == [1]
    world.advance(0.02)
    assert world.sizes == [1, 1]
    world.ask(item(), group="third")
    world.advance(0.5)
    assert world.sizes == [1, 1]
    world.advance(0.5)
    assert world.sizes == [1, 1, 1] and world.plan.running == 3
    for batch in list(world.running):
        world.answer(batch)
    assert world.plan.running == 0 and world.plan.wake(world.now) is None

    slow = World(rules(), limit=None)
    for _ in range(5):
        slow.ask(item())
        slow.advance(2.0)
        slow.answer(slow.running[0])
    slow.ask(item())
    slow.ask(item(), group="other")
    slow.advance(2.0 * STUCK - 0.1)
    assert slow.sizes == [1] * 6
    slow.advance(0.2)
    assert slow.sizes == [1] * 7

    fixed = World(rules(timeout=100.0), limit=1)
    fixed.ask(item())
    fixed.ask(item(), group="other")
    fixed.advance(90)
    assert fixed.sizes == [1]


def test_a_client_in_a_hurry_is_held_for_half_of_its_time_at_most() -> None:
    """Its deadline counts where it is nearer than the delay, also behind others."""
    world = World(rules(delay=0.1), limit=2)
    world.ask(item())
    world.ask(item())
    world.ask(item(), patience=0.02)
    world.advance(0.011)
    assert world.sizes == [1, 2]


def test_groups_are_never_mixed() -> None:
    """Each batch is of one group; another group's call under way holds nobody up."""
    world = World(rules(), limit=3)
    world.ask(item(), group="a")
    world.ask(item(), group="b")
    assert world.sizes == [1, 1]
    for group in ("a", "b", "a"):
        world.ask(item(), group=group)
    for batch in list(world.running):
        world.answer(batch)
    assert sorted(world.sizes) == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("bounds", "sizes"),
    [({"size": 3}, [3, 3, 2]), ({"size": 8, "tokens": 40}, [4, 4]), ({"weight": 25}, [2] * 4)],
)
def test_bounds_of_a_batch(bounds: dict[str, int], sizes: list[int]) -> None:
    """Items, padded tokens and bytes; items here have ten tokens and ten bytes."""
    world = World(rules(**bounds), limit=1)
    world.ask(item())
    for _ in range(8):
        world.ask(item())
    while world.running:
        world.answer(world.running[0])
    assert world.sizes == [1, *sizes]


def test_an_item_over_a_bound_goes_by_itself() -> None:
    """It cannot be made smaller; the server may say what it thinks of it."""
    world = World(rules(tokens=50), limit=1)
    world.ask(item())
    large = world.ask(item(500))
    world.ask(item())
    world.answer(world.running[0])
    assert world.sizes == [1, 1]
    world.answer(world.running[0])
    assert large.fate == "alone", "its own request says it best"
    assert world.plan.whole([item(10**9)]) and not world.plan.whole([item(30), item(30)])


def test_a_request_over_the_bound_is_split_side_by_side() -> None:
    """Its parts do not wait for others to fill the last of them, and come back in order."""
    world = World(rules(size=4), limit=8)
    job = world.ask(*[item() for _ in range(10)])
    assert world.sizes == [4, 4, 2]
    for batch in reversed(list(world.running)):
        world.answer(batch)
    assert job.fate == "own"


def test_the_same_item_is_sent_once() -> None:
    """In one request or in several; everybody who asked gets the answer."""
    world = World(rules())
    one = world.ask(*keys("a", "a", "b"))
    assert world.sizes == [2]
    two, three = world.ask(*keys("a")), world.ask(*keys("a", "c"))
    world.answer(world.running[0])
    assert world.sizes == [2, 2]
    world.answer(world.running[0])
    assert [job.fate for job in (one, two, three)] == ["own"] * 3


def test_same_items_do_not_count_against_the_bound() -> None:
    """A batch is full when it has so many different ones."""
    world = World(rules(size=2), limit=1)
    world.ask(item())
    jobs = [world.ask(*keys("a" if n % 2 else "b")) for n in range(6)]
    world.answer(world.running[0])
    assert world.sizes == [1, 2]
    world.answer(world.running[0])
    assert {job.fate for job in jobs} == {"own"}


def test_the_queue_is_bounded() -> None:
    """In items; one more is refused, and there is room again when some have gone."""
    world = World(rules(queue=5), limit=1)
    world.ask(item())
    assert not world.ask(*[item() for _ in range(3)]).fate
    assert world.ask(*[item() for _ in range(3)]).fate == "refused"
    assert not world.ask(*[item() for _ in range(2)]).fate
    assert world.ask(item()).fate == "refused"
    world.answer(world.running[0])
    assert not world.ask(*[item() for _ in range(4)]).fate


def test_a_client_that_leaves_the_queue_is_not_asked_for() -> None:
    """Its items go with it; the others' batch is smaller."""
    world = World(rules())
    world.ask(item())
    first, second = world.ask(item()), world.ask(item())
    world.leave(first)
    world.answer(world.running[0])
    assert world.sizes == [1, 1]
    world.answer(world.running[0])
    assert (first.fate, second.fate) == ("left", "alone")


def test_a_batch_is_deserted_when_its_last_client_leaves() -> None:
    """Not before; what it held is free for others."""
    world = World(rules())
    world.ask(item())
    first, second = world.ask(item()), world.ask(item())
    world.answer(world.running[0])
    world.leave(first)
    assert len(world.running) == 1
    world.leave(second)
    assert not world.running and world.plan.running == 0
    world.ask(item())
    assert world.sizes == [1, 2, 1]


def test_after_a_batch_its_clients_are_given_a_moment() -> None:
    """As long as a call costs whatever its size: they then share the next one. A client that is
    all alone is not waited for.
    """
    world = World(rules(size=8))
    for number in (1, 4, 2, 5, 3):
        for _ in range(number):
            world.ask(item())
        while world.running:
            batch = world.running[0]
            world.advance(0.010 + 0.002 * batch.sent)
            world.answer(batch)
            world.advance(0.02)
    assert world.plan.pace.fixed == pytest.approx(0.010, rel=0.2)
    world.advance(1)
    world.ask(item())
    world.ask(item())
    world.ask(item())
    world.answer(world.running[0])
    assert not world.running, "two wait for the third to come back"
    before = len(world.calls)
    world.ask(item())
    assert world.sizes[before:] == [3]
    world.answer(world.running[0])
    world.ask(item())
    assert not world.running
    world.advance(0.011)
    assert world.sizes[before:] == [3, 1]
    world.answer(world.running[0])
    world.advance(1)
    world.ask(item())
    assert world.sizes[before:] == [3, 1, 1]


def test_whoever_comes_after_a_hold_does_not_overtake_those_held() -> None:
    """Also before the timer is heard that ends it."""
    world = World(rules(size=8))
    for number in (1, 4, 2, 5, 3):
        for _ in range(number):
            world.ask(item())
        while world.running:
            world.advance(0.010 + 0.002 * world.running[0].sent)
            world.answer(world.running[0])
            world.advance(0.02)
    world.advance(1)
    for _ in range(3):
        world.ask(item())
    world.answer(world.running[0])
    assert not world.running and world.plan.queued == 2
    before = len(world.calls)
    world.now += 1
    world.ask(item())
    assert world.sizes[before:] == [3]


def test_holds_that_do_not_pay_are_given_up() -> None:
    """Where the clients do not come back, they are waited for at every sixteenth chance."""
    world = World(rules(size=8))
    held = 0
    for _ in range(200):
        world.ask(item())
        world.ask(item())
        world.advance(0.01)
        world.answer(world.running[0])  # the second one is alone now
        held += not world.running
        world.advance(0.2)
        while world.running:
            world.answer(world.running[0])
        world.advance(1)
    assert 5 < held < 30


def test_groups_that_nobody_asks_of_are_forgotten() -> None:
    """Every client can make one."""
    world = World(rules(), limit=1)
    for number in range(3 * MAX_GROUPS):
        world.plan.group(number)
    assert len(world.plan._groups) <= MAX_GROUPS + 1
    for number in range(20):
        world.ask(item(), group=f"{number}")
    while world.running:
        world.answer(world.running[0])
    assert len([one for one in world.plan._groups if isinstance(one.key, str)]) == 0


def test_groups_that_are_in_use_cost_no_look_at_all_of_them_each_time() -> None:
    """Where more are in use than are remembered else, all are looked through now and then."""
    world = World(rules(queue=9999), limit=1)
    groups = world.plan._groups
    looks = 0
    for number in range(3 * MAX_GROUPS):
        before = groups._all
        world.ask(item(), group=f"{number}")
        looks += groups._all is not before
    assert looks == 2 and len(groups) == 3 * MAX_GROUPS
