"""JSON and MessagePack say the same, or the document is refused: nothing in between."""

from __future__ import annotations

import json
import math
from typing import Any
from unittest import mock

import msgpack
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core import documents
from middleware.core.documents import (
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_MEMBERS,
    Unsayable,
    read_json,
    read_msgpack,
    write_json,
    write_msgpack,
)
from middleware.core.number_arrays import ARRAY
from tests.transcode.corpus import EITHER, INVALID, KEPT, VALID

MOST = 10_000

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)))
)
VALUES = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner, max_size=6)
    ),
    max_leaves=25,
)


def same(one: Any, other: Any) -> bool:
    """Equal, with the types of numbers and the sign of zero."""
    return repr(one) == repr(other)


def there_and_back(text: bytes) -> Any:
    """The value of JSON that went by way of MessagePack."""
    return json.loads(write_json(read_msgpack(write_msgpack(read_json(text)), MOST)))


@pytest.mark.parametrize("name", VALID)
def test_what_is_valid_comes_back_equal(name: str) -> None:
    """By way of MessagePack, as Python's own parser reads it."""
    assert same(there_and_back(VALID[name]), json.loads(VALID[name]))


@pytest.mark.parametrize("name", INVALID)
def test_what_is_no_json_is_refused(name: str) -> None:
    """And so is JSON that only some parsers take."""
    with pytest.raises(Unsayable):
        read_json(INVALID[name])


@pytest.mark.parametrize("name", EITHER)
def test_what_parsers_differ_about_has_a_rule(name: str) -> None:
    """It is kept or refused, as the table says; a float is the nearest one that there is."""
    text, kept = EITHER[name]
    if kept is KEPT:
        assert there_and_back(text) == json.loads(text)
    else:
        with pytest.raises(Unsayable):
            read_json(text)


@given(VALUES)
def test_any_value_of_json_survives_both_ways(value: Any) -> None:
    """Numbers keep their kind, zero its sign, objects the order of their members."""
    assert same(there_and_back(json.dumps(value).encode()), value)
    assert same(there_and_back(json.dumps(value, ensure_ascii=False, indent=1).encode()), value)


@given(VALUES, st.booleans())
def test_any_value_of_msgpack_survives_both_ways(value: Any, single: bool) -> None:
    """What JSON can say comes back equal; a float of 32 bits by its exact value."""
    packed = msgpack.packb(value, use_single_float=single and not _beyond_single(value))
    expected = msgpack.unpackb(packed)
    text = write_json(read_msgpack(packed, MOST))
    assert same(msgpack.unpackb(write_msgpack(read_json(text))), expected)


def _beyond_single(value: Any) -> bool:
    if isinstance(value, float):
        return abs(value) > 3.4e38
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_beyond_single, inner))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_refused(raw: bytes) -> None:
    """No other exception, of either reader or of the writer behind it."""
    for read, write in ((read_json, write_msgpack), (lambda b: read_msgpack(b, MOST), write_json)):
        try:
            write(read(raw))
        except Unsayable:
            pass


@given(VALUES, st.data())
def test_a_changed_byte_is_a_document_or_refused(value: Any, data: st.DataObject) -> None:
    """Also where the bytes are almost right."""
    raw = bytearray(msgpack.packb([value, b"\x01", msgpack.ExtType(ARRAY, b"f\x01")]))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        write_json(read_msgpack(bytes(raw), MOST))
    except Unsayable:
        pass


def pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, datetime=True)
    return packed


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (pack({"a": b"\x00"}), "binary"),
        (pack([[b""]]), "binary"),
        (pack(msgpack.ExtType(5, b"x")), "extension"),
        (pack({"when": msgpack.Timestamp(1, 2)}), "extension"),
        (pack(msgpack.ExtType(ARRAY, b"")), "array"),
        (pack(msgpack.ExtType(ARRAY, b"f\x01\x02\0\0\0aaaa")), "array"),
        (pack([math.nan]), "NaN"),
        (pack(math.inf), "NaN"),
        (pack({"a": [1, {"b": -math.inf}]}), "NaN"),
        (pack([0.0] * 50 + [math.nan]), "NaN"),
        (b"\xca\x7f\x80\x00\x00", "NaN"),
        (pack({1: 2}), "key"),
        (pack({None: 2}), "key"),
        (b"\x81\x90\x01", "key"),
        (b"\x81\xc4\x01a\x01", "key"),
        (b"\x82\xa1a\x01\xa1a\x01", "two entries"),
        (b"\x91\x82\xa1a\x01\xd9\x01a\x01", "two entries"),
        (b"\xa2\xff\xfe", "UTF-8"),
        (b"\xa3\xed\xa0\x80", "UTF-8"),
        (b"\x81\xa1\xff\x01", "UTF-8"),
        (b"", "breaks off"),
        (b"\xa5ab", "breaks off"),
        (b"\x93\x01\x02", "breaks off"),
        (b"\xdd\xff\xff\xff\xff", "breaks off"),
        (b"\xdf\xff\xff\xff\xff", "breaks off"),
        (b"\xc6\xff\xff\xff\xff", "breaks off"),
        (b"\x01\x02", "more than one"),
        (b'{"a":1}', "more than one"),
        (b"\xc1", "no MessagePack"),
        (b"\x91\xc1", "no MessagePack"),
        (b"\x91" * MAX_DEPTH + b"\x90", "in one another"),
        (b"\x81\xa1a" * 500 + b"\x01", "in one another"),
        (b"\x91" * 100_000 + b"\x01", "deep"),
    ],
)  # fmt: skip
def test_what_json_cannot_say_is_refused(raw: bytes, why: str) -> None:
    """With what it is that cannot be said."""
    with pytest.raises(Unsayable, match=why):
        write_json(read_msgpack(raw, MOST))


