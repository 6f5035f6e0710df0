"""An event stream is taken apart as the standard says, however its bytes come in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.sse import EventReader, EventTooLarge

BY_HAND = [
    (b"data: a\n\n", [b"a"]),
    (b"data:a\n\n", [b"a"]),
    (b"data:  a \n\n", [b" a "]),
    (b"data: a\r\n\r\n", [b"a"]),
    (b"data: a\r\r", [b"a"]),
    (b"data: a\r\n\n", [b"a"]),
    (b"data: a\n\r\n", [b"a"]),
    (b"data: a\r\n\rdata: b\n\n", [b"a", b"b"]),
    (b"data: a\ndata: b\n\n", [b"a\nb"]),
    (b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
    (b"data\n\n", [b""]),
    (b"data:\ndata\n\n", [b"\n"]),
    (b"event: x\nid: 3\nretry: 5\ndata: a\n\n", [b"a"]),
    (b"event: x\n\n", []),
    (b"\n\n\n", []),
    (b": comment\n\n:\n\n", []),
    (b"data: a\n: ping\ndata: b\n\n", [b"a\nb"]),
    (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
    (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
    (b" data: a\n\n", []),
    (b"datax: a\nDATA: a\n\n", []),
    (b"data: a: b\n\n", [b"a: b"]),
    (b"data: a\n", []),
    (b"data: a", []),
    (b"data: \xff\x00\n\n", [b"\xff\x00"]),
    ("data: \u2028\u0085\n\n".encode(), ["\u2028\u0085".encode()]),
    (b"", []),
]


def read(pieces: list[bytes], max_event: int = 100) -> list[bytes]:
    reader = EventReader(max_event)
    return [event for piece in pieces for event in reader.feed(piece)]


@pytest.mark.parametrize(("stream", "events"), BY_HAND)
def test_events(stream: bytes, events: list[bytes]) -> None:
    """Whole, byte by byte, and in every two pieces, a stream has the same events."""
    assert read([stream]) == events
    assert read([stream[n : n + 1] for n in range(len(stream))]) == events
    for cut in range(len(stream) + 1):
        assert read([stream[:cut], b"", stream[cut:]]) == events, cut


def test_an_event_is_there_with_its_last_byte() -> None:
    """No event waits for what follows it, not even where a CR ends it."""
    reader = EventReader()
    assert reader.feed(b"data: a\r\n\r") == [b"a"]
    assert reader.feed(b"\n") == []
    assert reader.feed(b"data: b\n") == []
    assert reader.feed(b"\n") == [b"b"]


def by_the_standard(stream: bytes) -> list[bytes]:
    """The standard's algorithm, line by line, over the whole stream."""
    lines, line = [], bytearray()
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    at = 0
    while at < len(stream):
        if stream[at : at + 2] == b"\r\n":
            at += 1
        if stream[at] in b"\r\n":
            lines.append(bytes(line))
            line.clear()
        else:
            line.append(stream[at])
        at += 1
    events, buffer = [], b""
    for each in lines:
        if not each:
            if buffer:
                events.append(buffer[:-1])
            buffer = b""
        elif not each.startswith(b":"):
            name, _, value = each.partition(b":")
            if name == b"data":
                buffer += (value[1:] if value.startswith(b" ") else value) + b"\n"
    return events


PARTS = [b"data", b": ", b":", b"\n", b"\r", b"\r\n", b"\n\n", b"a", b" ", b"\xef\xbb\xbf", b"id"]
STREAMS = st.lists(st.sampled_from(PARTS) | st.binary(max_size=2), max_size=40).map(b"".join)


@given(STREAMS, st.lists(st.integers(0, 120), max_size=8))
def test_any_bytes_in_any_pieces(stream: bytes, cuts: list[int]) -> None:
    """Any bytes, split anywhere, give the events that the standard's algorithm gives."""
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    pieces.append(stream[max(edges) :])
    assert b"".join(pieces) == stream
    assert read(pieces, 1000) == by_the_standard(stream)
    assert read([bytes([each]) for each in stream], 1000) == by_the_standard(stream)


TOO_LARGE = [
    b"data: " + b"a" * 95 + b"\n\n",
    b"data: 12345\n\n:" + b"c" * 200 + b"\n",
    b"data: " + b"a" * 60 + b"\ndata: " + b"b" * 60 + b"\n\n",
    b"data\n" * 102 + b"\n",
]


@pytest.mark.parametrize("stream", TOO_LARGE)
def test_an_event_over_the_bound(stream: bytes) -> None:
    """Data or a line over the bound raises, in one piece and in many."""
    with pytest.raises(EventTooLarge, match="100 bytes"):
        read([stream])
    with pytest.raises(EventTooLarge):
        read([stream[n : n + 1] for n in range(len(stream))])


def test_an_event_at_the_bound() -> None:
    """Data and lines of just the bound pass, and what one event took is free for the next."""
    full = b"data:" + b"a" * 95 + b"\n\n"
    two = b"data:" + b"a" * 50 + b"\ndata:" + b"b" * 49 + b"\n\n"
    for stream in (full * 3, two * 3, (b"data\n" * 101 + b"\n") * 2):
        whole = read([stream])
        assert len(whole) == len(read([stream[n : n + 1] for n in range(len(stream))])) > 1
    assert len(read([two])[0]) == 100


def test_what_never_ends_is_bounded() -> None:
    """A line that goes on and on raises before much more than the bound is held."""
    reader = EventReader(1000)
    with pytest.raises(EventTooLarge):
        for _ in range(102):
            reader.feed(b"data: 6789")
