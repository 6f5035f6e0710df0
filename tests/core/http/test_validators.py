"""Conditional requests, and what 304 and HEAD change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.cache.answers import etag_of
from middleware.core.http.validators import (
    conditional_headers,
    confirms,
    head_from_get,
    merge_304,
    not_modified,
    not_modified_headers,
    revalidation,
)
from tests.core.http.at import NOW, head

TAG = 'ETag: "abc"'
WEAK = 'ETag: W/"abc"'
CHANGED = "Last-Modified: @-3000"

CONDITIONS = [
    # RFC 9110 13.1.2, 8.8.3.2: weak comparison
    ([TAG], ['If-None-Match: "abc"'], True),
    ([WEAK], ['If-None-Match: W/"abc"'], True),
    ([WEAK], ['If-None-Match: "abc"'], True),
    ([TAG], ['If-None-Match: W/"abc"'], True),
    ([TAG], ['If-None-Match: "ABC"'], False),
    ([TAG], ['If-None-Match: "abcd"'], False),
    ([TAG], ["If-None-Match: abc"], False),
    (["ETag: abc"], ["If-None-Match: abc"], True),
    (['ETag: "\xfc"'], ['If-None-Match: "\xfc"'], True),
    (['ETag: "a,b"'], ['If-None-Match: "x", "a,b"'], True),
    (['ETag: "a\\"'], ['If-None-Match: "a\\", "b"'], True),
    ([TAG], ['If-None-Match: "abc", "1", "2"'], True),
    ([TAG], ['If-None-Match: "1", "abc", "2"'], True),
    ([TAG], ['If-None-Match: "1","2",W/"abc"'], True),
    ([TAG], ['If-None-Match: "1"', 'If-None-Match: "abc"'], True),
    ([TAG], ['If-None-Match: "1", "2"'], False),
    ([TAG], ["If-None-Match: *"], True),
    ([], ["If-None-Match: *"], True),
    ([], ['If-None-Match: "abc"'], False),
    ([TAG], ["If-None-Match: "], False),
    # 13.2.2: If-None-Match goes first
    ([TAG, CHANGED], ['If-None-Match: "abc"', "If-Modified-Since: @-9000"], True),
    ([TAG, CHANGED], ['If-None-Match: "x"', "If-Modified-Since: @0"], False),
    ([CHANGED], ['If-None-Match: "x"', "If-Modified-Since: @0"], False),
    # 13.1.3
    ([CHANGED], ["If-Modified-Since: @-3000"], True),
    ([CHANGED], ["If-Modified-Since: @-2000"], True),
    ([CHANGED], ["If-Modified-Since: @-3001"], False),
    ([CHANGED], ["If-Modified-Since: nonsense"], False),
    ([CHANGED], ["If-Modified-Since: @0", "If-Modified-Since: @0"], False),
    (["Last-Modified: x"], ["If-Modified-Since: x"], False),
    (
        ["Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"],
        ["If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT"],
        True,
    ),
    # RFC 9111 4.3.2: Date stands in for Last-Modified
    (["Date: @-10"], ["If-Modified-Since: @-10"], True),
    (["Date: @-10"], ["If-Modified-Since: @-11"], False),
    ([], ["If-Modified-Since: @0"], False),
    ([TAG, CHANGED], [], False),
]


@pytest.mark.parametrize(("stored", "request_lines", "expected"), CONDITIONS)
def test_not_modified(stored: list[str], request_lines: list[str], expected: bool) -> None:
    """RFC 9110 13: 304 exactly where the client's validator holds, for GET and for HEAD."""
    for method in (b"GET", b"HEAD"):
        assert not_modified(method, head(*request_lines), head(*stored), 200, NOW) is expected


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [(b"GET", 204, True), (b"POST", 200, False), (b"GET", 404, False), (b"GET", 301, False)],
)
def test_where_conditions_count(method: bytes, status: int, expected: bool) -> None:
    """RFC 9110 13.2.1: only where GET or HEAD would be answered 2xx."""
    request = head('If-None-Match: "abc"')
    assert not_modified(method, request, head(TAG), status, NOW) is expected


def test_304_fields() -> None:
    """RFC 9110 15.4.5: a 304 carries its validators and cache fields, none that describe a body."""
    kept = head(
        TAG, "Date: @0", "Vary: a", "Cache-Control: max-age=9", "Expires: @9", CHANGED,
        "Content-Location: /x", "Content-Security-Policy: y",
    )  # fmt: skip
    body = head("Content-Length: 3", "Content-Type: text/plain", "Content-Encoding: gzip")
    body += head("Content-Language: en", "Content-MD5: x", "Content-Range: bytes 0-1/9")
    assert not_modified_headers(kept + body) == kept


def test_conditional_headers() -> None:
    """RFC 9111 4.3.1: the origin gets its own validators back, byte for byte."""
    assert conditional_headers(head(WEAK, "Last-Modified: whenever", "Date: @0")) == [
        (b"if-none-match", b'W/"abc"'),
        (b"if-modified-since", b"whenever"),
    ]
    assert conditional_headers(head("Date: @0", "ETag: ")) == []


