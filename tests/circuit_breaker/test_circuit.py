"""One circuit, with a clock turned by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from pybreaker import CircuitBreaker

from middleware.core.call import Call
from middleware.core.circuit import PATIENCE, SOON, Circuit
from middleware.core.outcomes import BUCKETS, Rules, Window

from .both import Both

RULES = Rules()


class One:
    """A circuit, and what was told of its changes."""

    def __init__(self, rules: Rules = RULES, shared: bool = False) -> None:
        self.told: list[str] = []
        self.circuit = Circuit("c", rules, self._changed, shared)
        self.now = 100.0

    def _changed(self, circuit: Circuit, old: str, new: str, why: str, told: bool) -> None:
        self.told.append(f"{new}: {why}")

    def call(self) -> Call:
        assert self.circuit.admits(self.now)
        return self.circuit.take(self.now)

    def calls(self, *verdicts: str) -> None:
        for verdict in verdicts:
            getattr(self.circuit, verdict)(self.call(), self.now)

    def opened(self) -> One:
        self.calls(*["failed"] * (self.circuit.rules.consecutive or 0))
        assert self.circuit.state == "open"
        return self


@pytest.mark.parametrize(
    ("rules", "verdicts", "why"),
    [
        (RULES, ["failed"] * 5, "5 calls in a row failed"),
        (RULES, ["answered", "failed"] * 5, "5 of 10 calls failed"),
        (replace(RULES, consecutive=None), ["answered"] * 5 + ["failed"] * 5,
         "5 of 10 calls failed"),
        (replace(RULES, consecutive=1), ["failed"], "1 calls in a row failed"),
    ],
)  # fmt: skip
def test_what_opens_it(rules: Rules, verdicts: list[str], why: str) -> None:
    """At that very call, and not one before; a reason is told with it."""
    one = One(rules)
    one.calls(*verdicts[:-1])
    assert one.circuit.state == "closed"
    one.calls(verdicts[-1])
    assert one.told == [f"open: {why}"]
    assert not one.circuit.admits(one.now)


@pytest.mark.parametrize(("ratio", "of"), [(0.9, 10), (0.55, 20), (0.07, 100), (1.0, 3)])
def test_a_ratio_that_is_just_reached(ratio: float, of: int) -> None:
    """Opens, and one call less does not; whatever floating point makes of the share."""
    rules = replace(RULES, error_ratio=None, slow_ratio=ratio, min_calls=of)
    for slow, state in ((round(ratio * of), "open"), (round(ratio * of) - 1, "closed")):
        one = One(rules)
        for number in range(of):
            late = number >= of - slow
            one.circuit.answered(one.call(), one.now + 2 * late)
        assert one.circuit.state == state


def test_what_does_not() -> None:
    """Fewer failures than the ratio, too few calls, back-pressure, clients that leave."""
    one = One(replace(RULES, consecutive=None))
    one.calls(*["failed"] * 9)
    one = One()
    one.calls(*(["answered"] * 4 + ["failed"] * 3) * 20)
    one.calls(*["pushed_back", "left"] * 50)
    assert (one.told, one.circuit.window.calls) == ([], 140)


def test_a_success_between_breaks_a_row() -> None:
    """Neither back-pressure nor a client that leaves does."""
    one = One(replace(RULES, error_ratio=None))
    one.calls(*["failed"] * 4, "answered", *["failed"] * 4, "pushed_back", "left")
    assert one.circuit.state == "closed"
    one.calls("failed")
    assert one.circuit.state == "open"


def test_calls_that_wait_are_slow_before_they_answer() -> None:
    """An endpoint that hangs is found out by the next request after `slow_after`, and not by its
    timeouts; the calls' later verdicts are of a turn that is over.
    """
    one = One()
    calls = [one.call() for _ in range(10)]
    one.now += RULES.slow_after
    assert one.circuit.admits(one.now)
    one.now += 0.001
    assert not one.circuit.admits(one.now)
    assert one.told == ["open: 10 of 10 calls took over 1 s to answer"]
    for call in calls:
        one.circuit.answered(call, one.now + 30)
        one.circuit.failed(call, one.now + 31)
    assert len(one.told) == 1


def test_slow_calls_whose_clients_leave_are_slow() -> None:
    """Impatient clients do not hide a server that hangs."""
    one = One()
    calls = [one.call() for _ in range(11)]
    one.circuit.left(calls.pop(), one.now + 1)
    for call in calls:
        assert one.circuit.state == "closed"
        one.circuit.left(call, one.now + 1.5)
    assert one.told == ["open: 10 of 10 calls took over 1 s to answer"]


def test_a_client_that_sends_slowly_is_not_a_slow_server() -> None:
    """Time counts from the last byte of the request; an answer that comes before is in time."""
    one = One()
    calls = [one.circuit.take(one.now, sent=False) for _ in range(20)]
    one.now += 100
    for call in calls[:5]:
        one.circuit.left(call, one.now)
    for call in calls[5:10]:
        one.circuit.answered(call, one.now)
        one.circuit.sent(call, one.now + 1)
    for call in calls[10:]:
        one.circuit.sent(call, one.now)
    assert one.circuit.admits(one.now + 1)
    assert (one.circuit.window.calls, one.circuit.window.slow) == (5, 0)
    assert one.circuit.admits(one.now + 1.001)
    assert (one.circuit.window.calls, one.circuit.window.slow) == (15, 10)


def test_late_back_pressure_is_not_slow() -> None:
    """What was counted as slow while it waited is taken back."""
    one = One()
    calls = [one.call() for _ in range(9)]
    one.now += 2
    assert one.circuit.admits(one.now)
    assert one.circuit.window.slow == 9
    for call in calls:
        one.circuit.pushed_back(call, one.now)
    assert (one.circuit.window.slow, one.circuit.window.calls) == (0, 0)


def test_a_stream_that_breaks_off_is_one_failure() -> None:
    """It was counted as a call when it began, and is not counted twice."""
    one = One(replace(RULES, consecutive=None))
    calls = [one.call() for _ in range(10)]
    for call in calls:
        one.circuit.answered(call, one.now)
    for call in calls[:4]:
        one.circuit.failed(call, one.now + 5)
    window = one.circuit.window
    assert (window.calls, window.failures, one.circuit.state) == (10, 4, "closed")
    one.circuit.failed(calls[4], one.now + 5)
    assert one.circuit.state == "open"


def test_it_opens_for_longer_after_each_failed_probe() -> None:
    """5 s, then twice as long each time, up to `max_open_for`; from the beginning once closed."""
    one = One().opened()
    waits = []
    for _ in range(6):
        wait = one.circuit.until - one.now
        one.now += wait - 0.001
        assert not one.circuit.admits(one.now)
        assert one.circuit.wait(one.now) == pytest.approx(0.001)
        one.now += 0.001
        one.calls("failed")
        waits.append(round(wait, 6))
    assert waits == [5, 10, 20, 40, 60, 60]
    one.now += 60
    one.calls(*["answered"] * 3)
    assert one.circuit.state == "closed"
    one.opened()
    assert one.circuit.until - one.now == 5


def test_half_open_lets_a_few_through() -> None:
    """`probes` at a time, and no more than that in all until one has failed."""
    one = One().opened()
    one.now += 5
    first, second, third = one.call(), one.call(), one.call()
    assert not one.circuit.admits(one.now)
    assert one.circuit.wait(one.now) == SOON
    one.circuit.answered(first, one.now)
    assert not one.circuit.admits(one.now), "it may not send more than three"
    one.circuit.left(second, one.now)
    one.circuit.pushed_back(third, one.now)
    one.calls("answered")
    assert one.circuit.state == "half-open"
    one.calls("answered")
    assert one.told[1:] == ["half-open: tried again after 5.0 s", "closed: 3 probes succeeded"]
    assert one.circuit.probes == 5


def test_a_slow_probe_fails() -> None:
    """At once when the next request asks, without waiting for its answer."""
    one = One().opened()
    one.now += 5
    probe = one.call()
    one.now += 1.001
    assert not one.circuit.admits(one.now)
    assert one.told[-1] == "open: a probe was slow"
    assert one.circuit.until == one.now + 10
    one.circuit.answered(probe, one.now)
    one.now += 10
    assert len([one.call() for _ in range(3)]) == 3
    assert not one.circuit.admits(one.now)


def test_a_probe_that_breaks_off_behind_the_closing_counts() -> None:
    """A stream let through half-open ends later than its verdict, and the closed circuit hears."""
    one = One(replace(RULES, consecutive=3)).opened()
    one.now += 5
    probes = [one.call() for _ in range(3)]
    for probe in probes:
        one.circuit.answered(probe, one.now)
    assert one.circuit.state == "closed"
    for probe in probes:
        one.circuit.failed(probe, one.now + 1)
    assert one.circuit.state == "open"
    one.circuit.failed(probes[0], one.now + 1)
    assert one.circuit.counter == 0


def test_calls_of_an_earlier_turn_say_nothing() -> None:
    """What was under way when it opened neither closes it, nor opens it once more."""
    one = One()
    old = [one.call() for _ in range(4)]
    one.opened()
    until = one.circuit.until
    one.now += 5
    probe = one.call()
    for call in old:
        one.circuit.answered(call, one.now)
        one.circuit.failed(call, one.now)
    assert (one.circuit.state, one.circuit.until) == ("half-open", until)
    one.circuit.answered(probe, one.now)
    assert one.circuit.success_counter == 1
    assert len([one.call() for _ in range(2)]) == 2
    assert not one.circuit.admits(one.now)


@pytest.mark.parametrize(("wish", "wait"), [(2.0, 5.0), (30.0, 30.0), (3600.0, 60.0)])
def test_the_servers_own_wish(wish: float, wait: float) -> None:
    """Retry-After of a failure makes it longer than `open_for`, and no longer than the bound."""
    one = One()
    one.calls(*["failed"] * 4)
    one.circuit.failed(one.call(), one.now, wish)
    assert one.circuit.until - one.now == wait


def test_the_latest_of_several_wishes_counts() -> None:
    """The time that is farthest off, whichever answer named it."""
    one = One()
    for wish in (10, 30, 2):
        one.circuit.pushed_back(one.call(), one.now, wish)
    one.opened()
    assert one.circuit.until - one.now == 30


def test_a_wish_is_over_when_a_call_succeeds() -> None:
    """What the server asked for before it was well again counts no more."""
    one = One()
    one.circuit.pushed_back(one.call(), one.now, 30)
    one.calls("answered")
    one.opened()
    assert one.circuit.until - one.now == 5


def test_a_probe_that_is_pushed_back() -> None:
    """With Retry-After it is tried again then, and it was no failure: the next one that fails
    opens for 10 s, not 20.
    """
    one = One().opened()
    one.now += 5
    one.circuit.pushed_back(one.call(), one.now, 7)
    assert (one.circuit.state, one.circuit.until) == ("open", one.now + 7)
    one.now += 7
    one.calls("pushed_back", "failed")
    assert one.circuit.until == one.now + 10


def test_held_open_by_hand() -> None:
    """No time opens it and no other replica closes it; closing it by hand does, at once."""
    one = One()
    one.circuit.hold(one.now)
    one.now += 1e6
    assert not one.circuit.admits(one.now)
    assert one.circuit.wait(one.now) == RULES.max_open_for
    one.circuit.close("another replica", told=True)
    one.circuit.adopt(one.now, 1, 5)
    assert not one.circuit.admits(one.now + 100)
    one.circuit.close("by hand")
    assert one.told == ["open: held open by hand", "closed: by hand"]
    one.calls("answered")
    one.opened()
    one.circuit.hold(one.now)
    assert not one.circuit.admits(one.now + 1e6)


def test_a_call_that_was_not_admitted_is_not_judged() -> None:
    """Whoever takes it all the same changes nothing by it."""
    one = One().opened()
    for verdict in ("answered", "failed", "pushed_back", "left"):
        getattr(one.circuit, verdict)(one.circuit.take(one.now), one.now)
    one.now += 5
    for _ in range(3):
        one.call()
    one.circuit.failed(one.circuit.take(one.now), one.now)
    assert one.circuit.state == "half-open" and not one.circuit.admits(one.now)


def test_a_shared_one_waits_for_leave() -> None:
    """Until PATIENCE is over: whatever becomes of the store, it is tried again."""
    one = One(shared=True).opened()
    one.now += 5
    assert not one.circuit.admits(one.now)
    one.circuit.granted = one.now + 1
    assert one.circuit.admits(one.now)
    assert not one.circuit.admits(one.now + 1)
    assert not one.circuit.admits(one.now + PATIENCE - 0.001)
    assert one.circuit.admits(one.now + PATIENCE)


def test_the_states_are_pybreakers() -> None:
    """Its breaker has the circuit for its storage and its listener, and counts the probes."""
    one = One().opened()
    machine = one.circuit._machine
    assert isinstance(machine, CircuitBreaker)
    assert (machine.current_state, machine.state.name) == ("open", "open")
    assert one.circuit.opened_at is not None
    one.now += 5
    one.calls("answered")
    assert (machine.current_state, machine.success_counter) == ("half-open", 1)
    one.calls("answered", "answered")
    assert (machine.current_state, machine.fail_counter) == ("closed", 0)


def test_a_window_forgets() -> None:
    """Between nine and ten tenths of its length after a call; what is forgotten is not undone."""
    for start in (0.0, 0.5, 0.999):
        window = Window(BUCKETS)
        bucket = window.add(start, failed=True, slow=True)
        window.add(start + 8.9)
        assert (window.calls, window.failures, window.slow) == (2, 1, 1)
        window.advance(start + 9)
        assert window.calls == 2
        window.advance(start + 10)
        assert (window.calls, window.failures, window.slow) == (1, 0, 0)
        window.take_back(bucket, slow=True)
        assert (window.calls, window.slow) == (1, 0)
        window.add(start + 17.9)
        assert window.calls == 2
        window.add(start + 18.9)
        assert window.calls == 2, "the one of 8.9 is ten pieces old"


class Walk(RuleBasedStateMachine):
    """Any rules, any number of calls under way, any times."""

    both: Both

    @initialize(
        rules=st.builds(
            Rules,
            window=st.sampled_from([1.0, 10.0, 60.0]),
            min_calls=st.integers(1, 5),
            error_ratio=st.none() | st.sampled_from([0.2, 0.5, 1.0]),
            slow_ratio=st.none() | st.sampled_from([0.3, 0.9]),
            slow_after=st.sampled_from([0.25, 1.0, 5.0]),
            consecutive=st.none() | st.integers(1, 4),
            open_for=st.sampled_from([0.5, 5.0]),
            max_open_for=st.sampled_from([5.0, 64.0]),
            probes=st.integers(1, 4),
        )
    )
    def begin(self, rules: Rules) -> None:
        self.both = Both(rules, bodies=True)

    @rule(seconds=st.sampled_from([0.0, 0.125, 0.5, 1.0, 3.0, 5.0, 64.0]))
    def time_passes(self, seconds: float) -> None:
        self.both.tell(f"tick {seconds}")

    @rule(times=st.integers(1, 4), event=st.sampled_from(["ask", "ask", "ask with a body"]))
    def ask(self, times: int, event: str) -> None:
        for _ in range(times):
            self.both.tell(event)

    @precondition(lambda self: bool(self.both.live))
    @rule(data=st.data())
    def something_becomes_of_a_call(self, data: st.DataObject) -> None:
        asked = [one for one in self.both.events(0) if not one.startswith("tick")]
        self.both.tell(data.draw(st.sampled_from(asked)))

    def teardown(self) -> None:
        if hasattr(self, "both"):
            self.both.recovers()


TestAnyWalk = Walk.TestCase
TestAnyWalk.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
