"""What remora's reader accepts, llhttp accepts too and understands the same by it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import httptools
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.headers import connection_options

from .anything import anything
from .case import chunked, get, post
from .table import CASES
from .test_parser import in_pieces, read
from .wire import Fields

METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE")

JUSTIFIED = {
    "llhttp knows a closed list of methods; RFC 9110 section 9.1 has an open one":
        lambda method, target, raw: method not in METHODS,
    "llhttp takes no byte over 0x7f in a target; servers do get them, and they pass unchanged":
        lambda method, target, raw: re.search(rb"[\x80-\xff]", target),
    "llhttp takes no white space around `;` and `=`; RFC 9112 section 7.1.1 allows it":
        lambda method, target, raw: re.search(rb"\n[0-9A-Fa-f]+(?:[ \t]+;|;[^\r\n]*[ \t])", raw),
    "llhttp takes no tab behind `chunked`; RFC 9112 section 5 allows it":
        lambda method, target, raw: re.search(rb"(?i)chunked *\t", raw),
    "llhttp reads no body where an upgrade is asked for; RFC 9110 section 7.8 lets it be ignored":
        lambda method, target, raw: re.search(rb"(?i)\nupgrade:", raw),
}  # fmt: skip
"""Where remora accepts and llhttp does not, and that is meant: why, and how to know it."""

HOP = (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")


@dataclass
class Other:
    """One message as llhttp reads it."""

    target: bytes = b""
    fields: Fields = field(default_factory=list)
    trailers: Fields = field(default_factory=list)
    body: bytes = b""
    heads: int = 0
    ends: int = 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp leaves white space behind a value to its user (RFC 9112 section 5.1).
        (self.trailers if self.heads else self.fields).append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.heads += 1

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.ends += 1


def check_same(raw: bytes) -> None:
    """Each request that remora takes out of `raw` is one whole message to llhttp, and the same."""
    reading = read([raw])
    start = 0
    for (method, target, headers, body, trailers), end in zip(
        reading.requests, reading.used, strict=True
    ):
        message, start = raw[start:end], end
        if any(differs(method, target, message) for differs in JUSTIFIED.values()):
            continue
        other = Other()
        parser = httptools.HttpRequestParser(other)
        parser.feed_data(message)
        assert (other.heads, other.ends) == (1, 1), message
        assert (parser.get_method(), other.body) == (method, body), message
        assert other.trailers == trailers, message
        http10 = parser.get_http_version() == "1.0"
        if other.target == target:
            assert headers == _end_to_end(other.fields, http10), message
        else:
            # Absolute-form: its authority became the Host (RFC 9112 section 3.2.2).
            authority, path = re.fullmatch(rb"(?i:https?)://([^/?]*)(.*)", other.target).groups()
            rest = [
                pair for pair in _end_to_end(other.fields, http10) if pair[0].lower() != b"host"
            ]
            assert headers == [(b"Host", authority), *rest], message
            assert target in (path, b"/" + path, b"*"), message


def _end_to_end(fields: Fields, http10: bool) -> Fields:
    """Fields that are not for this connection alone, and are not named by it.

    Nor Expect from HTTP/1.0, which must be ignored (RFC 9110 section 10.1.1).
    """
    gone = (*HOP, b"expect") if http10 else HOP
    named = connection_options(v for n, v in fields if n.lower() == b"connection")
    kept = (b"host", b"content-length", b"content-type", b"cookie", b"expect", b"trailer")
    return [
        (name, value)
        for name, value in fields
        if (low := name.lower()) not in gone and (low not in named or low in kept)
    ]


def test_table_read_the_same() -> None:
    """Every row of the table: what remora accepts of it llhttp reads the same."""
    for case in CASES:
        check_same(case.raw)


@settings(max_examples=1200, deadline=None)
@given(anything())
@example(chunked(b"0;a\r\n\r\n"))
@example(get(b"Host: h\r\nA: b \t \r\n"))
@example(post(b"Content-Length: 3\t\r\n", b"abc"))
def test_anything_read_the_same(raw: bytes) -> None:
    """Any bytes: what remora accepts of them llhttp reads the same."""
    check_same(raw)


@settings(max_examples=800, deadline=None)
@given(anything(), st.integers(1, 40))
def test_any_cut_reads_the_same(raw: bytes, size: int) -> None:
    """Any bytes: whole or in pieces, the same requests come out and the same are refused."""
    whole, cut = read([raw]), read(in_pieces(raw, size))
    assert cut.requests == whole.requests
    assert (cut.error is None) == (whole.error is None)
