"""The limit that is found from latency, against servers of known capacity and a clock by hand."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middleware.core import gradient as module
from middleware.core.gradient import BACKOFF, PROBE_EVERY, START, WINDOW, WINDOW_MOST, Gradient

from .servers import Batching, Fifo, SharedSlots

Server = SharedSlots | Fifo
WORK = 0.05


@dataclass
class Run:
    """A clock, a server, and more requests than it can take: each permit is used at once.

    patience: seconds after which a client leaves. whims: share of the clients that leave
    within `soon` times the work of a request.
    """

    gradient: Gradient
    server: Server
    seed: int = 1
    spread: float = 0.4
    work: float = WORK
    patience: float = inf
    whims: float = 0.0
    soon: float = 1.0
    now: float = 0.0
    limits: list[tuple[float, int]] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    _flying: dict[object, tuple[float, int]] = field(default_factory=dict)
    _leaving: list[tuple[float, int, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = Random(self.seed)

    def go(self, seconds: float, at_most: int = 1_000_000) -> Run:
        """at_most: clients that ask at once."""
        end = self.now + seconds
        while True:
            while len(self._flying) < min(self.gradient.limit, at_most):
                job = object()
                self._flying[job] = (self.now, len(self._flying) + 1)
                self._will_leave(job)
                work = self.work * self._rng.uniform(1 - self.spread, 1 + self.spread)
                self.server.start(job, work, self.now)
            due = self.server.due()
            assert due is not None
            leaves = self._leaving[0][0] if self._leaving else inf
            if min(due, leaves) > end:
                self.now = end
                return self
            self.now = min(due, leaves)
            if leaves < due:
                self._leave()
                continue
            sent_at, in_flight = self._flying.pop(self.server.answer(due))
            self.gradient.completed(in_flight, due - sent_at, due)
            self.limits.append((due, self.gradient.limit))
            self.ends.append(due)

    def _will_leave(self, job: object) -> None:
        patience = self.patience
        if self.whims and self._rng.random() < self.whims:
            patience = self._rng.uniform(0, self.soon * self.work)
        if patience < inf:
            heapq.heappush(self._leaving, (self.now + patience, id(job), job))

    def _leave(self) -> None:
        _, _, job = heapq.heappop(self._leaving)
        if job in self._flying:
            sent_at, in_flight = self._flying.pop(job)
            assert isinstance(self.server, SharedSlots)
            self.server.leave(job, self.now)
            self.gradient.left(in_flight, self.now - sent_at, self.now)
            self.limits.append((self.now, self.gradient.limit))

    def limit(self, since: float) -> float:
        """Its mean."""
        seen = [limit for at, limit in self.limits if at >= since]
        return sum(seen) / len(seen)

    def rate(self, since: float) -> float:
        """Answers a second."""
        return sum(at >= since for at in self.ends) / (self.now - since)


def adaptive(low: int = 1, high: int = 1000, tolerance: float = 1.2) -> Gradient:
    return Gradient(low, high, tolerance)


@pytest.mark.parametrize("spread", [0.0, 0.4], ids=["even", "uneven"])
@pytest.mark.parametrize("make", [Fifo, SharedSlots], ids=["fifo", "shared"])
@pytest.mark.parametrize("slots", [1, 2, 4, 8, 32, 128])
def test_it_converges_near_the_capacity(
    slots: int, make: Callable[[int], Server], spread: float
) -> None:
    """From a first limit far below as from one above: a little over the slots there are, so that
    none is idle and few requests wait inside the server.
    """
    run = Run(adaptive(), make(slots), spread=spread).go(60)
    assert slots <= run.limit(since=20) <= 1.4 * slots + 2
    assert run.rate(since=20) >= 0.95 * slots / WORK


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_suffers_from_too_much_is_kept_near_its_best(seed: int) -> None:
    """Each request over its slots costs it one percent of its speed: 95 % of its best remain."""
    run = Run(adaptive(), SharedSlots(8, penalty=0.01), seed).go(60)
    assert run.rate(since=10) >= 0.95 * 8 / WORK


@pytest.mark.parametrize("seed", range(3))
def test_latencies_of_a_wide_spread_do_not_lead_it_astray(seed: int) -> None:
    """Some requests take nine times as long as others: still no collapse, and no flight."""
    run = Run(adaptive(), SharedSlots(8), seed, spread=0.8).go(60)
    assert 7 <= run.limit(since=20) <= 20
    assert run.rate(since=20) >= 0.93 * 8 / WORK


@pytest.mark.parametrize(("before", "after"), [(8, 16), (16, 4), (8, 64), (64, 8)])
def test_it_follows_a_capacity_that_changes(before: int, after: int) -> None:
    """Up and down, within half a minute."""
    server = Fifo(before)
    run = Run(adaptive(), server).go(30)
    server.slots = after
    run.go(60)
    assert after <= run.limit(since=80) <= 1.5 * after + 2
    assert run.rate(since=60) >= 0.95 * after / WORK


def test_a_limit_far_below_is_left_in_a_few_steps() -> None:
    """Growth doubles: from 8 slots to 128 in some seconds, where steps of one took minutes."""
    server = Fifo(8)
    run = Run(adaptive(), server).go(30)
    server.slots = 128
    run.go(6)
    assert run.gradient.limit >= 128


def test_a_limit_far_above_is_left_in_a_few_steps() -> None:
    """Where half of it turns out to be too much, so is the limit: no window is lost on it."""
    run = Run(adaptive(), Fifo(1)).go(12)
    assert run.limit(since=10) <= 3


@pytest.mark.parametrize("slower", [0.25, 2.0, 4.0])
def test_a_server_that_becomes_slower_or_faster_keeps_its_limit(slower: float) -> None:
    """Another model behind the same slots: latency changes for another reason than load."""
    run = Run(adaptive(), Fifo(8)).go(30)
    run.work *= slower
    run.go(90)
    assert 8 <= run.limit(since=90) <= 16
    assert run.rate(since=90) >= 0.95 * 8 / (WORK * slower)


def test_a_server_that_batches_gets_many_at_once() -> None:
    """Where latency grows from the first request on, and throughput with it, the limit stops where
    twice as much in flight takes `tolerance` times as long, far above one.
    """
    few = Run(adaptive(tolerance=1.2), Batching(slower=0.01)).go(60)
    many = Run(adaptive(tolerance=1.5), Batching(slower=0.01)).go(60)
    assert 20 <= few.limit(since=20) <= 100
    assert many.limit(since=20) >= 2 * few.limit(since=20)
    assert many.rate(since=20) > few.rate(since=20) > 10 / WORK


def test_measuring_at_half_the_limit_costs_a_hundredth() -> None:
    """Of an hour's throughput, on a fast server and on one that takes minutes."""
    for work, hours in ((0.05, 0.1), (20.0, 20)):
        run = Run(adaptive(), Fifo(8), work=work).go(3600 * hours)
        assert run.rate(since=run.now / 10) >= 0.98 * 8 / work


