"""HTTP-date."""

from __future__ import annotations

from calendar import timegm
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.http.dates import parse_date
from tests.core.http.at import NOW


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"Sun, 06 Nov 1994 08:49:37 GMT", (1994, 11, 6, 8, 49, 37)),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", (1994, 11, 6, 8, 49, 37)),
        (b"Sun Nov  6 08:49:37 1994", (1994, 11, 6, 8, 49, 37)),
        (b"Wed Nov 16 08:49:37 1994", (1994, 11, 16, 8, 49, 37)),
        (b"SUN, 06 nov 1994 08:49:37 gmt", (1994, 11, 6, 8, 49, 37)),
        (b"Mon, 06 Nov 1994 08:49:37 GMT", (1994, 11, 6, 8, 49, 37)),
        (b"Tue, 19 Jan 2038 03:14:08 GMT", (2038, 1, 19, 3, 14, 8)),
        (b"Thu, 01 Jan 2300 00:00:00 GMT", (2300, 1, 1, 0, 0, 0)),
        (b"Sat, 31 Dec 2016 23:59:60 GMT", (2017, 1, 1, 0, 0, 0)),
        (b"Monday, 02-Mar-70 00:00:00 GMT", (2070, 3, 2, 0, 0, 0)),
        (b"Monday, 02-Mar-80 00:00:00 GMT", (1980, 3, 2, 0, 0, 0)),
    ],
)
def test_three_forms(value: bytes, expected: tuple[int, ...]) -> None:
    """RFC 9110 5.6.7: each form is read, and two digits mean no more than 50 years ahead."""
    assert parse_date(value, NOW) == timegm((*expected, 0, 0, 0))


@pytest.mark.parametrize("month", range(1, 13))
def test_months(month: int) -> None:
    """Each month is known, in each form."""
    seconds = timegm((2024, month, 17, 1, 2, 3, 0, 0, 0))
    name = formatdate(seconds, usegmt=True).split()[2]
    for text in (
        f"Sat, 17 {name} 2024 01:02:03 GMT",
        f"Saturday, 17-{name}-24 01:02:03 GMT",
        f"Sat {name} 17 01:02:03 2024",
    ):
        assert parse_date(text.encode(), NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"-1",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"Sun, 06 Nov 1994 08:49:37 CEST",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 94 08:49:37 GMT",
        b"Sun 06 Nov 1994 08:49:37 GMT",
        b"Sun,  06 Nov 1994 08:49:37 GMT",
        b"Sun, 06  Nov 1994 08:49:37 GMT",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 06-Nov-1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08.49.37 GMT",
        b"Sun, 06 Nov 1994 8:49:37 GMT",
        b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 08:60:00 GMT",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 00 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Sun, 06 Foo 1994 08:49:37 GMT",
        b"Xyz, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:38 GMT",
    ],
)
def test_no_date(value: bytes) -> None:
    """RFC 9111 5.3: what is not of a form is no date, so that Expires means stale."""
    assert parse_date(value, NOW) is None


@given(st.integers(0, 253_402_300_799))
def test_round_trip(seconds: int) -> None:
    """Every second up to the year 9999, as a server writes it, is read as itself."""
    assert parse_date(formatdate(seconds, usegmt=True).encode(), NOW) == seconds


@given(st.binary(max_size=40), st.floats(-1e12, 1e12))
def test_any_bytes(value: bytes, now: float) -> None:
    """Any bytes at any time: a number or None, no error."""
    assert parse_date(value, now) is None or isinstance(parse_date(value, now), float)


@given(st.from_regex(rb"[A-Z][a-z]{2,8}, \d\d[- ][A-Z][a-z]{2}[- ]\d{2,4} \d\d:\d\d:\d\d GMT"))
def test_nearly_dates(value: bytes) -> None:
    """What looks like a date but has impossible parts raises nothing."""
    parse_date(value, NOW)
