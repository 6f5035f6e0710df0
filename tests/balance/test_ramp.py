"""Slow start."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.ramp import LEAST, Ramp


def test_a_straight_line() -> None:
    """From a tenth at once to all of it, and then no more."""
    ramp = Ramp(10.0)
    assert ramp.share(0.0) == 1.0, "it never began"
    ramp.begin(100.0)
    assert [ramp.share(100.0 + second) for second in (0, 1, 5, 9, 10, 11)] == [
        LEAST, 0.1, 0.5, 0.9, 1.0, 1.0,
    ]  # fmt: skip


@given(st.floats(1, 9), st.integers(20, 200))
def test_it_takes_its_share_of_requests(second: float, requests: int) -> None:
    """Of requests that come at one moment it takes that share of them, to within two."""
    ramp = Ramp(10.0)
    ramp.begin(0.0)
    taken = sum(ramp.takes(second, busy=0, mean=0.0) for _ in range(requests))
    assert abs(taken - requests * second / 10) <= 2


def test_the_first_request_is_taken() -> None:
    """It is tried at once: whether it is well shows only then."""
    ramp = Ramp(10.0)
    ramp.begin(0.0)
    assert ramp.takes(0.0, busy=0, mean=50.0)


@given(st.floats(0, 9.9), st.integers(0, 50), st.floats(0, 50))
def test_it_is_not_buried(second: float, busy: int, mean: float) -> None:
    """However idle it looks beside the others, its requests in flight stay under its share of the
    mean; one it may always have.
    """
    ramp = Ramp(10.0)
    ramp.begin(0.0)
    if ramp.takes(second, busy, mean):
        assert busy == 0 or busy + 1 <= ramp.share(second) * (mean + 1)


def test_over_it_takes_all() -> None:
    """Afterwards it is like any other."""
    ramp = Ramp(10.0)
    ramp.begin(0.0)
    assert all(ramp.takes(10.0, busy=99, mean=0.0) for _ in range(20))
