"""Selecting fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.http.vary import ABSENT, MAX_FIELDS, matches, selecting_fields
from proxy.exchange import Headers
from tests.core.http.at import head

PAIRS = [
    # RFC 9111 4.1
    ("Foo", ["Foo: 1"], ["Foo: 1"], True),
    ("foo", ["FOO: 1"], ["fOO: 1"], True),
    ("Foo", ["Foo: 1"], ["Foo: 2"], False),
    ("Foo", ["Foo: 1"], [], False),
    ("Foo", [], ["Foo: 1"], False),
    ("Foo", [], ["Foo: "], False),
    ("Foo", [], [], True),
    ("Foo", ["Foo: 1", "Other: 2"], ["Other: 3", "Foo: 1"], True),
    ("Foo, Bar", ["Foo: 1", "Bar: a"], ["Bar: a", "Foo: 1"], True),
    ("Foo, Bar", ["Foo: 1", "Bar: a"], ["Foo: 2", "Bar: a"], False),
    ("Foo, Bar", ["Foo: 1", "Bar: a"], [], False),
    ("Foo, Bar, Baz", ["Foo: 1", "Bar: a", "Baz: x"], ["Foo: 1", "Baz: x", "Bar: ab"], False),
    ("Foo, Bar, Baz", ["Foo: 1", "Baz: x"], ["Foo: 1", "Baz: x"], True),
    (", Foo,, Foo", ["Foo: 1"], ["Foo: 1"], True),
    ("", ["Foo: 1"], ["Foo: 2"], True),
    # what may be normalised
    ("Foo", ["Foo: 1, 2"], ["Foo: 1", "Foo: 2"], True),
    ("Foo", ["Foo: 1,2"], ["Foo:  1 ,\t2 "], True),
    ("Foo", ["Foo: 1, 2"], ["Foo: 2, 1"], False),
    ("Foo", ["Foo: 1 2"], ["Foo: 12"], False),
    ("Foo", ["Foo: a"], ["Foo: A"], False),
    ("Foo", ['Foo: "a, b"'], ['Foo: "a,b"'], False),
    ("Accept-Language", ["Accept-Language: en, de"], ["Accept-Language: eN,De"], True),
    ("Accept-Charset", ["Accept-Charset: utf-8"], ["accept-charset: UTF-8"], True),
    ("Accept-Encoding", ["Accept-Encoding: gzip"], ["accept-encoding: GZIP"], True),
    # two languages of equal weight: the first is the one that servers choose
    ("Accept-Language", ["Accept-Language: en, de"], ["Accept-Language: de, en"], False),
]


@pytest.mark.parametrize(("vary", "stored", "asked", "expected"), PAIRS)
def test_matches(vary: str, stored: list[str], asked: list[str], expected: bool) -> None:
    """RFC 9111 4.1: the selecting fields are the same, or are both absent."""
    fields = selecting_fields(head(f"Vary: {vary}"), head(*stored))
    assert fields is not None
    assert matches(fields, head(*asked)) is expected
    assert (selecting_fields(head(f"Vary: {vary}"), head(*asked)) == fields) is expected


@pytest.mark.parametrize(
    "lines",
    [
        ["Vary: *"],
        ["Vary: *, *"],
        ["Vary: *", "Vary: *"],
        ["Vary: , *"],
        ["Vary: ", "Vary: *"],
        ["Vary: *, Foo"],
        ["Vary: Foo, *"],
        ["Vary: Foo", "vary: *"],
        ["Vary: Foo Bar"],
        ['Vary: "Foo"'],
        ["Vary: " + ",".join(f"x{number}" for number in range(MAX_FIELDS + 1))],
    ],
)
def test_nothing_else_can_match(lines: list[str]) -> None:
    """RFC 9111 4.1: `*` on any line, names that are none, or too many of them match no request."""
    assert selecting_fields(head(*lines), head("Foo: 1")) is None


def test_form() -> None:
    """Names are lower-case and sorted, so that two answers of one Vary give one list."""
    fields = selecting_fields(head("Vary: B, a", "Vary: C"), head("A: 1,  2", "b: "))
    assert fields == [(b"a", b"1,2"), (b"b", b""), (b"c", ABSENT)]


def test_many() -> None:
    """Up to the bound, every field that is named counts."""
    names = ",".join(f"x{number}" for number in range(MAX_FIELDS))
    fields = selecting_fields(head(f"Vary: {names}"), [])
    assert fields is not None and len(fields) == MAX_FIELDS


def test_none() -> None:
    """Without Vary an answer depends on no field."""
    assert selecting_fields([], head("A: 1")) == []
    assert matches([], head("A: 1"))


_HEADERS = st.lists(st.tuples(st.sampled_from([b"a", b"B", b"vary"]), st.binary(max_size=20)))


@given(_HEADERS, _HEADERS, _HEADERS)
def test_any_bytes(response: Headers, first: Headers, second: Headers) -> None:
    """Any bytes: a request matches its own answer; two match exactly if their fields are equal."""
    fields = selecting_fields(response, first)
    if fields is not None:
        assert matches(fields, first)
        assert matches(fields, second) == (selecting_fields(response, second) == fields)
