"""Comma-separated lists, whatever is in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.http.fields import OWS, members, split, values


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", []),
        (b" , ,\t,", []),
        (b"a, b ,c", [b"a", b"b", b"c"]),
        (b'a="x, y", b', [b'a="x, y"', b"b"]),
        (b'a="x\\", y", b', [b'a="x\\", y"', b"b"]),
        (b'a="x, b', [b'a="x', b"b"]),
        (b'a="x", b="y, no-store', [b'a="x"', b'b="y', b"no-store"]),
        (b'"', [b'"']),
        (b'"\\', [b'"\\']),
    ],
)
def test_split(line: bytes, expected: list[bytes]) -> None:
    """RFC 9110 5.6.1: empty members vanish, quotes hold commas, a quote left open holds none."""
    assert split(line) == expected


def test_entity_tags_have_no_escapes() -> None:
    """RFC 9110 8.8.3: a backslash at the end of an entity-tag does not hold its quote open."""
    assert split(b'"a\\", "b"', escapes=False) == [b'"a\\"', b'"b"']


def test_a_line_is_read_alone() -> None:
    """A quote that one line leaves open hides no member of the next."""
    headers = [(b"X", b'a="'), (b"Y", b"z"), (b"x", b"no-store")]
    assert values(headers, b"x") == [b'a="', b"no-store"]
    assert members(headers, b"x") == [b'a="', b"no-store"]


@given(st.binary(), st.booleans())
def test_nothing_is_lost(line: bytes, escapes: bool) -> None:
    """Any bytes: no error, and all that is dropped is commas and white space."""
    kept = b"".join(split(line, escapes))
    without = bytes(set(OWS + b","))
    assert kept.translate(None, without) == line.translate(None, without)


@given(st.lists(st.from_regex(rb"[a-z]+(=([a-z0-9]+|\"[a-z, =]*\"))?", fullmatch=True)))
def test_what_was_joined_is_split(parts: list[bytes]) -> None:
    """Well-formed members joined by commas come back one by one."""
    assert split(b" , ".join(parts)) == parts
