"""When a store is left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.stores.breaker import Breaker, State


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(failures=3, first=0.1, most=1.0)
    assert breaker.failed(breaker.turn, now, at_once=True)
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    """A success between them starts the count anew."""
    breaker = Breaker(failures=3)
    for verdict in ("failed", "failed", "succeeded", "failed", "failed"):
        assert not getattr(breaker, verdict)(breaker.turn, 0.0)
    assert breaker.state is State.CLOSED
    assert breaker.failed(breaker.turn, 0.0)
    assert breaker.state is State.OPEN


def test_one_timeout_opens_it() -> None:
    """A timeout has cost its caller all that a store may cost."""
    assert opened().state is State.OPEN


def test_one_trial_at_a_time_and_none_too_early() -> None:
    """The first who asks once it is due makes the trial; the others do not."""
    breaker = opened()
    assert not breaker.due(0.05)
    assert breaker.due(0.1)
    assert not breaker.due(0.2)


def test_a_trial_that_succeeds_closes_it() -> None:
    """And only once is this told as a change."""
    breaker = opened()
    assert breaker.due(0.1)
    assert breaker.succeeded(breaker.turn, 0.2)
    assert breaker.state is State.CLOSED
    assert not breaker.succeeded(breaker.turn, 0.3)


def test_failed_trials_come_ever_later_up_to_a_bound() -> None:
    """0.1, 0.2, 0.4, 0.8, then each 1.0 s; none of them is told as a change."""
    breaker, now, waits = opened(), 0.0, []
    for _ in range(6):
        wait = 0.1
        while not breaker.due(now + wait):
            wait = round(wait + 0.1, 1)
        waits.append(wait)
        now += wait
        assert not breaker.failed(breaker.turn, now)
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_one_that_answers_only_trials_is_asked_ever_more_seldom() -> None:
    """It opens again right after each trial, so the wait doubles as if the trial had failed."""
    breaker, now = opened(), 0.0
    for wait in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        assert not breaker.due(now + wait - 0.01)
        now += wait
        assert breaker.due(now)
        assert breaker.succeeded(breaker.turn, now)
        assert breaker.failed(breaker.turn, now, at_once=True)
    breaker.due(now + 1.0)
    breaker.succeeded(breaker.turn, now + 1.0)
    assert breaker.failed(breaker.turn, now + 2.5, at_once=True)
    assert breaker.due(now + 2.6), "closed for long enough, it starts at the shortest wait again"


def test_a_trial_without_a_verdict_is_made_again() -> None:
    """Its caller was cancelled: the next one need not wait."""
    breaker = opened()
    assert breaker.due(0.1)
    breaker.abandoned(breaker.turn)
    assert breaker.due(0.1)


TURNS = st.sampled_from(["due", "ok", "fail", "timeout", "abandon", "old ok", "old timeout"])


@given(st.lists(st.tuples(TURNS, st.floats(0, 2)), max_size=60))
def test_an_old_verdict_changes_nothing(events: list[tuple[str, float]]) -> None:
    """Of a call that began before the last change, neither success nor failure counts."""
    breaker, now = Breaker(), 0.0
    for event, passed in events:
        now += passed
        before = (breaker.state, breaker.turn)
        match event:
            case "due":
                assert breaker.due(now) == (before[0] is not breaker.state)
            case "ok":
                assert breaker.succeeded(breaker.turn, now) == (
                    before[0] is not State.CLOSED and breaker.state is State.CLOSED
                )
            case "fail" | "timeout":
                breaker.failed(breaker.turn, now, at_once=event == "timeout")
                assert event == "fail" or breaker.state is State.OPEN
            case "abandon":
                breaker.abandoned(breaker.turn)
            case "old ok":
                assert not breaker.succeeded(breaker.turn - 1, now)
                assert before == (breaker.state, breaker.turn)
            case "old timeout":
                assert not breaker.failed(breaker.turn - 1, now, at_once=True)
                assert before == (breaker.state, breaker.turn)
