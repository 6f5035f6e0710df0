"""A batch that fails is divided until whoever made it fail is alone."""

from __future__ import annotations

import pytest

from middleware.core.batch.queue import Group
from middleware.core.batch.sizes import CEILING_FOR
from middleware.core.batch.trial import (
    MAX_SUSPECTS,
    SAYS_NOTHING,
    SICK,
    SUSPECT_FOR,
    Suspects,
)
from proxy.apis.items import Item

from .world import World, item, keys, rules


def filled(number: int, size: int = 32, **more: int) -> World:
    """A world whose first batch of several is about to be answered."""
    world = World(rules(size=size, **more), limit=1, bad=[b"bad"])
    world.ask(item())
    return world


def finish(world: World) -> None:
    while world.running:
        world.answer(world.running[0])


@pytest.mark.parametrize("place", [0, 13, 31])
def test_one_bad_item_among_32(place: int) -> None:
    """31 get their answers, one the server's error to its own request; eleven calls in all, of
    which the bad one was in six.
    """
    world = filled(32)
    jobs = [world.ask(*keys("bad")) if n == place else world.ask(item()) for n in range(32)]
    finish(world)
    assert [n for n, job in enumerate(jobs) if job.status == 422] == [place]
    assert jobs[place].fate == "alone"
    assert {job.fate for job in jobs} <= {"own", "alone"}
    assert len(world.calls) == 1 + 11


def test_clients_that_ask_the_same_bad_thing_are_found_together() -> None:
    """Eight of 32, however they stand among the others: no more than 20 calls, not 40."""
    world = filled(32)
    jobs = [world.ask(item(key=b"bad") if n % 4 == 0 else item()) for n in range(32)]
    finish(world)
    assert [job.fate for job in jobs] == ["alone", "own", "own", "own"] * 8
    assert {job.status for job in jobs[::4]} == {422}
    assert len(world.calls) <= 1 + 20


def test_every_client_bad() -> None:
    """Each hears it of its own request, in fewer than two calls a client."""
    world = filled(32)
    jobs = [world.ask(*keys(f"bad{n}")) for n in range(32)]
    world.bad = {f"bad{n}".encode() for n in range(32)}
    finish(world)
    assert {(job.fate, job.status) for job in jobs} == {("alone", 422)}
    assert len(world.calls) == 1 + 63


def test_a_server_that_answers_everything_with_500_is_not_asked_for_long() -> None:
    """After the batch, its halves and its quarters all get what their part of it got."""
    world = filled(32)
    jobs = [world.ask(item()) for _ in range(32)]
    world.answer(world.running[0])
    while world.running:
        world.answer(world.running[0], 500)
    assert len(world.calls) == 1 + SICK
    assert {(job.fate, job.status) for job in jobs} == {("error", 500)}


def test_a_500_that_one_item_causes_is_found() -> None:
    """Because the other half was answered."""
    world = filled(32)
    world.status = 500
    jobs = [world.ask(*keys("bad")) if n == 9 else world.ask(item()) for n in range(32)]
    finish(world)
    assert [n for n, job in enumerate(jobs) if job.status == 500] == [9]


@pytest.mark.parametrize("status", sorted(SAYS_NOTHING))
def test_what_says_nothing_of_items_is_for_all(status: int) -> None:
    """One call, and all get what it got: more of them would make it worse."""
    world = filled(32)
    jobs = [world.ask(item()) for _ in range(5)]
    world.answer(world.running[0])
    world.answer(world.running[0], status)
    assert len(world.calls) == 2
    assert {(job.fate, job.status) for job in jobs} == {("error", status)}


def test_divisions_are_bounded() -> None:
    """Without any left, all of a part get what the part got."""
    world = filled(32, splits=2)
    jobs = [world.ask(*keys("bad")) if n == 0 else world.ask(item()) for n in range(32)]
    finish(world)
    assert len(world.calls) == 1 + 1 + 2 * 2
    assert [job.fate for job in jobs] == ["error"] * 8 + ["own"] * 24


def test_a_client_with_several_items_hears_what_it_would_have_heard() -> None:
    """One of them bad: its own request is sent as it came, and the error is the answer to that."""
    world = filled(32)
    mixed = world.ask(item(), *keys("bad"), item())
    others = [world.ask(item(), item()) for _ in range(3)]
    finish(world)
    assert (mixed.fate, mixed.status) == ("alone", 422)
    assert {job.fate for job in others} <= {"own", "alone"} and not any(
        job.status == 422 for job in others
    )


