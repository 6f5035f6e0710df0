"""The bench of outages itself: it runs, and what it says of an outage is so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bench import outage
from tests.bench.outage import FAULTS, SETUPS, Load, _left_alone, _returned

SHORT = Load(rate=200.0, before=0.2, during=0.6, after=0.4, patience=2.0)
ALONE, WATCHED, LAYERS = SETUPS


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_outage_of_one_of_four(fault: str) -> None:
    """Most requests succeed, whatever the endpoint does, also where the machine stood still and a
    burst of them met it; all are counted.
    """
    result = await outage.outage(fault, WATCHED, SHORT)
    assert result.requests == len(result.latencies) > 100
    assert sum(result.failures.values()) == result.failed < result.requests / 2


async def test_without_a_watch_more_fail() -> None:
    """A quarter of the requests meets the killed endpoint for as long as it is away."""
    long = replace(SHORT, during=2.0)  # more than a machine stands still for
    alone = await outage.outage("killed", ALONE, long)
    watched = await outage.outage("killed", WATCHED, long)
    assert alone.failed > watched.failed
    assert alone.share > watched.share


async def test_retries_hide_it() -> None:
    """With `retry` and `circuit_breaker` in the chain no request fails for a killed endpoint."""
    assert (await outage.outage("killed", LAYERS, SHORT)).failed == 0


def test_what_left_alone_means() -> None:
    """The last request before a quarter of a second without any."""
    seen = [(number * 0.05, [min(number, 6), number]) for number in range(40)]
    assert _left_alone(seen, 0.1, 2.0) == pytest.approx(0.2)
    assert _left_alone([(number * 0.05, [number, 0]) for number in range(40)], 0.1, 2.0) is None


def test_what_returned_means() -> None:
    """From the recovery until it gets half as many as each of the others."""
    seen = [(number * 0.02, [max(0, number - 100), number, number]) for number in range(200)]
    found = _returned(seen, 1.0)
    assert found is not None and 0.8 < found < 1.0
    assert _returned([(number * 0.02, [0, number]) for number in range(200)], 1.0) is None