@pytest.mark.parametrize("patience", [0.3, 1.0])
@pytest.mark.parametrize(("before", "after"), [(128, 8), (8, 1)])
def test_clients_that_leave_lower_a_limit_under_which_nobody_is_answered(
    before: int, after: int, patience: float
) -> None:
    """Where each waits for longer than he does, no answer would ever tell that it is too much."""
    server = SharedSlots(before)
    run = Run(adaptive(), server, patience=patience).go(20)
    server.slots = after
    run.go(70)
    assert after <= run.limit(since=80) <= 1.5 * after + 2
    assert run.rate(since=40) >= 0.9 * after / WORK


def test_a_server_that_batches_and_becomes_slower_than_its_clients_wait() -> None:
    """It answers some again; and gets as many as before when it is as quick as before."""
    run = Run(adaptive(tolerance=1.5), Batching(slower=0.01), patience=1.0).go(30)
    limit, rate = run.limit(since=15), run.rate(since=15)
    run.work *= 10
    run.go(60)
    assert run.rate(since=60) > 0.3 * rate / 10
    run.work /= 10
    run.go(40)
    assert run.rate(since=110) > 0.8 * rate and run.limit(since=110) > limit / 2


@pytest.mark.parametrize(("whims", "soon"), [(0.1, 4.0), (0.6, 1.0)])
def test_clients_that_leave_when_they_like_change_little(whims: float, soon: float) -> None:
    """Those who would have been answered soon, or who are few, say nothing of the server."""
    run = Run(adaptive(), SharedSlots(8), whims=whims, soon=soon).go(60)
    assert 8 <= run.limit(since=30) <= 14
    assert run.rate(since=30) >= 0.95 * (1 - whims) * 8 / WORK


