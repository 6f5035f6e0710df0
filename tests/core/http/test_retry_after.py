"""Retry-After in its two forms."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.http.retry_after import retry_after

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0),
        (b"7", 7),
        (b"007", 7),
        (b"999999999", 999999999),
        (formatdate(NOW + 90, usegmt=True).encode(), 90),
        (formatdate(NOW - 90, usegmt=True).encode(), 0),
        (b"", None),
        (b"-1", None),
        (b"1.5", None),
        (b"+1", None),
        (b" 1 ", 1),
        (None, None),
        (b"\xb2", None),
        (b"1000000000", 1000000000),
        (b"9" * 5000, 2**31),
        (b"soon", None),
    ],
)
def test_both_forms(value: bytes | None, seconds: float | None) -> None:
    """Whole seconds, or a date counted from now; a date that has passed is 0, all else None."""
    assert retry_after(value, NOW) == seconds


@given(st.binary(max_size=40))
def test_any_bytes(value: bytes) -> None:
    """Whatever a server writes, the wait is a number of seconds that are not negative, or none."""
    found = retry_after(value, NOW)
    assert found is None or found >= 0
