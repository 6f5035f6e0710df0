"""Permits and those who wait for them: nothing leaks, nothing is given twice."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from middleware.concurrency.permits import (
    LEAST_RETRY,
    MOST_RETRY,
    QUEUE_FACTOR,
    Permits,
    QueueFull,
    QueueTimeout,
)
from middleware.core.queue import FairQueue, Place


class Recorded(FairQueue):
    """Keeps every place there ever was, in the order they came."""

    def __init__(self) -> None:
        super().__init__(0.1)
        self.places: list[Place] = []

    def push(self, place: Place) -> None:
        self.places.append(place)
        super().push(place)


class Desk:
    """Permits, and clients that ask for them. The clock is the test's."""

    def __init__(self, limit: int = 1, queue: int | None = 2, timeout: float = 60.0) -> None:
        self.now = 100.0
        self.permits = Permits(limit, queue, timeout, 0.1, lambda: self.now)
        self.queue = self.permits._queue = Recorded()
        self.holding: list[str] = []
        self.came: dict[str, str] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def ask(self, name: str, tenant: str = "", priority: int = 0) -> None:
        self.tasks[name] = asyncio.get_running_loop().create_task(
            self._ask(name, tenant or name, priority)
        )

    async def _ask(self, name: str, tenant: str, priority: int) -> None:
        try:
            if self.permits.in_flight < self.permits.limit:
                self.permits.take(tenant)
            else:
                await self.permits.turn(tenant, priority)
        except QueueFull:
            self.came[name] = "full"
        except QueueTimeout:
            self.came[name] = "late"
        except asyncio.CancelledError:
            self.came[name] = "left"
            raise
        else:
            self.came[name] = "granted"
            self.holding.append(tenant)

    def give_back(self) -> None:
        if self.holding:
            self.permits.give_back(self.holding.pop(0))

    def expire(self, place: int) -> None:
        """The time of whoever was the so-many-th to queue up is over."""
        if place < len(self.queue.places):
            self.permits._expire(self.queue.places[place])  # type: ignore[arg-type]

    async def settle(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    def check(self) -> None:
        permits = self.permits
        assert permits.in_flight <= permits.limit
        assert permits.in_flight == permits.limit or not permits.waiting
        assert sum(permits._held.values()) == permits.in_flight
        assert min(permits._held.values(), default=1) > 0

    async def close(self) -> None:
        """Everybody who got a permit gives it back; then there is nothing left."""
        await self.settle()
        while self.holding:
            self.give_back()
            await self.settle()
            self.check()
        assert all(task.done() for task in self.tasks.values()), "somebody was forgotten"
        assert self.permits.in_flight == self.permits.waiting == 0
        assert self.permits._held == {}


EVENTS = ("give back", "leave 1", "leave 2", "expire 1", "displace", "raise limit")


def interleavings() -> Iterator[tuple[tuple[str, bool], ...]]:
    """Every order of four of the events, each with or without a turn of the loop behind it."""
    for events in itertools.permutations(EVENTS, 4):
        for steps in itertools.product((False, True), repeat=4):
            yield tuple(zip(events, steps, strict=True))


async def play(events: tuple[tuple[str, bool], ...]) -> Desk:
    """One permit is out, two wait, and this happens to them."""
    desk = Desk()
    desk.ask("holder")
    await desk.settle()
    desk.ask("1", tenant="flood")
    desk.ask("2", tenant="flood")
    await desk.settle()
    for event, step in events:
        match event.split():
            case ["give", "back"]:
                desk.give_back()
            case ["leave", name]:
                desk.tasks[name].cancel()
            case ["expire", _]:
                desk.expire(0)
            case ["displace"]:
                desk.ask("3", tenant="light")
            case ["raise", "limit"]:
                desk.permits.set_limit(2)
        desk.check()
        if step:
            await asyncio.sleep(0)
            desk.check()
    await desk.close()
    return desk


async def test_no_interleaving_leaks_a_permit_or_forgets_a_waiter() -> None:
    """Permits given back, clients leaving, times running out, newcomers displacing, limits
    growing, in every order, within one turn of the loop or over several: afterwards each client
    has been told one thing, and all permits are back.
    """
    seen: Counter[str] = Counter()
    number = 0
    for events in interleavings():
        desk = await play(events)
        assert set(desk.came) >= {"holder", "1", "2"}, events
        counted = desk.permits.full + desk.permits.late
        assert counted == sum(how in ("full", "late") for how in desk.came.values())
        seen.update(desk.came.values())
        number += 1
    assert number == 360 * 16
    assert set(seen) == {"granted", "full", "late", "left"}


async def test_a_permit_that_comes_as_its_client_leaves_goes_to_the_next() -> None:
    """Woken and cancelled in one turn of the loop, in both orders."""
    for first, second in (("give back", "leave 1"), ("leave 1", "give back")):
        desk = Desk()
        for name in ("holder", "1", "2"):
            desk.ask(name, tenant="same")
            await desk.settle()
        for event in (first, second):
            if event == "leave 1":
                desk.tasks["1"].cancel()
            else:
                desk.give_back()
        await desk.settle()
        assert desk.came == {"holder": "granted", "1": "left", "2": "granted"}
        await desk.close()


async def test_one_too_many_is_refused_at_once() -> None:
    """Nobody waits who could not be served; those who wait stay."""
    desk = Desk(limit=1, queue=2)
    for name in ("holder", "1", "2", "3"):
        desk.ask(name, tenant="same")
    await desk.settle()
    assert desk.came == {"holder": "granted", "3": "full"}
    assert (desk.permits.waiting, desk.permits.waited, desk.permits.full) == (2, 2, 1)
    await desk.close()


async def test_without_a_queue_nobody_waits() -> None:
    """`queue: 0`: a request gets its permit at once, or is refused."""
    desk = Desk(limit=1, queue=0)
    desk.ask("holder")
    desk.ask("1", priority=9)
    await desk.settle()
    assert desk.came == {"holder": "granted", "1": "full"}
    await desk.close()


async def test_the_queue_is_ten_times_the_limit_unless_told() -> None:
    """Also when the limit changes."""
    desk = Desk(limit=3, queue=None)
    assert desk.permits.places == 3 * QUEUE_FACTOR == 30
    desk.permits.set_limit(5)
    assert desk.permits.places == 50
    assert Desk(limit=3, queue=7).permits.places == 7


async def test_whoever_is_displaced_hears_of_it_at_once() -> None:
    """A flood gives way to a light tenant, with the same refusal as if it had found no room."""
    desk = Desk(limit=1, queue=2)
    for name in ("holder", "1", "2"):
        desk.ask(name, tenant="flood")
    await desk.settle()
    desk.ask("light")
    await desk.settle()
    assert desk.came == {"holder": "granted", "2": "full"}
    for _ in range(2):
        desk.give_back()
        await desk.settle()
    assert desk.came == {"holder": "granted", "1": "granted", "2": "full", "light": "granted"}
    await desk.close()


async def test_no_timer_outlives_its_wait() -> None:
    """A busy hour does not leave a timer for each request that waited."""
    desk = Desk()
    desk.ask("holder")
    await desk.settle()
    desk.ask("1")
    await desk.settle()
    (waiter,) = desk.queue.places
    never_waited = Place("", 0)
    desk.queue.places.append(never_waited)
    desk.give_back()
    await desk.settle()
    assert sys.getrefcount(waiter) == sys.getrefcount(never_waited)
    await desk.close()


async def test_a_wait_ends_with_its_timeout() -> None:
    """A real timer; the place is free again, and the seconds are counted."""
    desk = Desk(timeout=0.01)
    desk.ask("holder")
    await desk.settle()
    desk.ask("1")
    await desk.settle()
    desk.now += 3.0
    await desk.tasks["1"]
    assert desk.came["1"] == "late"
    assert (desk.permits.late, desk.permits.waiting) == (1, 0)
    assert (desk.permits.waited, desk.permits.waited_seconds) == (1, 3.0)
    await desk.close()


async def test_a_client_that_leaves_gives_up_its_place() -> None:
    """Counted apart from those that were refused."""
    desk = Desk()
    for name in ("holder", "1"):
        desk.ask(name)
        await desk.settle()
    desk.tasks["1"].cancel()
    await desk.settle()
    assert (desk.permits.waiting, desk.permits.left) == (0, 1)
    assert (desk.permits.full, desk.permits.late) == (0, 0)
    await desk.close()


async def test_a_limit_that_grows_admits_who_waits() -> None:
    """At once; one that falls takes no permit away, and gives none out until enough are back."""
    desk = Desk(limit=1, queue=9)
    for name in "abcde":
        desk.ask(name)
    await desk.settle()
    desk.permits.set_limit(3)
    await desk.settle()
    assert len(desk.holding) == 3
    desk.permits.set_limit(1)
    assert desk.permits.in_flight == 3
    for _ in range(2):
        desk.give_back()
        await desk.settle()
        assert len(desk.came) == 3
    desk.give_back()
    await desk.settle()
    assert len(desk.came) == 4
    await desk.close()


@pytest.mark.parametrize(
    ("took", "told"), [(0.001, LEAST_RETRY), (1.5, 1.5 * 8), (1000.0, MOST_RETRY)]
)
async def test_a_refused_client_is_told_when_the_queue_has_drained(
    took: float, told: float
) -> None:
    """In the time in which what waits now is served at the pace so far, within bounds."""
    desk = Desk(limit=1, queue=8)
    desk.ask("holder", tenant="same")
    for turn in range(20):
        desk.ask(f"{turn}", tenant="same")
    await desk.settle()
    for turn in range(20, 30):
        desk.now += took
        desk.give_back()
        await desk.settle()
        desk.ask(f"{turn}", tenant="same")
        await desk.settle()
    assert desk.permits.waiting == 8
    with pytest.raises(QueueFull) as refused:
        await desk.permits.turn("same", 0)
    assert refused.value.retry_after == pytest.approx(told)
    assert (refused.value.status, refused.value.code) == (503, "queue_full")
    await desk.close()
