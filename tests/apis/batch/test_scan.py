"""The scanner against a parser."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.apis.batch import scan
from proxy.apis.batch.pointer import MAX_STEPS, find, pointer
from proxy.apis.batch.scan import MAX_DEPTH
from proxy.apis.shape import Untold

TEXT = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ['"', "\\", '\\"', "],[", "}{", '","', "\\\\", "a\\", "\n", "é\u2028"]
)
LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)  # fmt: skip
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=25,
)


def texts(value: Any) -> list[bytes]:
    """The value in JSON: compact, with spaces, on lines of its own, and with escapes."""
    return [
        orjson.dumps(value),
        json.dumps(value, ensure_ascii=False).encode(),
        b" \r\n" + json.dumps(value, indent=1).encode() + b"\t ",
    ]


@given(st.lists(JSON, max_size=5))
def test_the_elements_of_a_list(values: list[Any]) -> None:
    """Whatever they hold and however they are written, they are the very bytes of each."""
    for raw in texts(values):
        at = scan.begin(raw)
        pieces, end = scan.elements(raw, at)
        assert [orjson.loads(piece) for piece in pieces] == orjson.loads(raw)
        assert all(piece.strip() == piece for piece in pieces)
        scan.ends(raw, end)
        assert scan.skip(raw, at) == end
        spans, last = scan.spans(raw, at)
        assert [raw[start:stop] for start, stop in spans] == pieces
        assert last == end


@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_the_members_of_an_object(value: dict[str, Any]) -> None:
    """Keys and values stand where a parser finds them; a key with an escape is Untold."""
    for raw in texts(value):
        at = scan.begin(raw)
        try:
            held, end = scan.members(raw, at)
        except Untold:
            assert any("\\" in json.dumps(key) for key in value)
            continue
        assert {
            one.key.decode(): orjson.loads(raw[one.start : one.end]) for one in held
        } == orjson.loads(raw)
        scan.ends(raw, end)
        assert scan.skip(raw, at) == end


@given(st.lists(st.dictionaries(st.sampled_from("abc"), JSON, max_size=3), max_size=4))
def test_records_are_elements_and_their_members(values: list[dict[str, Any]]) -> None:
    """Reading both at once finds what reading one after the other finds."""
    for raw in texts(values):
        at = scan.begin(raw)
        read, end = scan.records(raw, at)
        assert end == scan.elements(raw, at)[1]
        assert [raw[first:last] for first, _, last in read] == scan.elements(raw, at)[0]
        assert [held for _, held, _ in read] == [scan.members(raw, one[0])[0] for one in read]
        everything, _ = scan.members(b'{"a":%b}' % raw, 0, {b"a": scan.records})
        assert [orjson.loads(raw)] == [
            [{m.key.decode(): orjson.loads(raw[m.start - 5 : m.end - 5]) for m in held}
             for _, held, _ in everything[0].read]
        ]  # fmt: skip


PIECES = st.sampled_from(
    [b"[", b"]", b"{", b"}", b'"', b"\\", b",", b":", b" ", b"1", b"-2.5e3", b"null", b"NaN", b"a",
     b'"a"', b'"a":', b"[]", b"{}", b"\0", b"\xff", b'"\\""', b"[1,2]"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=14).map(b"".join) | st.binary(max_size=20))
def test_any_bytes(raw: bytes) -> None:
    """Whatever the bytes are, they are read or Untold; what is JSON is read as a parser does."""
    for read in (scan.elements, scan.members, scan.records):
        try:
            read(raw, 0)
        except Untold:
            pass
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return
    at = scan.begin(raw)
    scan.ends(raw, scan.skip(raw, at))
    if isinstance(value, list):
        assert [orjson.loads(piece) for piece in scan.elements(raw, at)[0]] == value


@pytest.mark.parametrize(
    "raw",
    [b"", b"[", b"[1", b"[1,", b"[1,]", b"[,1]", b"[1,,2]", b"[1 2}", b"[[1}]", b"[{]}", b'["a]',
     b'["a\\"]', b"[1;2]", b"[1:2]", b"[\x01]", b"[[1],[2]", b"[[1][2]]", b'["a" "b"]', b"{}",
     b'[{"a":1]', b'[["a"}]', b'[{"a":["b"}]]', b'["a",1}'],
)  # fmt: skip
def test_no_list(raw: bytes) -> None:
    """A list that is broken where its elements are told apart is Untold."""
    with pytest.raises(Untold):
        scan.elements(raw, 0)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,', b'{"a":1,}', b'{"a":1]', b"{a:1}",
     b'{"a":1,"a":2}', b'{"\\u0061":1}', b'{"a":}', b'{"a":1 "b":2}', b"[]"],
)  # fmt: skip
def test_no_object(raw: bytes) -> None:
    """So is an object; and one in which a key stands twice or has an escape."""
    with pytest.raises(Untold):
        scan.members(raw, 0)


def test_depth_is_bounded() -> None:
    """MAX_DEPTH brackets are read, one more is not."""
    deep = b'[""' * MAX_DEPTH + b"]" * MAX_DEPTH
    assert scan.skip(deep, 0) == len(deep)
    with pytest.raises(Untold):
        scan.skip(b'["",%b]' % deep, 0)


def test_digits_stay() -> None:
    """Numbers are passed on as they were written, those that no parser keeps included."""
    numbers = [b"1.50", b"-0", b"1E400", b"123456789012345678901234567890", b"0.1000", b"NaN"]
    assert scan.elements(b"[%b]" % b" , ".join(numbers), 0)[0] == numbers


# -- JSON Pointers


@pytest.mark.parametrize(
    ("text", "found"),
    [("", None), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1), ("/c%d", 2),
     ("/e^f", 3), ("/g|h", 4), ("/ ", 7), ("/m~0n", 8), ("/foo/1", "baz"), ("/o/p/0/q", 9)],
)  # fmt: skip
def test_a_pointer(text: str, found: Any) -> None:
    """The examples of RFC 6901 section 5 that need no escape in JSON, and a deeper one."""
    document = {
        "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, " ": 7, "m~n": 8,
        "o": {"p": [{"q": 9}]},
    }  # fmt: skip
    for raw in texts(document):
        at = find(raw, pointer(text))
        value = orjson.loads(raw[at : scan.skip(raw, at)])
        assert value == (document if found is None else found)


@pytest.mark.parametrize("text", ["/x", "/foo/2", "/foo/-", "/foo/01", "/foo/bar", "//", "/a/b"])
def test_a_pointer_to_nothing(text: str) -> None:
    """A value that is not there, and an index that is none, are Untold."""
    with pytest.raises(Untold):
        find(b'{"foo":["bar","baz"],"":0,"a/b":1}', pointer(text))


@pytest.mark.parametrize("text", ["foo", "#/foo", "/~", "/a~2", "/~01~"])
def test_no_pointer(text: str) -> None:
    """RFC 6901 section 3: a pointer begins with a slash, and a tilde is written ~0."""
    with pytest.raises(ValueError, match="JSON Pointer"):
        pointer(text)


def test_steps_are_bounded() -> None:
    """MAX_STEPS are a pointer, one more is none."""
    assert len(pointer("/a" * MAX_STEPS)) == MAX_STEPS
    with pytest.raises(ValueError, match="at most 16"):
        pointer("/a" * (MAX_STEPS + 1))


# -- numbers by the run


@given(st.lists(st.lists(st.text("0123456789.e-", min_size=1, max_size=30), min_size=1, max_size=9),
                min_size=1, max_size=9), st.integers(1, 9))  # fmt: skip
def test_runs(rows: list[list[str]], each: int) -> None:
    """Rows of as many numbers, of whatever length each is, are cut where each row ends."""
    texts = [",".join((row * each)[:each]).encode() for row in rows]
    assert scan.runs(b",".join(texts), len(texts), each) == texts


@given(st.text("1,", max_size=30), st.integers(1, 6), st.integers(1, 6))
def test_runs_that_do_not_come_out_even(words: str, count: int, each: int) -> None:
    """One number too few or too many, anywhere, is Untold."""
    raw = words.encode()
    if words.count(",") == count * each - 1:
        try:
            assert b",".join(scan.runs(raw, count, each)) == raw
        except Untold:
            assert each == 1 and "" in words.split(",")
        return
    with pytest.raises(Untold):
        scan.runs(raw, count, each)


@given(st.lists(JSON, max_size=4))
def test_words_or_elements(values: list[Any]) -> None:
    """The inside of a list is left in one piece only where commas part nothing but its elements."""
    for raw in texts(values):
        at = scan.begin(raw)
        found, end = scan.words_or_elements(raw, at)
        assert (found if isinstance(found, list) else scan.elements(b"[%b]" % found, 0)[0]) == (
            scan.elements(raw, at)[0]
        )
        assert end == scan.elements(raw, at)[1]
