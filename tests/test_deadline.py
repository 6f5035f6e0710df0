"""Deadlines and IdleTimer on a clock that moves when told to."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.deadline import CHECKS, Deadlines, IdleTimer


class Handle:
    """A timer that was asked for."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: Handle) -> bool:
        return self.when < other.when


class FakeLoop:
    """The clock and the timers of a loop."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Handle:
        handle = Handle(when, callback)
        heapq.heappush(self.timers, handle)
        return handle

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        return self.call_at(self.now + delay, callback)

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self.timers and self.timers[0].when <= until:
            handle = heapq.heappop(self.timers)
            if not handle.cancelled:
                self.now = max(self.now, handle.when)
                handle.callback()
        self.now = until

    @property
    def pending(self) -> int:
        return sum(not handle.cancelled for handle in self.timers)


def made(timeout: float | None) -> tuple[FakeLoop, Deadlines[Any], list[tuple[Any, float]]]:
    loop = FakeLoop()
    expired: list[tuple[Any, float]] = []
    deadlines: Deadlines[Any] = Deadlines(
        cast(asyncio.AbstractEventLoop, loop), timeout,
        lambda item: expired.append((item, loop.now)),
    )  # fmt: skip
    return loop, deadlines, expired


def test_each_comes_due_at_its_own_time() -> None:
    """Items expire `timeout` after they were set, in the order they were set, by one timer."""
    loop, deadlines, expired = made(10)
    for name in "abc":
        deadlines.set(name)
        loop.advance(2)
    assert loop.pending == 1
    loop.advance(20)
    assert expired == [("a", 1010), ("b", 1012), ("c", 1014)]
    assert (len(deadlines), loop.pending) == (0, 0)


def test_cleared() -> None:
    """An item that was cleared never expires; clearing one that is not there is nothing."""
    loop, deadlines, expired = made(10)
    deadlines.set("a")
    deadlines.set("b")
    deadlines.clear("a")
    deadlines.clear("z")
    loop.advance(20)
    assert expired == [("b", 1010)]


def test_set_again() -> None:
    """Setting an item again gives it the whole time anew."""
    loop, deadlines, expired = made(10)
    deadlines.set("a")
    loop.advance(6)
    deadlines.set("a")
    loop.advance(6)
    assert expired == []
    loop.advance(6)
    assert expired == [("a", 1016)]


def test_never() -> None:
    """Without a timeout nothing is kept and no timer made."""
    loop, deadlines, expired = made(None)
    deadlines.set("a")
    assert (len(deadlines), loop.pending) == (0, 0)
    loop.advance(1e9)
    assert expired == []


def test_closed() -> None:
    """After close nothing expires and no timer is left."""
    loop, deadlines, expired = made(10)
    deadlines.set("a")
    deadlines.close()
    assert loop.pending == 0
    loop.advance(20)
    assert expired == []


def test_one_that_is_set_while_it_expires() -> None:
    """An expiry that sets its item again gets another whole timeout, and no second timer."""
    loop = FakeLoop()
    expired: list[float] = []

    def again(item: str) -> None:
        expired.append(loop.now)
        if len(expired) < 5:
            deadlines.set(item)
            assert loop.pending <= 1

    deadlines: Deadlines[str] = Deadlines(cast(asyncio.AbstractEventLoop, loop), 10, again)
    deadlines.set("a")
    loop.advance(200)
    assert expired == [1010, 1020, 1030, 1040, 1050]
    assert loop.pending == 0


def test_one_that_raises_stops_no_other() -> None:
    """After an expiry that raised the others still come due."""
    loop = FakeLoop()
    expired: list[str] = []

    def expire(item: str) -> None:
        expired.append(item)
        if item == "bad":
            raise ValueError(item)

    deadlines: Deadlines[str] = Deadlines(cast(asyncio.AbstractEventLoop, loop), 10, expire)
    deadlines.set("bad")
    deadlines.set("good")
    with pytest.raises(ValueError, match="bad"):
        loop.advance(10)
    loop.advance(10)
    assert expired == ["bad", "good"]


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans(), st.integers(0, 15))))
def test_any_order(steps: list[tuple[str, bool, int]]) -> None:
    """Whatever is set and cleared, each item expires exactly at its last set plus timeout."""
    loop, deadlines, expired = made(10)
    due: dict[str, float] = {}
    expected: list[tuple[str, float]] = []
    for item, is_set, wait in steps:
        if is_set:
            deadlines.set(item)
            due[item] = loop.now + 10
        else:
            deadlines.clear(item)
            due.pop(item, None)
        loop.advance(wait)
        for name in sorted(due, key=lambda name: due[name]):
            if due[name] <= loop.now:
                expected.append((name, due.pop(name)))
        assert sorted(expired) == sorted(expected)
        assert len(deadlines) == len(due)
        assert loop.pending <= 1


def idle(timeout: float) -> tuple[FakeLoop, IdleTimer, list[float]]:
    loop = FakeLoop()
    fired: list[float] = []
    timer = IdleTimer(
        cast(asyncio.AbstractEventLoop, loop), timeout, lambda: fired.append(loop.now)
    )
    return loop, timer, fired


def test_idle_timer_fires_once() -> None:
    """Where nothing ever moves it fires after the timeout, once."""
    loop, _, fired = idle(8)
    loop.advance(7.9)
    assert fired == []
    loop.advance(100)
    assert fired == [1008]
    assert loop.pending == 0


def test_idle_timer_never_fires_early() -> None:
    """It fires a timeout after the last move at the earliest, and a quarter later at the latest."""
    for offset in (0.1, 1.0, 1.9, 2.0, 5.5):
        loop, timer, fired = idle(8)
        loop.advance(offset)
        timer.moved = True
        moved_at = loop.now
        loop.advance(100)
        assert len(fired) == 1
        assert moved_at + 8 <= fired[0] <= moved_at + 8 + 8 / CHECKS


def test_idle_timer_while_things_move() -> None:
    """What moves at least once in a timeout keeps it from firing."""
    loop, timer, fired = idle(8)
    for _ in range(50):
        loop.advance(7.9)
        timer.moved = True
    assert fired == []


def test_idle_timer_stopped() -> None:
    """Stopped it never fires, and stopping twice is nothing."""
    loop, timer, fired = idle(8)
    timer.stop()
    timer.stop()
    loop.advance(100)
    assert fired == []
    assert loop.pending == 0
