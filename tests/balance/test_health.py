"""What checks in a row say of an endpoint."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.health import Health


def test_three_that_fail_and_two_that_pass() -> None:
    """Only in a row, and only the one that completes the row is a change."""
    one = Health(unhealthy_after=3, healthy_after=2)
    checks = [True, False, False, True, False, False, False, False, True, False, True, True, True]
    changes = [number for number, passed in enumerate(checks) if one.checked(passed)]
    assert changes == [6, 11]
    assert one.good


def test_the_first_check_decides_alone() -> None:
    """An endpoint that is away when remora starts gets no requests for want of a third check."""
    one = Health(3, 2)
    assert one.checked(False) and not one.good
    other = Health(3, 2)
    assert not other.checked(True)
    assert not other.checked(False) and other.good


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4), st.integers(1, 4))
def test_against_the_rule_itself(checks: list[bool], bad: int, good: int) -> None:
    """It is good unless the last row of `bad` failures is not followed by a row of `good`."""
    one = Health(bad, good)
    state = True
    for number, passed in enumerate(checks):
        one.checked(passed)
        seen = checks[: number + 1]
        if number == 0:
            state = passed
        elif state and len(seen) >= bad and not any(seen[-bad:]):
            state = False
        elif not state and len(seen) >= good and all(seen[-good:]):
            state = True
        assert one.good is state
