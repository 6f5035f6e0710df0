"""Ejection by failed requests: when, for how long, and how many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.ejection import Ejection, may_leave


def made() -> Ejection:
    return Ejection(consecutive=3, time=10.0, max_time=60.0)


def test_faults_in_a_row() -> None:
    """Three make it due; a success between them begins the row anew."""
    one = made()
    assert [one.fault(0), one.fault(0)] == [False, False]
    one.success(0)
    assert [one.fault(0), one.fault(0), one.fault(0)] == [False, False, True]


def test_it_stays_due_where_it_may_not_leave() -> None:
    """When the half that may be out is out, each further fault asks again."""
    one = made()
    assert [one.fault(0) for _ in range(4)] == [False, False, True, True]


def test_each_time_is_twice_as_long_up_to_the_bound() -> None:
    """One that fails again at once is left alone for 10, 20, 40, 60, 60 s."""
    one, now, lengths = made(), 0.0, []
    for _ in range(5):
        lengths.append(one.eject(now))
        now += lengths[-1]
        one.back(now)
    assert lengths == [10.0, 20.0, 40.0, 60.0, 60.0]


def test_who_behaved_begins_at_the_first_time() -> None:
    """Behaved: in for at least as long as it was out. Shorter than that is not enough."""
    one = made()
    assert one.eject(0.0) == 10.0
    one.back(10.0)
    assert one.eject(19.9) == 20.0
    one.back(39.9)
    assert one.eject(59.9) == 10.0


def test_back_on_probation() -> None:
    """After its return one fault is enough, until one request succeeded."""
    one = made()
    one.eject(0.0)
    one.back(10.0)
    assert one.fault(one.era)
    one.success(one.era)
    assert not one.fault(one.era)


def test_what_was_sent_before_says_nothing() -> None:
    """Requests that were sent before an ejection and end after it, badly or well, count no more."""
    one = made()
    old = one.era
    one.eject(0.0)
    assert not one.fault(one.era) and not one.fault(old), "it is out already"
    one.back(10.0)
    assert not one.fault(old)
    one.success(old)
    assert one.fault(one.era), "an old success ended the probation"


def test_the_first_time_is_not_over_the_bound() -> None:
    """`max_time` holds also where `time` is longer."""
    assert Ejection(1, 10.0, 5.0).eject(0.0) == 5.0


@given(st.lists(st.tuples(st.sampled_from("fse"), st.floats(0.01, 100)), max_size=60))
def test_any_history(steps: list[tuple[str, float]]) -> None:
    """Lengths stay within their bounds, each is the first or twice the last one, and no fault makes
    anyone due who is out.
    """
    one, now, last = made(), 0.0, 0.0
    for kind, pause in steps:
        now += pause
        if kind == "f":
            due = one.fault(one.era)
            assert not (due and one.out)
        elif kind == "s":
            one.success(one.era)
        elif one.out:
            one.back(now)
        else:
            length = one.eject(now)
            assert length in (10.0, min(2 * last, 60.0))
            last = length


@pytest.mark.parametrize(("members", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (8, 4)])
def test_at_most_half(members: int, most: int) -> None:
    """Of one nobody, of two and three one, of four two may be out."""
    out = 0
    while may_leave(out, members):
        out += 1
    assert out == most
