"""What stands around the items is read once; a body is taken apart as if it were read anew."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.apis.batch.around import MAX_KNOWN, MAX_TEXT, Items
from proxy.apis.shape import Untold
from proxy.exchange import Request

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text('ab"}\\,:]é', max_size=4)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ik", max_size=2), inner),
    max_leaves=5,
)
BODIES = st.dictionaries(st.sampled_from(["i", "j", "k"]), VALUES, max_size=3)
STYLES = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")])


def found(items: Items, body: bytes) -> Any:
    try:
        return items.find(Request(b"POST", b"/", [], body))
    except Untold:
        return None


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Bodies of a few members, some of them with a piece that is not theirs, or with one less."""
    text = json.dumps(draw(BODIES), separators=draw(STYLES), ensure_ascii=draw(st.booleans()))
    raw = text.encode()
    if draw(st.booleans()):
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.sampled_from([b"", b" ", b',"i":1', b"]", b'"', b"}", b"1"]))
        raw += text.encode()[at + draw(st.integers(0, 2)) :]
    return raw


@given(st.lists(texts(), max_size=12))
def test_whoever_came_before(bodies: list[bytes]) -> None:
    """Makes no difference: what is known of other bodies finds what there is to be found in this
    one, and nothing where there is nothing."""
    warm = Items("i", len)
    for raw in bodies:
        cold = Items("i", len)
        assert found(warm, raw) == found(cold, raw)
        assert found(cold, raw) == found(warm, raw)


def test_the_same_text_with_other_items() -> None:
    """It is what was read before, not the like of it."""
    items = Items("i")
    first = found(items, b'{"a": 1, "i": ["x"], "b": 2}')
    second = found(items, b'{"a": 1, "i": "y,z", "b": 2}')
    assert second.around is first.around
    assert (second.piece, second.value) == (b'"y,z"', "y,z")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"i":"x","i":"y"}',
        b'{"i":"x","b":2}',
        b'{"i":"x"',
        b'{"i":}',
        b'{"i":"x"}}',
        b'{"i":1 2}',
        b'{"i":"\xff"}',
        b'{"i":NaN}',
    ],
)
def test_a_text_that_only_begins_and_ends_alike(raw: bytes) -> None:
    """Is taken for what it is: with more in it, or no JSON."""
    items = Items("i")
    known = found(items, b'{"i":"x"}').around
    other = found(items, raw)
    assert other is None or (other.around is not known and other.piece == b'"x"')


def test_the_larger_text_that_fits_is_the_one() -> None:
    """Where one is the end of the other, no order of arrival has a body read twice."""
    items = Items("i")
    small, large = b'{"i":"x"}', b'{"i":"x","b":2}'
    known = [found(items, raw).around for raw in (small, large)]
    assert [found(items, raw).around for raw in (small, large, small)] == [*known, known[0]]
    assert found(items, large).around is known[1]


def test_as_many_and_as_large_as_is_bounded() -> None:
    """Clients write them: with one more all are forgotten, and a larger one is never kept."""
    items = Items("i")
    for number in range(3 * MAX_KNOWN):
        assert found(items, b'{"i":1,"b":%d}' % number).value == 1
        assert len(items._known) == number % MAX_KNOWN + 1
    large = b'{"i":1,"b":"%b"}' % (b"x" * MAX_TEXT)
    assert found(items, large).value == 1
    assert all(len(one.tail) < 20 for one in items._known)


def test_a_body_that_says_it_is_not_to_be_taken_apart() -> None:
    """Is asked anew each time: nothing of it is kept."""

    def look(body: dict[str, Any]) -> None:
        raise Untold

    items = Items("i", look)
    assert found(items, b'{"i":1}') is None and not items._known
