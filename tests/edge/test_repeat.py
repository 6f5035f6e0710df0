"""A head that comes again on a connection is read as if it were the first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.edge.parser import HeadLimits, RequestReader
from proxy.edge.repeat import MAX_HEAD, TRIES
from proxy.errors import ProxyError
from proxy.exchange import Headers

LIMITS = HeadLimits()
LENGTH = b"Content-Length: 5"


def head(*lines: bytes, first: bytes = b"POST /p HTTP/1.1") -> bytes:
    return b"\r\n".join([first, b"Host: h", *lines, b"", b""])


def read(reader: RequestReader, raw: bytes) -> Any:
    """All that is known of a request, or why it is refused."""
    try:
        reader.feed(raw)
        found = reader.head()
        if found is None:
            reader.rest()
            return None
        told = {name: getattr(found, name) for name in type(found).__slots__}
        told |= {"headers": found.headers.copy(), "left": reader.rest()}
        # A request is changed on its way.
        found.headers.append((b"X-Own", b"1"))
        reader.next()
        return told
    except ProxyError as error:
        return error.status, error.code, error.message


def remembered(reader: RequestReader) -> Headers:
    return reader._repeat._fields


FIELDS = st.sampled_from(
    [
        b"Content-Length: 5", b"Content-Length: 17", b"content-length:5", b"Content-Length: 0",
        b"Content-Length: 05", b"Content-Length: 5 ", b"Content-Length: +5",
        b"Content-Length: 5, 5",
        b"Content-Length: 1234567890123456789", b"Content-Length:", b"X-Content-Length: 5",
        b"Transfer-Encoding: chunked", b"Connection: close", b"Connection: keep-alive",
        b"Connection: upgrade", b"Connection: x-a, content-length", b"Upgrade: websocket",
        b"Expect: 100-continue", b"X-A: b", b"X-A: 5", b"X-A: \r", b" folded", b"Keep-Alive: 5",
        b"Host: i", b"X-A: Content-Length: 5",
    ]
)  # fmt: skip
FIRST = st.sampled_from(
    [b"POST /p HTTP/1.1", b"POST /p HTTP/1.0", b"POST http://o/p HTTP/1.1", b"GET /p HTTP/1.1"]
)
HEADS = st.builds(
    lambda first, lines: head(*lines, first=first), FIRST, st.lists(FIELDS, max_size=4)
)


@given(st.lists(st.tuples(HEADS, st.sampled_from([b"", b"hello", b"GET"])), max_size=8))
def test_whatever_came_before(requests: list[tuple[bytes, bytes]]) -> None:
    """Heads that a reader has read make no difference to the next, nor to what is refused."""
    warm = RequestReader(LIMITS)
    for raw, more in requests:
        told = read(RequestReader(LIMITS), raw + more)
        assert read(warm, raw + more) == told
        if not isinstance(told, dict):
            return  # the connection is good for an answer only
        assert read(warm, raw + more) == told


def test_another_length_alone_is_told_at_once() -> None:
    """The fields are those that came before, in their order, with the new length in its place."""
    reader = RequestReader(LIMITS)
    for number in (5, 123, 9):
        told = read(reader, head(b"CONTENT-LENGTH: %d" % number, b"X-A: b"))
        assert told["length"] == number
        assert told["headers"] == [
            (b"Host", b"h"), (b"CONTENT-LENGTH", b"%d" % number), (b"X-A", b"b"),
        ]  # fmt: skip
    assert reader._repeat._tries == TRIES


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((LENGTH, b"X-A: b"), (LENGTH, b"X-A: c")),
        ((b"X-A: b", LENGTH), (b"X-A: c", LENGTH)),
        ((LENGTH, b"X-A: b"), (LENGTH, b"X-A: 1\r\nX-A: 2")),
        ((LENGTH, b"Expect: 100-continue"), (b"Content-Length: 9", b"Expect: 100-continue")),
        ((LENGTH,), (b"Content-Length: 5\r\nContent-Length: 5",)),
        ((LENGTH,), (b"Content-Length: 5 5",)),
    ],
)
def test_what_differs_otherwise_is_read_anew(one: list[bytes], other: list[bytes]) -> None:
    """Whether it stands before the length or behind it."""
    reader = RequestReader(LIMITS)
    for lines in (one, other):
        assert read(reader, head(*lines)) == read(RequestReader(LIMITS), head(*lines))


def test_the_bound_on_a_body_holds() -> None:
    """Also for a head that differs from the last in nothing but a length over the bound."""
    reader = RequestReader(LIMITS, max_body=10)
    assert read(reader, head(LENGTH))["length"] == 5
    reader.next(10)
    assert read(reader, head(b"Content-Length: 11"))[0] == 413


def test_none_is_no_length_like_another() -> None:
    """What a head without a body asks for, an upgrade, one with a body does not, and again."""
    reader = RequestReader(LIMITS)
    lines = b"Connection: upgrade", b"Upgrade: websocket"
    for size, upgrade in ((5, None), (0, b"websocket"), (7, None), (0, b"websocket")):
        told = read(reader, head(b"Content-Length: %d" % size, *lines))
        assert (told["length"], told["upgrade"]) == (size, upgrade)


@pytest.mark.parametrize("again", range(2))
def test_a_client_that_never_writes_the_same_is_given_up(again: int) -> None:
    """After so many heads in vain no more is remembered; one that came again begins anew."""
    reader = RequestReader(LIMITS)
    for number in range(TRIES):
        read(reader, head(b"X-Trace: %d" % number, LENGTH))
        if again:
            read(reader, head(b"X-Trace: %d" % number, LENGTH))
    read(reader, head(b"X-Trace: last", LENGTH))
    assert ((b"X-Trace", b"last") in remembered(reader)) is bool(again)


def test_a_long_head_is_not_remembered() -> None:
    """Of each connection no more is kept than this."""
    reader = RequestReader(LIMITS)
    read(reader, head(b"X-A: %b" % (b"b" * MAX_HEAD), LENGTH))
    assert not remembered(reader)
    read(reader, head(b"X-A: %b" % (b"b" * (MAX_HEAD - 100)), LENGTH))
    assert remembered(reader)