def test_depth() -> None:
    """MAX_DEPTH lists and maps in one another pass, one more does not, in either form."""
    assert write_json(read_msgpack(b"\x91" * (MAX_DEPTH - 1) + b"\x90", MOST)) == (
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    )
    for level in (b'{"a":', b'[1,{"b":"x","c":'):
        opened = level.count(b"{") + level.count(b"[1")
        text = level * (MAX_DEPTH // opened) + b"1"
        text += (b"}" if opened == 1 else b"}]") * (MAX_DEPTH // opened)
        assert there_and_back(text) == json.loads(text)
        with pytest.raises(Unsayable, match="in one another"):
            read_json(b"[" + text + b"]")


PIECES = ["a", "b", ":", "[", "{", "9" * 20, r"\u003a", r"\u003A", r"\u0061", r"\"", r"\\", "é"]
STRINGS = st.lists(st.sampled_from(PIECES), max_size=3).map(lambda pieces: f'"{"".join(pieces)}"')
TEXTS = st.recursive(
    STRINGS | st.sampled_from(["1e300", "9" * 20, "-" + "9" * 19, "true"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda texts: f"[{','.join(texts)}]")
        | st.lists(st.tuples(STRINGS, inner), max_size=3).map(
            lambda pairs: "{" + ", ".join(f"{key} :{text}" for key, text in pairs) + "}"
        )
    ),
    max_leaves=12,
)


@given(TEXTS, st.integers(1, 40))
def test_whatever_strings_hold_is_no_part_of_the_document(text: str, piece: int) -> None:
    """Colons, quotes, brackets and digits in them, in whatever way they are written and wherever
    the text is cut while it is looked through: a document is refused for its members that stand
    twice and for its long integers alone.
    """
    refused = False

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal refused
        refused |= len(dict(pairs)) != len(pairs)
        return dict(pairs)

    def integer(digits: str) -> int:
        nonlocal refused
        refused |= not -(2**63) <= int(digits) < 2**64
        return int(digits)

    expected = json.loads(text, object_pairs_hook=object_of, parse_int=integer)
    with mock.patch.object(documents, "_PIECE", piece):
        if refused:
            with pytest.raises(Unsayable, match=r"one name|64 bits"):
                read_json(text.encode())
        else:
            assert read_json(text.encode()) == expected


def test_heads_that_claim_too_much_cost_nothing() -> None:
    """A thousand lists that each claim a million items are refused before any is made."""
    raw = b"\xdd\x00\x0f\xff\xff" * 1000 + b"\xc0" * 0xFFFFF
    with pytest.raises(Unsayable, match="breaks off"):
        read_msgpack(raw, MOST)


def test_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many lists and objects as may be pass, one more does not; brackets in texts are none."""
    monkeypatch.setattr(documents, "MAX_CONTAINERS", 100)
    assert len(read_json(b"[" + b",".join([b"[ ]", b"{ }"] * 49) + b",[ ]]")) == 99
    assert len(read_msgpack(pack([[], {}] * 49 + [[]]), MOST)) == 99
    assert read_json(b'["' + b"[{" * 200 + b'"]')
    with pytest.raises(Unsayable, match="too many"):
        read_json(b"[" + b",".join([b"[ ]", b"{ }"] * 50) + b"]")
    with pytest.raises(Unsayable, match="too many"):
        read_msgpack(pack([[], {}] * 50), MOST)
    assert MAX_CONTAINERS == 500_000


def test_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many members as may be pass, in one object or in many; one more does not, and colons in
    texts are none.
    """
    monkeypatch.setattr(documents, "MAX_CONTAINERS", 10)
    monkeypatch.setattr(documents, "MAX_MEMBERS", 100)
    one = {str(number): 1 for number in range(100)}
    two = [dict.fromkeys("abcde" * 10, 1), {**one, "99": ":"}]
    for passes in (one, {"a": ":" * 200}):
        assert read_json(orjson.dumps(passes)) == read_msgpack(pack(passes), MOST) == passes
    for over in ({**one, "x": 1}, two):
        with pytest.raises(Unsayable, match="too many members"):
            read_json(orjson.dumps(over))
        with pytest.raises(Unsayable, match="too many entries"):
            read_msgpack(pack(over), MOST)
    with pytest.raises(Unsayable, match="too many entries"):  # and not what is in the last one
        read_msgpack(pack({**one, "x": msgpack.ExtType(5, b"")}), MOST)
    assert MAX_MEMBERS == 750_000


def test_numbers_in_arrays() -> None:
    """All arrays of a document count together."""
    array = msgpack.ExtType(ARRAY, b"e\x01\x32\0\0\0" + b"\0" * 100)
    assert read_msgpack(pack([array, array]), 100) == [[0.0] * 50] * 2
    with pytest.raises(Unsayable, match="arrays"):
        read_msgpack(pack([array, array]), 99)


def test_what_is_written_is_what_the_libraries_write() -> None:
    """Nothing is added: the bytes are msgpack's and orjson's own."""
    value = {"a": [1, 2.5, "x", None, True], "b": {}}
    assert write_msgpack(read_json(orjson.dumps(value))) == msgpack.packb(value)
    assert write_json(read_msgpack(msgpack.packb(value), MOST)) == orjson.dumps(value)