def test_light_traffic_changes_nothing() -> None:
    """Half the limit or less in flight tells nothing about it."""
    gradient = adaptive()
    run = Run(gradient, Fifo(100)).go(60, at_most=START // 2)
    assert {limit for _, limit in run.limits} == {START}


def test_a_limit_that_nobody_reaches_does_not_grow() -> None:
    """Growth without evidence would leave no limit for the day it is needed."""
    run = Run(adaptive(), Fifo(100)).go(60, at_most=START - 1)
    assert run.gradient.limit == START


def test_a_server_that_refuses_lowers_the_limit_once_a_window() -> None:
    """By a tenth, however many refusals come of one and the same overload."""
    gradient = adaptive(low=2, high=100)
    gradient.limit = 50
    gradient._exact = 50.0
    gradient.dropped()
    assert gradient.limit == int(50 * BACKOFF)
    for _ in range(gradient.limit):
        gradient.dropped()
    assert gradient.limit == int(50 * BACKOFF)
    gradient.dropped()
    assert gradient.limit == int(50 * BACKOFF * BACKOFF)
    for _ in range(10_000):
        gradient.dropped()
    assert gradient.limit == 2


def test_a_refusal_while_half_is_measured_changes_nothing() -> None:
    """It belongs to the limit before, or to a server that refuses whatever is asked."""
    gradient = adaptive()
    while not gradient._probing:
        gradient.completed(START, WORK, 1.0)
    for _ in range(100):
        gradient.dropped()
    assert (gradient.limit, gradient._exact) == (START // 2, START)


def test_what_latency_should_be_is_the_mean_of_the_old_and_the_new() -> None:
    """A single measurement at half the limit may be wrong."""
    gradient = adaptive()
    now = 0.0
    for took in (1.0, 1.2):
        now += 1000 * PROBE_EVERY
        while not gradient._probing:
            gradient.completed(gradient.limit, took, now)
        while gradient._probing:
            gradient.completed(gradient.limit, took, now)
    assert gradient._base == pytest.approx(1.1)


def test_one_bad_window_costs_a_quarter_at_most() -> None:
    """A pause of the server is no change of its capacity."""
    run = Run(adaptive(), Fifo(64)).go(25)
    before = run.gradient.limit
    while run.gradient.limit == before:
        run.gradient.completed(before, 100 * WORK, run.now)
    assert 0.75 * before <= run.gradient.limit < 0.8 * before


def test_a_few_that_take_much_longer_do_not_count() -> None:
    """Nor a few that come at once: the middle half is what is compared."""
    usual = [0.9, 1.0, 1.1] * 10
    assert module._middle([*usual, *[1000.0] * 8, *[0.0] * 8]) == pytest.approx(1.0, rel=0.1)


def test_a_window_is_bounded() -> None:
    """As many latencies as the limit allows at once, at least WINDOW and at most WINDOW_MOST."""
    assert [module._window(limit) for limit in (1, 100, 100_000)] == [WINDOW, 100, WINDOW_MOST]
    gradient = adaptive(low=100_000, high=100_000)
    for _ in range(100_000 + WINDOW_MOST):
        gradient.completed(100_000, 0.1, 1.0)
    assert len(gradient._took) < WINDOW_MOST


def test_the_first_limit_is_within_the_bounds() -> None:
    """START, or the bound that is nearer."""
    assert [adaptive(low, high).limit for low, high in ((1, 1000), (20, 50), (1, 3))] == [
        START, 20, 3,
    ]  # fmt: skip


@settings(deadline=None)
@given(
    st.integers(1, 20),
    st.integers(0, 200),
    st.lists(
        st.tuples(
            st.integers(1, 400), st.floats(0, 10, allow_subnormal=False), st.sampled_from([0, 20])
        ),
        max_size=30,
    ),
)
def test_the_limit_stays_within_its_bounds(
    low: int, more: int, told: Sequence[tuple[int, float, float]]
) -> None:
    """Whatever the latencies, also while half the limit is measured."""
    gradient = adaptive(low, low + more)
    now = 0.0
    for in_flight, took, later in told:
        now += later
        for _ in range(WINDOW):
            gradient.completed(min(in_flight, gradient.limit), took, now)
            assert low <= gradient.limit <= low + more
            gradient.left(min(in_flight, gradient.limit), took, now)
            assert low <= gradient.limit <= low + more
        if later:
            gradient.dropped()
            assert low <= gradient.limit <= low + more


def test_a_measurement_at_half_the_limit_comes_no_sooner_than_it_should() -> None:
    """Ten seconds lie between two, and on a slow server fifty times as long as one takes."""
    for work, seconds in ((0.002, 100), (0.5, 3000)):
        run = Run(adaptive(), Fifo(8), work=work).go(seconds / 10)
        probes: list[tuple[float, float]] = []
        while run.now < seconds:
            while not run.gradient._probing:
                run.go(work)
            began = run.now
            while run.gradient._probing:
                run.go(work)
            probes.append((began, run.now))
        assert len(probes) >= 3
        for (began, ended), (next_one, _) in itertools.pairwise(probes):
            # The clock of the test turns in steps of `work`.
            assert next_one - ended >= max(PROBE_EVERY, 50 * (ended - began - 2 * work)) - 2 * work