def test_revalidation() -> None:
    """RFC 9111 4.3.1: the client's conditions and Range give way; all else, Vary's too, stays."""
    request = head(
        "Host: x", "If-None-Match: \"other\"", "if-modified-since: @0", "If-Match: *", "Abc: 123",
        "If-Unmodified-Since: @0", "Range: bytes=0-1", "If-Range: \"y\"", "Accept: z",
    )  # fmt: skip
    assert revalidation(request, head(TAG)) == [
        *head("Host: x", "Abc: 123", "Accept: z"),
        (b"if-none-match", b'"abc"'),
    ]


@pytest.mark.parametrize(
    ("stored", "fresh", "expected"),
    [
        ([TAG], [TAG], True),
        ([TAG], [], True),
        ([], [], True),
        ([TAG], ['ETag: "new"'], False),
        ([WEAK], [TAG], False),
        ([TAG], [WEAK], True),
        ([WEAK], [WEAK], True),
        ([WEAK], ['ETag: W/"new"'], False),
        ([CHANGED], [CHANGED], True),
        ([CHANGED], ["Last-Modified: @0"], False),
        ([CHANGED], [TAG, CHANGED], False),
        ([CHANGED], [WEAK, CHANGED], True),
        ([TAG, CHANGED], [TAG, "Last-Modified: @0"], True),
    ],
)
def test_confirms(stored: list[str], fresh: list[str], expected: bool) -> None:
    """RFC 9111 4.3.4: a 304 whose strong validator is another's updates nothing."""
    assert confirms(head(*stored), head(*fresh)) is expected


@pytest.mark.parametrize(
    "name",
    [
        "X-Any", "Content-Foo", "Cache-Control", "Content-Type", "Content-Location", "Content-MD5",
        "Content-Security-Policy", "ETag", "Expires", "Set-Cookie", "X-Frame-Options", "Vary",
    ],
)  # fmt: skip
def test_304_updates(name: str) -> None:
    """RFC 9111 3.2: a field of the 304 takes the place of all stored lines of its name."""
    stored = head("a: 1", f"{name}: old", f"{name.lower()}: older", "Date: @-60", "b: 2")
    merged = merge_304(stored, head("Date: @0", f"{name}: new", f"{name}: newer"))
    assert merged == head("a: 1", "b: 2", "Date: @0", f"{name}: new", f"{name}: newer")


@pytest.mark.parametrize("name", ["Content-Length", "Content-Encoding", "Content-Range"])
def test_304_leaves_what_the_body_needs(name: str) -> None:
    """RFC 9111 3.2: the stored bytes stay, and so does what tells how to read them."""
    assert merge_304(head(f"{name}: 5"), head(f"{name}: 10", "x: 1")) == head(f"{name}: 5", "x: 1")
    assert merge_304([], head(f"{name}: 10")) == []


def test_304_begins_a_new_age() -> None:
    """RFC 9111 4.3.4: without a Date of its own the 304 leaves none, so that age starts anew."""
    assert merge_304(head("Date: @-9000", "Age: 5", "x: 1"), []) == head("x: 1")
    assert merge_304(head("x: 1"), head("Age: 3")) == head("x: 1")


def test_304_stores_nothing_that_may_not_be_stored() -> None:
    """RFC 9111 3.1, 3.2: fields of the connection, and named ones, are not taken over."""
    fresh = head("Connection: c", "c: 9", "Keep-Alive: x", 'Cache-Control: no-cache="d"', "d: 9")
    merged = merge_304(head("d: 1", "x: 2"), fresh)
    assert merged == head("x: 2", 'Cache-Control: no-cache="d"')


def test_head_from_get() -> None:
    """RFC 9110 9.3.2: HEAD gets GET's fields, with the length that GET's body has."""
    assert head_from_get(head(TAG), 5) == head(TAG, "content-length: 5")
    assert head_from_get(head("Content-Length: 5", TAG), 5) == head("Content-Length: 5", TAG)


_FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b"etag", b"Last-Modified", b"Date", b"If-None-Match", b"age",
                         b"if-modified-since", b"Content-Length", b"Connection", b"x"]),
        st.binary(max_size=30),
    )
)  # fmt: skip


@given(_FIELDS, _FIELDS)
def test_any_bytes(stored: list[tuple[bytes, bytes]], other: list[tuple[bytes, bytes]]) -> None:
    """Any bytes: no error, and a merge holds only what one of the two had."""
    assert not_modified(b"GET", other, stored, 200, NOW) in (True, False)
    assert confirms(stored, other) in (True, False)
    assert all(pair in stored or pair in other for pair in merge_304(stored, other))


@given(st.binary(), st.lists(st.binary(max_size=9), max_size=4))
def test_own_tag_is_recognised(body: bytes, others: list[bytes]) -> None:
    """A tag that was given out is found again among any others."""
    tags = [etag_of(one) for one in [*others, body]]
    request = [(b"If-None-Match", b", ".join(tags))]
    assert not_modified(b"GET", request, [(b"ETag", etag_of(body))], 200, NOW)