def test_one_that_is_sent_alone_is_asked_for_nowhere_else() -> None:
    """Some of its items failed with others while the rest still waited: the rest waits no more."""
    world = World(rules(size=3), limit=1, bad=[b"bad"])
    world.ask(item())
    other = world.ask(item())
    mixed = world.ask(*keys("a", "bad"), item())
    last = world.ask(item())
    world.answer(world.running[0])
    assert world.running[0].sent == 3 and world.plan.queued == 2
    world.answer(world.running[0])
    assert world.plan.queued == 1
    finish(world)
    assert (mixed.fate, mixed.status) == ("alone", 422)
    assert {other.fate, last.fate} <= {"alone", "own"} and last.status in (0, 200)
    assert sum(world.sizes) == 1 + 3 + 1 + 3 + 1


def test_a_part_of_a_large_request_is_its_own_to_blame() -> None:
    """It could not be sent as it came; its error is that of the part, and the rest is ended."""
    world = World(rules(size=4), limit=1, bad=[b"bad"])
    job = world.ask(*keys("a", "bad", "c", "d"), *[item() for _ in range(8)])
    other = world.ask(item())
    finish(world)
    assert (job.fate, job.status) == ("error", 422)
    assert other.fate in ("own", "alone") and other.status in (0, 200)
    assert len(world.calls) < 5


def test_an_item_known_to_be_bad_is_sent_alone_from_the_beginning() -> None:
    """A client that asks it again and again costs nobody a divided batch, for a minute; when it
    is answered well it is like any other again.
    """
    world = filled(8)
    first = [world.ask(*keys("bad")), *[world.ask(item()) for _ in range(7)]]
    finish(world)
    assert first[0].status == 422
    world.ask(item())
    again = [world.ask(*keys("bad")), *[world.ask(item()) for _ in range(7)]]
    before = len(world.calls)
    finish(world)
    assert world.sizes[before:] == [7] or sorted(world.sizes[before:]) == [1, 7]
    assert again[0].status == 422 and world.plan.divided == 3
    world.bad.clear()
    world.ask(item())
    world.ask(*keys("bad"))
    finish(world)
    world.ask(item())
    cured = [world.ask(*keys("bad")), world.ask(item())]
    finish(world)
    assert {job.fate for job in cured} == {"own"}


def test_what_is_known_to_be_bad_waits_like_anything_else() -> None:
    """Within `max_queue`, and in its tenant's turn: who asks it a hundred times over keeps nobody
    waiting for more than one call of it.
    """
    world = World(rules(size=8, queue=20), limit=1, bad=[b"bad"])
    world.ask(*keys("bad"))
    finish(world)
    world.ask(item())
    flood = [world.ask(*keys("bad"), tenant="flood") for _ in range(10)]
    other = world.ask(item(), tenant="other")
    flood += [world.ask(*keys("bad"), tenant="flood") for _ in range(90)]
    assert world.plan.queued == 20
    assert [job.fate for job in flood].count("refused") == 81
    for _ in range(3):
        world.answer(world.running[0])
    assert (other.fate, other.status) == ("alone", 200)
    finish(world)
    assert {(job.fate, job.status) for job in flood[:19]} == {("alone", 422)}
    assert not world.plan.queued and not world.plan._waiting


def test_a_request_with_what_is_known_to_be_bad_is_sent_as_it_came() -> None:
    """Whole, also where its items would not share a batch."""
    world = World(rules(waste=0.0), limit=1, bad=[b"bad"])
    world.ask(*keys("bad"))
    finish(world)
    world.ask(item())
    job = world.ask(*keys("bad"), item(500), *keys("bad"))
    finish(world)
    assert (job.fate, job.status) == ("alone", 422) and world.sizes == [1, 1, 3]


def test_what_is_drawn_is_known_to_be_bad_by_what_it_asks() -> None:
    """Its key is no other's, not even its own of the last time."""
    world = filled(8)
    bad = [item()._replace(data=b"bad") for _ in range(2)]
    world.bad |= {one.key for one in bad}
    world.ask(bad[0])
    world.ask(item())
    finish(world)
    before = len(world.calls)
    world.ask(item())
    world.ask(bad[1])
    world.ask(item())
    finish(world)
    assert world.sizes[before:] == [1, 1, 1] and world.plan.divided == 1


