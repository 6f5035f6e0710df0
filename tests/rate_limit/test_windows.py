"""The windows under a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import RateLimitItemPerSecond
from limits.aio import strategies as theirs
from limits.aio.storage import MemoryStorage

from middleware.core.quota import Limit, Quota, Verdict, parse_limits
from middleware.core.window import MARKS, WINDOWS, State

EVERY = sorted(WINDOWS)
kinds = pytest.mark.parametrize("kind", EVERY)

amounts = st.integers(1, 40) | st.integers(MARKS - 1, 2000)
spans = st.integers(1, 4)
costs = st.integers(1, 60)
pauses = st.integers(0, 5000)
Steps = list[tuple[int, int]]
steps = st.lists(st.tuples(pauses, costs), max_size=40)


def quota_of(kind: str, *limits: tuple[int, int]) -> Quota:
    """Of (amount, seconds) each."""
    return Quota(kind, [Limit(f"{amount}/{s}s", amount, s) for amount, s in limits])


class Account:
    """One client's account, and everything that it was admitted for: (time, cost)."""

    def __init__(self, quota: Quota, now: int = 1_000_000) -> None:
        self.quota = quota
        self.states: list[State] = quota.fresh()
        self.now = now
        self.admitted: list[tuple[int, int]] = []

    def take(self, cost: int = 1) -> Verdict:
        verdict = self.quota.take(self.states, cost, self.now)
        if verdict.admitted:
            self.admitted.append((self.now, cost))
        return verdict

    def settle(self, verdict: Verdict, delta: int) -> None:
        self.quota.settle(self.states, verdict.marks, delta, self.now)

    def copy(self) -> Account:
        other = Account(self.quota, self.now)
        other.states = [list(state) for state in self.states]
        return other

    def busiest(self, span: int) -> int:
        """The most that was admitted within `span` milliseconds."""
        return max(
            (
                sum(cost for at, cost in self.admitted if start <= at < start + span)
                for start, _ in self.admitted
            ),
            default=0,
        )


def play(account: Account, asked: Steps) -> Account:
    for pause, cost in asked:
        account.now += pause
        account.take(min(cost, account.quota.most))
    return account


@kinds
@given(amount=amounts, seconds=spans, asked=steps)
def test_no_span_holds_more_than_the_strategy_says(
    kind: str, amount: int, seconds: int, asked: Steps
) -> None:
    """Within any span: a moving window admits the amount, the others at most twice that; and what
    is left never exceeds the amount, nor falls below 0.
    """
    account = Account(quota_of(kind, (amount, seconds)))
    for pause, cost in asked:
        account.now += pause
        verdict = account.take(min(cost, amount))
        assert 0 <= verdict.left[0] <= amount
    most = amount if kind == "moving_window" else 2 * amount
    assert account.busiest(seconds * 1000) <= most


@kinds
@given(amount=amounts, seconds=spans, asked=steps, cost=costs)
def test_whoever_waits_is_admitted_and_no_sooner(
    kind: str, amount: int, seconds: int, asked: Steps, cost: int
) -> None:
    """The wait that a refusal tells is exact to the millisecond, if nobody else asks."""
    account = play(Account(quota_of(kind, (amount, seconds))), asked)
    cost = min(cost, amount)
    verdict = account.copy().take(cost)
    wait = verdict.wait[0]
    assert verdict.admitted == (wait == 0)
    if wait:
        early = account.copy()
        early.now += wait - 1
        assert not early.take(cost).admitted
        account.now += wait
        assert account.take(cost).admitted


@kinds
@given(amount=amounts, seconds=spans, asked=steps)
def test_what_is_left_is_what_is_admitted_next(
    kind: str, amount: int, seconds: int, asked: Steps
) -> None:
    """All that is left fits at once, one more does not; after the reset everything fits."""
    account = play(Account(quota_of(kind, (amount, seconds))), asked)
    verdict = account.take(1)
    left = verdict.left[0]
    if left:
        assert account.copy().take(left).admitted
    if left < amount:
        assert not account.copy().take(left + 1).admitted
    if verdict.reset[0]:
        early = account.copy()
        early.now += verdict.reset[0] - 1
        assert not early.take(amount).admitted
    account.now += verdict.reset[0]
    assert account.take(amount).admitted


