"""The wait before the next try."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.backoff import Backoff


def test_it_grows_up_to_its_cap() -> None:
    """50 ms, half as much again each time, and never more than the cap."""
    backoff = Backoff(0.05, 1.5, 0.2, 0.0)
    waits = [backoff.wait(failures, 0.7) for failures in range(1, 7)]
    assert waits == pytest.approx([0.05, 0.075, 0.1125, 0.16875, 0.2, 0.2])


def test_jitter_takes_its_share_away() -> None:
    """With half left to chance a wait lies between the half and the whole."""
    backoff = Backoff(0.1, 2, 1, 0.5)
    assert [backoff.wait(1, chance) for chance in (0.0, 0.5)] == pytest.approx([0.1, 0.075])
    assert backoff.wait(1, 0.999) == pytest.approx(0.05, abs=1e-3)


@given(
    st.floats(0, 100), st.floats(1, 1e6), st.floats(0, 100), st.floats(0, 1),
    st.integers(1, 10_000), st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_it_is_bounded(
    first: float, factor: float, cap: float, jitter: float, failures: int, chance: float
) -> None:
    """Whatever the keys say and however often it failed: between 0 and the cap."""
    assert 0 <= Backoff(first, factor, cap, jitter).wait(failures, chance) <= cap
