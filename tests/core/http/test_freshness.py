"""Lifetime and age."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.http.cache_control import MAX_SECONDS
from middleware.core.http.freshness import (
    CLOCK_SKEW,
    HEURISTIC,
    HEURISTIC_MAX,
    current_age,
    explicit,
    initial_age,
    lifetime,
)
from tests.core.http.at import NOW, head

DAY = 86400

LIFETIMES = [
    # RFC 9111 4.2.1, in the order of its list
    (["Cache-Control: s-maxage=7, max-age=3600"], 7),
    (["Cache-Control: max-age=3600, s-maxage=7"], 7),
    (["Cache-Control: max-age=3600", "Cache-Control: s-maxage=7"], 7),
    (["Cache-Control: max-age=1, s-maxage=3600"], 3600),
    (["Expires: @-10", "Date: @0", "Cache-Control: max-age=0, s-maxage=3600"], 3600),
    (["Cache-Control: s-maxage=x, max-age=3600"], 0),
    (["Cache-Control: max-age=60"], 60),
    (["Cache-Control: max-age=60", "Expires: @-7200", "Date: @0"], 60),
    (["Cache-Control: max-age=60", "Expires: 0"], 60),
    (["Cache-Control: max-age=0", "Expires: @3600", "Date: @0"], 0),
    (["Cache-Control: max-age=x", "Expires: @3600", "Last-Modified: @-9000"], 0),
    (["Cache-Control: max-age=99999999999"], MAX_SECONDS),
    # 5.3
    (["Expires: @3600", "Date: @0"], 3600),
    (["Expires: @3600"], 3600),
    (["Expires: @10", "Date: nonsense"], 10),
    (["Expires: @0", "Date: @0"], 0),
    (["Expires: @-3600", "Date: @0"], 0),
    (["Expires: @300", "Date: @400"], 0),
    (["Expires: @10", "Date: @-10"], 20),
    (["Expires: 0", "Date: @0"], 0),
    (["Expires: Thu, 18 Aug 2050 2:01:18 GMT", "Expires: @3600", "Date: @0"], 0),
    (["Expires: 0", "Last-Modified: @-9000"], 0),
    (["Expires: Sun, 21 Nov 2286 04:46:39 GMT", "Date: @0"], MAX_SECONDS),
    # 4.2.2
    (["Last-Modified: @-9000", "Date: @0"], 900),
    (["Last-Modified: @-9000"], 900),
    (["Last-Modified: @-99000000", "Date: @0"], HEURISTIC_MAX),
    (["Last-Modified: @9000", "Date: @0"], 0),
    (["Last-Modified: nonsense", "Date: @0"], 0),
    (["Last-Modified: @-9000", "Set-Cookie: a=b"], 0),
    (["ETag: \"x\""], 0),
    ([], 0),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "seconds"), LIFETIMES)
def test_lifetime(lines: list[str], seconds: float) -> None:
    """RFC 9111 4.2.1: s-maxage, max-age, Expires less Date, a guess: the first there is counts."""
    assert lifetime(200, head(*lines), NOW) == pytest.approx(seconds)


def test_private_cache() -> None:
    """A cache of one client does not read s-maxage."""
    rules = head("Cache-Control: s-maxage=3600, max-age=1")
    assert lifetime(200, rules, NOW, shared=False) == 1
    only = head("Cache-Control: s-maxage=3600")
    assert lifetime(200, only, NOW, shared=False) == 0
    assert explicit(only)
    assert explicit(rules, shared=False)
    assert not explicit(only, shared=False)


@pytest.mark.parametrize("status", [201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 504, 599])
def test_no_guess_for_other_statuses(status: int) -> None:
    """RFC 9110 15.1: no heuristic but for the statuses named, unless `public` allows it."""
    old = head("Last-Modified: @-9000", "Date: @0")
    assert lifetime(status, old, NOW) == 0
    assert lifetime(status, [*old, *head("Cache-Control: public")], NOW) == 900
    assert lifetime(status, head("Cache-Control: max-age=5"), NOW) == 5


@pytest.mark.parametrize("status", sorted(HEURISTIC))
def test_guess(status: int) -> None:
    """RFC 9110 15.1: each status named may be reused by heuristic."""
    assert lifetime(status, head("Last-Modified: @-9000", "Date: @0"), NOW) == 900


AGES = [
    ([], 0),
    (["Date: @0"], 0),
    (["Date: @-7200"], 7200),
    (["Date: @7200"], 0),
    (["Date: nonsense"], 0),
    (["Age: 30"], 30),
    (["Age: 030"], 30),
    (["Age: 30", "Date: @-10"], 30),
    (["Age: 10", "Date: @-30"], 30),
    (["Age: 25", "Date: @10"], 25),
    (["Age: 7200, 0"], 7200),
    (["Age: 0, 7200"], 0),
    (["Age: 7200", "Age: 0"], 7200),
    (["Age: 0", "Age: 7200"], 0),
    (["Age: 0, 0"], 0),
    (["Age: abc"], 0),
    (["Age: -7200"], 0),
    (["Age: 7200.0"], 0),
    (["Age: 7200;a=1"], 0),
    (["Age: "], 0),
    (["Age: 2147483647"], 2**31 - 1),
    (["Age: 2147483648"], MAX_SECONDS),
    (["Age: 2147483649"], MAX_SECONDS),
    (["Age: " + "9" * 6000], MAX_SECONDS),
]


@pytest.mark.parametrize(("lines", "seconds"), AGES)
def test_initial_age(lines: list[str], seconds: float) -> None:
    """RFC 9111 4.2.3, 5.1: the larger of what Date and Age say; Age's first member alone counts."""
    assert initial_age(head(*lines), NOW, NOW) == seconds


def test_the_way_counts() -> None:
    """RFC 9111 4.2.3: what the request took is added to Age."""
    assert initial_age(head("Age: 30"), NOW - 5, NOW) == 35
    assert initial_age(head("Age: 30"), NOW + 5, NOW) == 30


def test_part_of_a_second() -> None:
    """An answer dated in this very second is not old."""
    assert initial_age(head("Date: @0"), NOW + 0.9, NOW + 0.9) == 0


def test_current_age() -> None:
    """RFC 9111 4.2.3: the age that it came with, and the time since."""
    assert current_age(30, NOW, NOW + 12.5) == 42.5
    assert current_age(0, NOW, NOW) == 0


def test_clock_set_back() -> None:
    """An entry from the future is older than any lifetime; one slightly ahead is as it came."""
    assert current_age(0, NOW, NOW - 3600) == MAX_SECONDS
    assert current_age(5, NOW, NOW - CLOCK_SKEW) == 5


@given(
    st.floats(0, MAX_SECONDS), st.floats(0, 4e9), st.floats(0, 4e9)
)  # fmt: skip
def test_age_is_bounded(age: float, stored_at: float, now: float) -> None:
    """No clock makes an entry younger than it came, or older than the bound."""
    assert age <= current_age(age, stored_at, now) <= MAX_SECONDS


@given(
    st.integers(100, 999),
    st.lists(
        st.tuples(
            st.sampled_from([b"date", b"Expires", b"age", b"last-modified", b"Cache-Control"]),
            st.binary(max_size=40),
        )
    ),
)
def test_any_bytes(status: int, headers: list[tuple[bytes, bytes]]) -> None:
    """Any bytes in any field: no error, numbers within bounds."""
    assert 0 <= lifetime(status, headers, NOW) <= MAX_SECONDS
    assert 0 <= initial_age(headers, NOW, NOW) <= MAX_SECONDS
