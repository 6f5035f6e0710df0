"""Server-sent events become MessagePack objects and back, however their bytes come in."""

from __future__ import annotations

import io
import itertools
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.documents import Unsayable
from middleware.core.object_stream import (
    EVENT,
    Event,
    EventFieldReader,
    ObjectReader,
    to_event,
    to_object,
)
from middleware.core.sse import EventTooLarge

MOST = 1000


def objects(stream: bytes) -> list[Any]:
    return list(msgpack.Unpacker(io.BytesIO(stream)))


def event(name: str | None, id: str | None, value: Any) -> msgpack.ExtType:
    return msgpack.ExtType(EVENT, msgpack.packb([name, id, value]))


MAPPED = [
    (b'data: {"a":1}\n\n', [{"a": 1}]),
    (b"data: 1\n\ndata: null\n\n", [1, None]),
    (b'data: "x"\r\n\r\n', ["x"]),
    (b"data: [1,\ndata: 2]\n\n", [[1, 2]]),
    (b": ping\n\ndata: {}\nretry: 5\n\n", [{}]),
    (b"data: {}\n\ndata: [DONE]\n\n", [{}, "[DONE]"]),
    (b"data: hello\ndata: you\n\n", [b"hello\nyou"]),
    (b"data\n\n", [b""]),
    (b"data: \xff\n\n", [b"\xff"]),
    (b'data: {"x":NaN}\n\n', [b'{"x":NaN}']),
    (b'data: {"x":1,"x":2}\n\n', [b'{"x":1,"x":2}']),
    (b"event: e\ndata: {}\n\n", [event("e", None, {})]),
    (b"id: 7\ndata: {}\n\ndata: 1\n\n", [event(None, "7", {}), 1]),
    (b"id: 7\nevent: e\ndata: hi\n\n", [event("e", "7", b"hi")]),
    (b"event: old\n\ndata: 1\n\n", [1]),
    (b"event: a\nevent: b\ndata: 1\n\n", [event("b", None, 1)]),
    (b"id: a\0b\ndata: 1\n\n", [1]),
    (b"event:\ndata: 1\n\n", [1]),
    (b"event: \xff\ndata: 1\n\n", [event("\ufffd", None, 1)]),
    (b"\xef\xbb\xbfevent: e\ndata: 1\n\n", [event("e", None, 1)]),
    (b'event: delta\ndata: {"type":"delta","d":"x"}\n\n', [{"type": "delta", "d": "x"}]),
    (b'event: delta\ndata: {"type":"other"}\n\n', [event("delta", None, {"type": "other"})]),
    (b"data: 1\n", []),
    (b"event: e\n\n", []),
]


def mapped(pieces: list[bytes]) -> bytes:
    reader = EventFieldReader()
    return b"".join(to_object(one) for piece in pieces for one in reader.feed(piece))


@pytest.mark.parametrize(("stream", "expected"), MAPPED)
def test_events_become_objects(stream: bytes, expected: list[Any]) -> None:
    """Whole, byte by byte, and cut in three anywhere, a stream has the same objects."""
    whole = mapped([stream])
    assert objects(whole) == expected
    assert mapped([stream[n : n + 1] for n in range(len(stream))]) == whole
    for a, b in itertools.combinations(range(len(stream) + 1), 2):
        assert mapped([stream[:a], stream[a:b], stream[b:]]) == whole


def test_an_event_is_an_object_with_its_last_byte() -> None:
    """It does not wait for the one that follows."""
    reader = EventFieldReader()
    assert reader.feed(b"event: e\ndata: 1\n") == []
    assert reader.feed(b"\n") == [Event(b"e", b"", b"1")]


def test_what_is_done_to_json() -> None:
    """pack gets the text and the value of data that is JSON, and of nothing else."""
    seen = []

    def pack(text: bytes, value: Any) -> Any:
        seen.append((text, value))
        return "packed"

    raw = [to_object(Event(b"", b"", data), pack) for data in (b"[1]", b"[DONE]", b"x y")]
    assert seen == [(b"[1]", [1])]
    assert [msgpack.unpackb(one) for one in raw] == ["packed", "[DONE]", b"x y"]


BACK = [
    ({"a": 1}, b'data: {"a":1}\n\n'),
    ("x", b'data: "x"\n\n'),
    ("[DONE]", b"data: [DONE]\n\n"),
    (None, b"data: null\n\n"),
    (b"hello\nyou", b"data: hello\ndata: you\n\n"),
    (b"a\r\nb\rc", b"data: a\ndata: b\ndata: c\n\n"),
    (b"", b"data: \n\n"),
    (event("e", "7", {}), b"event: e\nid: 7\ndata: {}\n\n"),
    (event(None, None, [1]), b"data: [1]\n\n"),
    (event("e", None, b"x"), b"event: e\ndata: x\n\n"),
]


