"""The table once more without sockets: the reader gives the same however its bytes are cut."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from proxy.edge.parser import HeadLimits, RequestReader
from proxy.errors import ProxyError

from .case import NEVER, Case
from .table import CASES


@dataclass
class Reading:
    """What came of some bytes. requests: whole ones. error: the status that ended it, or None."""

    requests: list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes, list[tuple[bytes, bytes]]]]
    error: int | None
    open: bool
    """The last request is not whole, or bytes of another are waiting."""
    used: list[int]
    """Bytes that the first n requests took."""
    pending: bytes | None = None
    """Method of a request whose head is here and whose body is not, or is broken."""
    closes: bool = False
    """The last whole request asks to close; what is behind it was not read."""


def read(pieces: list[bytes]) -> Reading:
    """Feeds the pieces and pulls all there is behind each; stops where the sender asks to close."""
    reader = RequestReader(HeadLimits())
    reading = Reading([], None, False, [])
    head, body, fed = None, b"", 0
    try:
        for piece in pieces:
            reader.feed(piece)
            fed += len(piece)
            while True:
                if head is None and (head := reader.head()) is None:
                    break
                body += reader.body()
                if not reader.done:
                    break
                request = (head.method, head.target, head.headers, body, reader.trailers)
                reading.requests.append(request)
                reading.used.append(fed - reader.buffered)
                reader.next()
                keep, head, body = head.keep_alive, None, b""
                if not keep:
                    reading.closes = True
                    return reading
    except ProxyError as error:
        reading.error = error.status
    reading.pending = head.method if head is not None else None
    reading.open = head is not None or reader.buffered > 0
    return reading


def in_pieces(raw: bytes, size: int) -> list[bytes]:
    """`raw` in pieces of `size` bytes, the last one shorter."""
    return [raw[at : at + size] for at in range(0, len(raw), size)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_cut(case: Case) -> None:
    """A case comes to the same end whole, byte by byte, and cut in two at any byte."""
    raw = case.raw
    small = len(raw) <= 600
    ways = [[raw], in_pieces(raw, 1 if small else 997)]
    if small:
        ways += [[raw[:at], raw[at:]] for at in range(1, len(raw))]
    if case.kind != "passed" and not case.eof:
        ways.append([raw + NEVER])
    for way in ways:
        reading = read(way)
        shown = way if len(way) < 3 else f"{len(way)} pieces"
        if case.kind == "passed" or case.eof:
            assert reading.error is None, shown
            assert reading.open == case.eof, shown
        else:
            assert reading.error in case.status, shown
        starts = [method + b" " + target for method, target, *_ in reading.requests]
        assert starts == [seen.start for seen in case.sees], shown
        assert [r[3] for r in reading.requests] == [seen.body for seen in case.sees], shown


def test_refuses_at_once() -> None:
    """Bytes that no request can hold are refused before a line, a head or a chunk has ended."""
    for raw in (
        b"GET /\x00",
        b"GET /x HTTP/1.1\r\nA: b\x01",
        b"GET /x HTTP/1.1\n",
        b"\n",
        b"\x16\x03",
        b"GET /x HTTP/1.1\r\nHost: h\r\n\rX",
        b"GET /x HTTP/3.0\r\n",
    ):
        assert read([raw]).error, raw