@kinds
@given(amount=amounts, seconds=spans, asked=steps, cost=costs)
def test_what_is_given_back_at_once_was_never_taken(
    kind: str, amount: int, seconds: int, asked: Steps, cost: int
) -> None:
    """A request that cost nothing in the end leaves the account as it found it."""
    account = play(Account(quota_of(kind, (amount, seconds))), asked)
    before = account.copy()
    verdict = account.take(min(cost, amount))
    if verdict.admitted:
        account.settle(verdict, -min(cost, amount))
    for probe in (1, (amount + 1) // 2, amount):
        assert account.copy().take(probe)[:4] == before.copy().take(probe)[:4]


@kinds
@given(
    amount=amounts, seconds=spans, data=st.lists(
        st.tuples(pauses, costs, st.integers(0, 60), st.integers(0, 9)), max_size=40
    ),
)  # fmt: skip
def test_what_was_used_stays_within_the_limit_and_what_was_underestimated(
    kind: str, amount: int, seconds: int, data: list[tuple[int, int, int, int]]
) -> None:
    """Reserved, used and settled any time later: in no window more is used than the strategy
    admits, and what calls of that window used beyond their estimates; all counts stay sound.
    """
    account = Account(quota_of(kind, (amount, seconds)))
    used: list[tuple[int, int]] = []
    excess = 0
    pending: list[tuple[Verdict, int, int]] = []
    for pause, cost, real, which in data:
        account.now += pause
        cost = min(cost, amount)
        verdict = account.take(cost)
        assert verdict.left[0] >= 0
        if verdict.admitted:
            pending.append((verdict, cost, real))
            used.append((account.now, real))
            excess += max(0, real - cost)
        if pending and which < 5:
            late, reserved, spent = pending.pop(which % len(pending))
            if spent != reserved:
                account.settle(late, spent - reserved)
    span = seconds * 1000
    busiest = max(
        (sum(cost for at, cost in used if start <= at < start + span) for start, _ in used),
        default=0,
    )
    assert busiest <= (amount if kind == "moving_window" else 2 * amount) + excess
    for state in account.states:
        assert min(state, default=0) >= 0


@kinds
def test_what_is_owed_is_paid_before_anything_else(kind: str) -> None:
    """A call that used three times its estimate keeps the next ones out for as long."""
    account = Account(quota_of(kind, (10, 1)))
    verdict = account.take(10)
    account.settle(verdict, +20)
    admitted = 0
    for _ in range(100):
        account.now += 100
        admitted += account.take(1).admitted
    assert 60 <= admitted <= 100
    assert account.take(10).left[0] <= 10


@kinds
def test_what_was_taken_in_a_window_that_is_over_is_not_given_back(kind: str) -> None:
    """It has come back by itself: it must not come twice."""
    account = Account(quota_of(kind, (10, 1)))
    verdict = account.take(10)
    account.now += 2500
    account.settle(verdict, -10)
    assert account.take(10).admitted
    assert not account.take(1).admitted


@kinds
@pytest.mark.parametrize("rate", [100, 25])
def test_twenty_a_second_for_thirty_seconds(kind: str, rate: int) -> None:
    """Offered 100/s, or just more than allowed, 600 are admitted, give or take one window."""
    account = Account(quota_of(kind, (20, 1)))
    for _ in range(30 * rate):
        account.take()
        account.now += 1000 // rate
    assert abs(len(account.admitted) - 600) <= 20


@kinds
def test_just_what_is_allowed_is_never_refused(kind: str) -> None:
    """An even pace of 20/second gets every request through; of sliding counters, which know the
    span before only as a whole, one of 19.
    """
    account = Account(quota_of(kind, (20, 1)))
    for _ in range(600):
        assert account.take().admitted
        account.now += 53 if kind == "sliding_window_counter" else 50


@given(asked=st.lists(st.tuples(pauses, costs), max_size=40), limits=st.lists(
    st.tuples(st.integers(1, 60), spans), min_size=2, max_size=4,
))  # fmt: skip
@kinds
def test_a_request_that_one_limit_refuses_uses_up_no_other(
    kind: str, asked: Steps, limits: list[tuple[int, int]]
) -> None:
    """Under several limits a refused request leaves every one of them as it was; one is refused
    only where some limit alone would, and may come back when the longest wait is over.
    """
    account = Account(quota_of(kind, *limits))
    for pause, cost in asked:
        account.now += pause
        cost = min(cost, account.quota.most)
        before = account.copy()
        verdict = account.take(cost)
        if verdict.admitted:
            continue
        for probe in {1, account.quota.most}:
            assert account.copy().take(probe) == before.copy().take(probe)
        later = account.copy()
        later.now += max(verdict.wait)
        assert later.take(cost).admitted


@given(amount=st.integers(MARKS + 1, 10**6), pauses=st.lists(st.integers(0, 40), max_size=400))
def test_a_moving_window_remembers_no_more_than_its_marks(amount: int, pauses: list[int]) -> None:
    """However often it is asked: 128 times of a large limit, of others as many as the amount."""
    for window in (WINDOWS["moving_window"](amount, 1000), WINDOWS["moving_window"](MARKS, 1000)):
        state: State = []
        now = 0
        for pause in pauses:
            now += pause
            window.roll(state, now)
            if not window.wait(state, 1, now):
                window.take(state, 1, now)
            assert (len(state) - 1) // 2 <= MARKS + 1


@kinds
def test_what_leaves_a_window_leaves_it_on_the_millisecond(kind: str) -> None:
    """A span after it came, not one millisecond later; of sliding counters two, at a boundary."""
    account = Account(quota_of(kind, (10, 1)))
    account.take(10)
    account.now += 1000 if kind != "sliding_window_counter" else 2000
    assert account.take(1).left == [9]


@kinds
def test_a_clock_that_was_set_back_shuts_nobody_out(kind: str) -> None:
    """What was counted in a future that is not there any more is forgotten."""
    account = Account(quota_of(kind, (10, 1)), now=10_000_000)
    account.take(10)
    account.now -= 3_600_000
    assert account.take(10).admitted
    assert not account.take(1).admitted


THEIRS: dict[str, Callable[[Any], Any]] = {
    "fixed_window": theirs.FixedWindowRateLimiter,
    "sliding_window_counter": theirs.SlidingWindowCounterRateLimiter,
    "moving_window": theirs.MovingWindowRateLimiter,
}


async def decided_by_limits(kind: str, amount: int, asked: Sequence[int]) -> list[bool]:
    """What the library says to requests at these times, in 1024ths of a second."""
    storage = MemoryStorage()
    limiter = THEIRS[kind](storage)
    decided = []
    with mock.patch("time.time") as clock:
        for at in asked:
            clock.return_value = at / 1024
            decided.append(await limiter.hit(RateLimitItemPerSecond(amount), "client"))
        if storage.timer is not None:
            await storage.timer
    return decided


@kinds
@given(amount=st.integers(1, 12), pauses=st.lists(st.integers(0, 600), max_size=40))
async def test_the_same_decisions_as_the_library_limits(
    kind: str, amount: int, pauses: list[int]
) -> None:
    """Its own strategies on its own storage admit and refuse the same requests, each in its own
    unit of time; but for the very instant at which an entry leaves a moving window.
    """
    now, asked = 1024 * 1000, []
    for pause in pauses:
        now += pause
        asked.append(now)
    if kind == "moving_window":
        asked = [2 * at + n % 2 for n, at in enumerate(asked)]  # none is 1024 after another
        asked = [at for n, at in enumerate(asked) if not {at - 1024} & set(asked)]
    window = WINDOWS[kind](amount, 1024)
    state: State = []
    ours = []
    for at in asked:
        window.roll(state, at)
        ours.append(not window.wait(state, 1, at))
        if ours[-1]:
            window.take(state, 1, at)
    assert ours == await decided_by_limits(kind, amount, asked)


@pytest.mark.parametrize(
    ("text", "amount", "seconds", "written"),
    [
        ("20/second", 20, 1, "20/second"), ("1000/hour", 1000, 3600, "1000/hour"),
        ("500/2 minutes", 500, 120, "500/2 minutes"), ("5 per day", 5, 86400, "5/day"),
    ],
)  # fmt: skip
def test_limits_are_written_as_the_library_has_them(
    text: str, amount: int, seconds: int, written: str
) -> None:
    """Amount, span, and one way to write them."""
    assert parse_limits(text) == [Limit(written, amount, seconds)]


def test_one_text_may_hold_several() -> None:
    """As the library has it, with a semicolon between them."""
    assert [one.amount for one in parse_limits("20/second; 1000/hour")] == [20, 1000]


@pytest.mark.parametrize(
    "text", ["", "20", "20/fortnight", "0/second", "x/second", "-1/hour", "10000000000000/year"]
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    """So is one that lets nothing through, and one that a double cannot count."""
    with pytest.raises(ValueError, match=r"limit|through|exactly"):
        parse_limits(text)
