"""Accept is read as RFC 9110 section 12.5.1 has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.http.accept import ANYTHING, MAX_RANGES, parse_accept

JSON = b"application/json"
MSGPACK = b"application/msgpack"


@pytest.mark.parametrize(
    ("value", "json", "msgpack"),
    [
        (None, 1, 1),
        (b"", 1, 1),
        (b"*/*", 1, 1),
        (b"application/json", 1, 0),
        (b"APPLICATION/JSON", 1, 0),
        (b"application/json, application/msgpack;q=0.5", 1, 0.5),
        (b"application/json;q=0.2,application/msgpack", 0.2, 1),
        (b"application/json ; charset=utf-8 ; q=0.3", 0.3, 0),
        (b"application/json;q=0.3;ext=1", 0.3, 0),
        (b"application/json;Q=0.3", 0.3, 0),
        (b'application/json;a="q=0.1,";q=0.3', 0.3, 0),
        (b'application/json;a="x;q=0.1";q=0.3, application/msgpack;a="\\";q=0"', 0.3, 1),
        (b'application/json;a="x;q=0.3', 0.3, 0),  # never closed: no quote
        (b"application/*", 1, 1),
        (b"application/*;q=0.5, application/json", 1, 0.5),
        (b"application/*;q=0.5, application/json;q=0", 0, 0.5),
        (b"*/*;q=0.1, application/*;q=0.2, application/msgpack;q=0.3", 0.2, 0.3),
        (b"*/*;q=0", 0, 0),
        (b"text/html", 0, 0),
        (b"text/*", 0, 0),
        (b"application/json;q=0.4, application/json;q=0.6", 0.6, 0),
        (b"application/json;q=0.001", 0.001, 0),
        (b"application/json;q=1.000", 1, 0),
        (b"application/json;q=1.001, application/msgpack", 0, 1),
        (b"application/json;q=2, application/msgpack", 0, 1),
        (b"application/json;q=-1, application/msgpack", 0, 1),
        (b"application/json;q=, application/msgpack", 0, 1),
        (b"application/json;q=0.1234, application/msgpack", 0, 1),
        (b"json, application/msgpack", 0, 1),
        (b"application/, application/msgpack", 0, 1),
        (b"application/json/x, application/msgpack", 0, 1),
        (b"nonsense", 1, 1),
        (b",,", 1, 1),
    ],
)
def test_weights(value: bytes | None, json: float, msgpack: float) -> None:
    """The most specific range decides; members that are none are passed over."""
    accepted = parse_accept(value)
    assert (accepted.weight(JSON), accepted.weight(MSGPACK)) == (json, msgpack)


def test_members_beyond_the_bound_are_not_looked_at() -> None:
    """The last one within it counts, the next does not."""
    filler = b"a/b," * (MAX_RANGES - 1)
    assert parse_accept(filler + b"application/json").weight(JSON) == 1
    assert parse_accept(filler + b"a/b,application/json").weight(JSON) == 0


@given(st.binary(max_size=60) | st.text('ajson/*;q=.01, "\\', max_size=40).map(str.encode))
def test_anything_is_read(value: bytes) -> None:
    """Whatever a client sends, its weights are between 0 and 1."""
    accepted = parse_accept(value)
    assert accepted is ANYTHING or accepted.ranges
    assert all(0 <= weight <= 1 for weight in accepted.ranges.values())