@pytest.mark.parametrize(("value", "expected"), BACK)
def test_objects_become_events(value: Any, expected: bytes) -> None:
    """One whole event each, which reads back as the same object."""
    assert to_event(msgpack.packb(value), MOST) == expected
    assert EventFieldReader().feed(expected)


@pytest.mark.parametrize(
    "value",
    [
        {"a": b"x"},
        {1: 2},
        float("nan"),
        msgpack.ExtType(5, b"x"),
        [event("e", None, 1)],
        event("a\nb", None, 1),
        event("a", "\r", 1),
        event("a\0", None, 1),
        event(3, None, 1),  # type: ignore[arg-type]
        event("e", None, event("e", None, 1)),
        msgpack.ExtType(EVENT, b"\x01"),
        msgpack.ExtType(EVENT, b""),
        msgpack.ExtType(EVENT, msgpack.packb([1, 2])),
    ],
)
def test_an_object_that_is_no_event_is_refused(value: Any) -> None:
    """No event could forge another by a line end in its name."""
    with pytest.raises(Unsayable):
        to_event(msgpack.packb(value), MOST)


_data = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text("ab\n\r€:\\", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
)


@given(st.lists(_data, max_size=6), st.data())
def test_a_stream_survives_both_ways_in_any_pieces(values: list[Any], data: st.DataObject) -> None:
    """Objects to events to objects: the same, in order, none lost at a cut."""
    packed = b"".join(map(msgpack.packb, values))
    cuts = data.draw(st.lists(st.integers(0, len(packed)), max_size=6).map(sorted))
    reader = ObjectReader()
    found = [
        one
        for start, end in itertools.pairwise([0, *cuts, len(packed)])
        for one in reader.feed(packed[start:end])
    ]
    assert b"".join(found) == packed and reader.between
    events = b"".join(to_event(one, MOST) for one in found)
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=6).map(sorted))
    pieces = [events[start:end] for start, end in itertools.pairwise([0, *cuts, len(events)])]
    assert objects(mapped(pieces)) == values


@pytest.mark.parametrize("value", [[1, [2, {"a": [None] * 20}]], "x" * 300, b"x" * 300, 2**40])
def test_every_split_of_objects(value: Any) -> None:
    """Cut in three anywhere, also within a length, three objects are three."""
    one = msgpack.packb(value)
    stream = one * 3
    for a, b in itertools.combinations(range(0, len(stream) + 1, max(1, len(stream) // 60)), 2):
        reader = ObjectReader()
        found = [o for piece in (stream[:a], stream[a:b], stream[b:]) for o in reader.feed(piece)]
        assert found == [one] * 3 and reader.between


def test_an_object_is_given_with_its_last_byte() -> None:
    """Until then the reader says that it is within one."""
    reader = ObjectReader()
    assert reader.feed(b"\xa3ab") == [] and not reader.between
    assert reader.feed(b"c\x01\x92") == [b"\xa3abc", b"\x01"] and not reader.between
    assert reader.feed(b"\x01\x02") == [b"\x92\x01\x02"] and reader.between


def test_bytes_that_are_no_msgpack_end_the_stream() -> None:
    """What comes behind them could be anything."""
    with pytest.raises(Unsayable):
        ObjectReader().feed(b"\x01\xc1")


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_largest_object(step: int) -> None:
    """One of the bound passes; one more byte does not, nor does one that never ends."""
    fits = msgpack.packb(b"x" * 95)
    assert len(fits) == 97
    reader = ObjectReader(97)
    stream = fits * 2
    found = [o for n in range(0, len(stream), step) for o in reader.feed(stream[n : n + step])]
    assert found == [fits] * 2
    for stream in (msgpack.packb(b"x" * 96), b"\xc6\x7f\xff\xff\xff" + b"x" * 100):
        reader = ObjectReader(97)
        with pytest.raises(EventTooLarge):
            for n in range(0, len(stream), step):
                reader.feed(stream[n : n + step])


@pytest.mark.parametrize("step", [1, 1000])
def test_the_largest_event(step: int) -> None:
    """As of every event stream that is taken apart."""
    reader = EventFieldReader(10)
    stream = b"data: 1234567890\n\n"
    with pytest.raises(EventTooLarge):
        for n in range(0, len(stream), step):
            reader.feed(stream[n : n + step])