def test_suspects_are_few_and_forgotten() -> None:
    """A table that clients fill: bounded in number and time."""
    suspects, group = Suspects(), Group("g")

    def named(number: int) -> Item:
        return item(key=b"%d" % number)

    for number in range(MAX_SUSPECTS + 10):
        suspects.add(group, named(number), 0.0, proven=True)
    assert len(suspects) == MAX_SUSPECTS
    assert not suspects.among(group, [named(9)], 1.0)
    assert suspects.among(group, [named(9), named(10)], 1.0)
    assert not suspects.among(group, [named(10)], SUSPECT_FOR)
    assert not suspects.proven(group, named(9)) and suspects.proven(group, named(10))


def test_what_is_proven_is_so_for_as_long_as_it_is_remembered() -> None:
    """Refused again it stays proven; answered well, or refused at another time, it is not."""
    suspects, group, bad = Suspects(), Group("g"), item()
    suspects.add(group, bad, 0.0, proven=False)
    assert not suspects.proven(group, bad)
    suspects.add(group, bad, 1.0, proven=True)
    suspects.add(group, bad, SUSPECT_FOR, proven=False)
    assert suspects.proven(group, bad)
    suspects.add(group, bad, 2 * SUSPECT_FOR, proven=False)
    assert not suspects.proven(group, bad)
    suspects.add(group, bad, 2 * SUSPECT_FOR, proven=True)
    suspects.clear(group, bad)
    assert not suspects.proven(group, bad) and not len(suspects)


def test_a_server_that_takes_fewer_items_is_found_out() -> None:
    """Where both halves of a refused batch are well, it was its size: for a minute there are no
    larger ones.
    """
    world = World(rules(size=32), limit=1, most=16)
    world.ask(item())
    jobs = [world.ask(item()) for _ in range(64)]
    finish(world)
    assert {job.fate for job in jobs} == {"own"}
    assert world.sizes[1:] == [32, 16, 16, 16, 16]
    world.advance(CEILING_FOR + 1)
    world.ask(item())
    for _ in range(32):
        world.ask(item())
    world.answer(world.running[0])
    assert world.running[0].sent == 32


def test_what_one_group_is_taken_in_limits_no_other() -> None:
    """One model behind a server may take fewer items than another."""
    world = World(rules(size=8), limit=1, most=2)
    world.ask(item(), group="small")
    for _ in range(4):
        world.ask(item(), group="small")
    finish(world)
    assert world.sizes == [1, 4, 2, 2]
    world.most = 9999
    for group, sizes in (("small", [1, 2, 2]), ("large", [1, 4])):
        before = len(world.calls)
        for _ in range(5):
            world.ask(item(), group=group)
        finish(world)
        assert world.sizes[before:] == sizes
    # Before it was taken apart a request's group is not known.
    assert world.plan.bounds(world.now).size == 2
    world.advance(CEILING_FOR + 1)
    assert world.plan.bounds(world.now).size == 8
    world.ask(item(), group="small")
    finish(world)
    assert not len(world.plan._groups)


def test_a_500_teaches_nothing_of_size() -> None:
    """It may have passed by itself."""
    world = World(rules(size=8), limit=1)
    world.ask(item())
    for _ in range(16):
        world.ask(item())
    world.answer(world.running[0])
    world.answer(world.running[0], 500)
    finish(world)
    assert world.sizes == [1, 8, 4, 4, 8] or sorted(world.sizes) == [1, 4, 4, 8, 8]


def test_a_client_that_leaves_while_its_batch_is_divided() -> None:
    """It is in no part that was not sent yet; a part with nobody left is not sent."""
    world = filled(4)
    jobs = [world.ask(*keys("bad")), world.ask(item()), world.ask(item()), world.ask(item())]
    world.answer(world.running[0])
    world.answer(world.running[0])
    assert world.running[0].sent == 2 and len(world.calls) == 3
    world.leave(jobs[2])
    world.leave(jobs[3])
    finish(world)
    assert [job.fate for job in jobs] == ["alone", "alone", "left", "left"]
    assert len(world.calls) == 5
