"""One range out of a stored answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.http.ranges import is_range, partial_headers, pick
from tests.core.http.at import NOW, head

BODY = b"0123456789A"

RANGES = [
    # RFC 9110 14.1.2
    ("bytes=0-1", b"01"),
    ("bytes=1-", b"123456789A"),
    ("bytes=-1", b"A"),
    ("bytes=-999", BODY),
    ("bytes=0-", BODY),
    ("bytes=3-3", b"3"),
    ("bytes=9-999", b"9A"),
    ("bytes=9-" + "9" * 18, b"9A"),
    ("Bytes= 0-1 ", b"01"),
    ("bytes=11-", None),
    ("bytes=5-4", None),
    ("bytes=-0", None),
    ("bytes=-", None),
    ("bytes=0-1,3-4", None),
    ("bytes=0-1, ", None),
    ("bytes=a-b", None),
    ("bytes=+1-2", None),
    ("items=0-1", None),
    ("bytes=0-" + "9" * 6000, None),
    ("", None),
]


@pytest.mark.parametrize(("value", "part"), RANGES)
def test_pick(value: str, part: bytes | None) -> None:
    """RFC 9110 14.1.2: one range that is there is cut out; anything else is left to the caller."""
    request = head(f"Range: {value}")
    assert is_range(request)
    picked = pick(b"GET", request, 200, [], len(BODY), NOW)
    assert (picked and BODY[picked[0] : picked[1] + 1]) == part


@pytest.mark.parametrize(
    ("method", "status", "length"), [(b"HEAD", 200, 5), (b"GET", 404, 5), (b"GET", 200, 0)]
)
def test_nowhere_else(method: bytes, status: int, length: int) -> None:
    """RFC 9110 14.2: Range counts for GET of a 200 that has a body."""
    assert pick(method, head("Range: bytes=0-1"), status, [], length, NOW) is None


def test_two_lines() -> None:
    """Range is one line; without it there is no part."""
    assert pick(b"GET", head("Range: bytes=0-1", "Range: bytes=0-1"), 200, [], 9, NOW) is None
    assert not is_range([])
    assert pick(b"GET", [], 200, [], 9, NOW) is None


@pytest.mark.parametrize(
    ("condition", "stored", "expected"),
    [
        ('"abc"', ['ETag: "abc"'], True),
        ('"abc"', ['ETag: W/"abc"'], False),
        ('W/"abc"', ['ETag: W/"abc"'], False),
        ('"x"', ['ETag: "abc"'], False),
        ('"abc"', [], False),
        ("@-60", ["Last-Modified: @-60", "Date: @0"], True),
        ("@-50", ["Last-Modified: @-60", "Date: @0"], False),
        ("@-60", ["Last-Modified: @-60", "Date: @-60"], False),
        ("@-60", ["Last-Modified: @-60"], False),
        ("nonsense", ["Last-Modified: nonsense", "Date: @0"], False),
    ],
)
def test_if_range(condition: str, stored: list[str], expected: bool) -> None:
    """RFC 9110 13.1.5: a part only of the version that the client has the rest of."""
    request = head("Range: bytes=0-1", f"If-Range: {condition}")
    assert (pick(b"GET", request, 200, head(*stored), 9, NOW) == (0, 1)) is expected


def test_partial_headers() -> None:
    """RFC 9110 15.3.7: a 206 says which part it is, and is as long as that part."""
    stored = head("Content-Length: 11", "A: 1", "ETag: x")
    assert partial_headers(stored, 2, 4, 11) == head(
        "A: 1", "ETag: x", "content-range: bytes 2-4/11", "content-length: 3"
    )


@given(st.binary(max_size=30).map(lambda tail: b"bytes=" + tail), st.integers(0, 50))
def test_any_bytes(value: bytes, length: int) -> None:
    """Any bytes: no error, and what is picked lies within the body."""
    picked = pick(b"GET", [(b"Range", value)], 200, [], length, NOW)
    assert picked is None or 0 <= picked[0] <= picked[1] < length


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 50))
def test_whole_numbers(first: int, last: int, length: int) -> None:
    """Every satisfiable pair gives exactly those of its bytes that exist."""
    picked = pick(b"GET", [(b"Range", b"bytes=%d-%d" % (first, last))], 200, [], length, NOW)
    wanted = [at for at in range(length) if first <= at <= last]
    assert picked == ((wanted[0], wanted[-1]) if wanted else None)
