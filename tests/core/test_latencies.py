"""Quantiles of the last few latencies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.latencies import KEPT, Latencies

SECONDS = st.lists(st.sampled_from([0.1, 0.2, 0.25, 1.0, 3.0]) | st.floats(0, 10), max_size=60)


def test_p95() -> None:
    """Of a hundred the 95th."""
    latencies = Latencies()
    for number in range(100, 0, -1):
        latencies.add(float(number))
    assert [latencies.quantile(share) for share in (0.01, 0.5, 0.95, 1.0)] == [1, 50, 95, 100]


def test_only_the_last_ones_count() -> None:
    """Beyond KEPT the oldest goes: a slow morning is forgotten, and memory is bounded."""
    latencies = Latencies()
    for _ in range(KEPT):
        latencies.add(9.0)
    for number in range(KEPT):
        assert latencies.quantile(1) == 9.0
        latencies.add(0.1)
        assert len(latencies) == KEPT == len(latencies._sorted), number
    assert latencies.quantile(1) == 0.1


def test_none_yet() -> None:
    """Without any there is no quantile."""
    with pytest.raises(IndexError):
        Latencies().quantile(0.95)


@given(SECONDS, st.integers(1, 20), st.integers(1, 99))
def test_it_is_exact(seconds: list[float], kept: int, percent: int) -> None:
    """The smallest value that at least that share of the last `kept` does not exceed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("middleware.core.latencies.KEPT", kept)
        latencies = Latencies()
        for count, one in enumerate(seconds, 1):
            latencies.add(one)
            last = seconds[max(0, count - kept) : count]
            enough = [x for x in last if sum(y <= x for y in last) * 100 >= percent * len(last)]
            assert latencies.quantile(percent / 100) == min(enough)
