"""What an upstream may do to us: answers that are hostile, and answers that are odd and right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OK = b"HTTP/1.1 200 OK\r\n"
LATER = OK + b"Content-Length: 5\r\n\r\nnever"
"""An answer that nobody asked for; no client may ever see it."""


@dataclass(frozen=True)
class AnswerCase:
    """Raw bytes of an upstream, the RFC section, and what the client must get.

    kind "502": that. kind "cut": that, or an answer that visibly does not end well. kind
    "passed": exactly `status`, `fields`, `body`, `trailers`. kind "mended": as passed or as cut.
    closes: the upstream closes behind the bytes. dropped: remora must not use the connection
    again; after anything but "passed" and "mended" it never may.
    """

    name: str
    section: str
    raw: bytes
    kind: Literal["502", "cut", "passed", "mended"]
    closes: bool = False
    dropped: bool = False
    status: int = 200
    fields: tuple[bytes, ...] = ()
    body: bytes = b""
    trailers: tuple[bytes, ...] = ()
    method: bytes = b"GET"


def bad(name: str, section: str, raw: bytes, closes: bool = False) -> AnswerCase:
    """Nothing of it may reach the client."""
    return AnswerCase(name, section, raw, "502", closes)


def cut(name: str, section: str, raw: bytes, closes: bool = False) -> AnswerCase:
    """Its head may have gone out; its end never."""
    return AnswerCase(name, section, raw, "cut", closes)


def good(
    name: str, section: str, raw: bytes, status: int, fields: bytes = b"", body: bytes = b"",
    *, trailers: bytes = b"", closes: bool = False, dropped: bool = False, method: bytes = b"GET",
) -> AnswerCase:  # fmt: skip
    """Goes through. `fields` and `trailers` as on the wire, without those that frame the body."""
    return AnswerCase(
        name, section, raw, "passed", closes, dropped or closes, status,
        tuple(fields.split(b"\r\n")) if fields else (), body,
        tuple(trailers.split(b"\r\n")) if trailers else (), method,
    )  # fmt: skip


def mended(name: str, section: str, raw: bytes, trailers: bytes) -> AnswerCase:
    """`hello`, delivered with these trailers and no other, or refused."""
    return AnswerCase(name, section, raw, "mended", body=b"hello", trailers=(trailers,))


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
_five = b"5\r\nhello\r\n0\r\n\r\n"

_framing = [
    ("CL and TE", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    ("TE and CL", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
    ("CL 0 and TE", b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
    ("CL and TE identity", b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n"),
    ("two values of CL", b"Content-Length: 5\r\nContent-Length: 6\r\n"),
    ("CL in a list", b"Content-Length: 5, 6\r\n"),
    ("CL plus", b"Content-Length: +5\r\n"),
    ("CL minus", b"Content-Length: -5\r\n"),
    ("CL hex", b"Content-Length: 0x5\r\n"),
    ("CL word", b"Content-Length: five\r\n"),
    ("CL empty", b"Content-Length:\r\n"),
    ("CL with a space inside", b"Content-Length: 5 0\r\n"),
    ("CL that wraps to 5", b"Content-Length: 18446744073709551621\r\n"),
    ("CL full-width", b"Content-Length: \xef\xbc\x95\r\n"),
    ("CL folded", b"Content-Length: 5\r\n 0\r\n"),
    ("CL with a space before the colon", b"Content-Length : 5\r\n"),
    ("TE gzip", b"Transfer-Encoding: gzip\r\n"),
    ("TE gzip, chunked", b"Transfer-Encoding: gzip, chunked\r\n"),
    ("TE chunked, gzip", b"Transfer-Encoding: chunked, gzip\r\n"),
    ("TE chunked twice", b"Transfer-Encoding: chunked, chunked\r\n"),
    ("TE on two lines", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
    ("TE identity", b"Transfer-Encoding: identity\r\n"),
    ("TE xchunked", b"Transfer-Encoding: xchunked\r\n"),
    ("TE vertical tab", b"Transfer-Encoding: \x0bchunked\r\n"),
    ("TE empty", b"Transfer-Encoding:\r\n"),
    ("TE with a space before the colon", b"Transfer-Encoding : chunked\r\n"),
]

_lines = [
    ("fold with a space", b"A: b\r\n c\r\n"),
    ("fold with a tab", b"A: b\r\n\tc\r\n"),
    ("bare LF", b"A: b\nC: d\r\n"),
    ("bare CR", b"A: b\rC: d\r\n"),
    ("NUL in a value", b"A: b\x00c\r\n"),
    ("control character in a value", b"A: b\x01c\r\n"),
    ("NUL in a name", b"A\x00: b\r\n"),
    ("space before the colon", b"A : b\r\n"),
    ("no name", b": b\r\n"),
    ("no colon", b"A\r\n"),
    ("parenthesis in a name", b"A(: b\r\n"),
    ("byte over 0x7f in a name", b"A\xe9: b\r\n"),
    ("401 fields", b"".join(b"A%d: b\r\n" % n for n in range(401))),
    ("value of 70 KiB", b"A: " + 70 * 1024 * b"b" + b"\r\n"),
    ("fields of 140 KiB", b"".join(b"A%d: %s\r\n" % (n, 1024 * b"b") for n in range(140))),
]

_status_lines = [
    ("minus", b"HTTP/1.1 -200 OK"),
    ("two digits", b"HTTP/1.1 20 OK"),
    ("four digits", b"HTTP/1.1 2000 OK"),
    ("word", b"HTTP/1.1 OK"),
    ("zeros", b"HTTP/1.1 000 OK"),
    ("099", b"HTTP/1.1 099 OK"),
    ("HTTP/2.0", b"HTTP/2.0 200 OK"),
    ("HTTP/0.9", b"HTTP/0.9 200 OK"),
    ("HTTP/1.10", b"HTTP/1.10 200 OK"),
    ("lower case", b"http/1.1 200 OK"),
    ("two spaces", b"HTTP/1.1  200 OK"),
    ("tab", b"HTTP/1.1\t200 OK"),
    ("NUL in the reason", b"HTTP/1.1 200 O\x00K"),
    ("control character in the reason", b"HTTP/1.1 200 O\x01K"),
    ("bare CR in the reason", b"HTTP/1.1 200 O\rA: b"),
    ("ICY", b"ICY 200 OK"),
    ("a request line", b"GET /x HTTP/1.1"),
    ("space first", b" HTTP/1.1 200 OK"),
    ("reason of 140 KiB", b"HTTP/1.1 200 " + 140 * 1024 * b"a"),
]

_garbage = [
    ("HTTP/2 settings frame", bytes.fromhex("00000c0400000000000003000000640004000100000000")),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("TLS alert", bytes.fromhex("15030300020246")),
    ("HTML", b"<html></html>\r\n\r\n"),
    ("JSON", b'{"a": "b"}\r\n\r\n'),
    ("NULs", 64 * b"\x00"),
    ("every byte", bytes(range(256))),
    ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
]

_cut_heads = [
    ("nothing", b""),
    ("half a status line", b"HTTP/1.1 20"),
    ("half a head", OK + b"Content-Le"),
    ("a head without its empty line", OK + b"Content-Length: 5\r\n"),
    ("100 and nothing more", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ("103 and half a head", b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200"),
]

LINE = b"A: " + 1024 * b"b" + b"\r\n"
_chunks = [
    ("empty size", b"\r\nhello\r\n0\r\n\r\n"),
    ("plus", b"+5\r\nhello\r\n0\r\n\r\n"),
    ("minus", b"-5\r\nhello\r\n0\r\n\r\n"),
    ("0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    ("letter over f", b"5g\r\nhello\r\n0\r\n\r\n"),
    ("underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
    ("size that wraps to 5", b"1" + 15 * b"0" + b"5\r\nhello\r\n0\r\n\r\n"),
    ("LF after the size", b"5\nhello\r\n0\r\n\r\n"),
    ("LF after the data", b"5\r\nhello\n0\r\n\r\n"),
    ("data longer than its size", b"4\r\nhello\r\n0\r\n\r\n"),
    ("data shorter than its size", b"5\r\nhell\r\n0\r\n\r\n"),
    ("no chunk", b"hello\r\n0\r\n\r\n"),
    ("second size bad", b"5\r\nhello\r\nz\r\n"),
    ("NUL in an extension", b"5;a=\x00\r\nhello\r\n0\r\n\r\n"),
    ("LF in an extension", b"5;a=b\nc\r\nhello\r\n0\r\n\r\n"),
    ("folded trailer", b"5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n"),
    ("NUL in a trailer", b"5\r\nhello\r\n0\r\nA: \x00\r\n\r\n"),
    ("trailer without a colon", b"5\r\nhello\r\n0\r\nA\r\n\r\n"),
    ("trailers of 140 KiB", b"0\r\n" + 140 * LINE + b"\r\n"),
    ("trailers without an end", b"0\r\n" + 1000 * LINE),
    ("trailer without an end", b"0\r\nA: " + (1 << 20) * b"b"),
]

_closes = [
    ("CL, no byte", OK + b"Content-Length: 5\r\n\r\n"),
    ("CL, one byte missing", OK + b"Content-Length: 5\r\n\r\nhell"),
    ("chunked, no chunk", CHUNKED),
    ("chunked, in the size", CHUNKED + b"5"),
    ("chunked, in the data", CHUNKED + b"5\r\nhel"),
    ("chunked, behind the data", CHUNKED + b"5\r\nhello\r\n"),
    ("chunked, behind the zero", CHUNKED + b"5\r\nhello\r\n0\r\n"),
    ("chunked, in a trailer", CHUNKED + b"5\r\nhello\r\n0\r\nA: b"),
]

_forbidden = [b"Content-Length: 9", b"Transfer-Encoding: chunked", b"Host: e", b"Connection: close",
              b"Upgrade: h2c", b"Trailer: a"]  # fmt: skip

CL5 = b"Content-Length: 5\r\n"
HELLO = OK + CL5 + b"\r\nhello"

CASES: list[AnswerCase] = [
    *(bad(name, "9112 6.3", OK + raw + b"\r\n" + _five) for name, raw in _framing),
    bad("TE with HTTP/1.0", "9112 6.1",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + _five),
    *(bad("field: " + name, "9112 5", OK + raw + CL5 + b"\r\nhello") for name, raw in _lines),
    *(
        bad("status line: " + name, "9112 4", raw + b"\r\n" + CL5 + b"\r\nhello")
        for name, raw in _status_lines
    ),
    *(bad("garbage: " + name, "9112 4", raw) for name, raw in _garbage),
    *(bad("closed behind " + name, "9112 8", raw, closes=True) for name, raw in _cut_heads),
    bad("field without an end", "9112 5", OK + b"A: " + 140 * 1024 * b"b"),
    bad("17 times 100", "9110 15.2", 17 * b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO),
    bad("1,000 times 103", "9110 15.2", 1000 * b"HTTP/1.1 103 Early Hints\r\n\r\n" + HELLO),
    bad("101 unasked", "9110 15.2.2",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello"),
    bad("103, then garbage", "9110 15.2", b"HTTP/1.1 103 Early Hints\r\n\r\nhello\r\n\r\n"),
    *(cut("chunk: " + name, "9112 7.1", CHUNKED + raw) for name, raw in _chunks),
    *(cut("closed in " + name, "9112 8", raw, closes=True) for name, raw in _closes),
    *(
        mended("trailer " + line.decode(), "9110 6.5.1",
               CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\n" + line + b"\r\n\r\n", b"A: b")
        for line in _forbidden
    ),
    good("bytes behind Content-Length", "9112 9.2", HELLO + b"!", 200, b"", b"hello", dropped=True),
    good("an answer behind the answer", "9112 9.2", HELLO + LATER, 200, b"", b"hello",
         dropped=True),
    good("an answer behind chunks", "9112 9.2", CHUNKED + _five + LATER, 200, b"", b"hello",
         dropped=True),
    good("204 with a body", "9112 6.3", b"HTTP/1.1 204 No Content\r\n\r\n" + LATER, 204,
         dropped=True),
    good("304 with a body", "9112 6.3", b"HTTP/1.1 304 Not Modified\r\n" + CL5 + b"\r\nnever",
         304, dropped=True),
    good("HEAD with a body", "9112 6.3", OK + CL5 + b"\r\nnever", 200, method=b"HEAD",
         dropped=True),
    good("plain", "9112 4", HELLO, 200, b"", b"hello"),
    good("order, case, duplicates", "9110 5.3",
         OK + b"b: 1\r\nA: 2\r\nSet-Cookie: a\r\nB: 3\r\nset-cookie: c\r\n" + CL5 + b"\r\nhello",
         200, b"b: 1\r\nA: 2\r\nSet-Cookie: a\r\nB: 3\r\nset-cookie: c", b"hello"),
    good("bytes over 0x7f", "9110 5.5", OK + b"A: \xff\xc3\xa9\x80\r\n" + CL5 + b"\r\nhello", 200,
         b"A: \xff\xc3\xa9\x80", b"hello"),
    good("empty value", "9112 5", OK + b"A:\r\n" + CL5 + b"\r\nhello", 200, b"A: ", b"hello"),
    good("hop-by-hop fields", "9110 7.6.1",
         OK + b"Connection: keep-alive, a\r\nKeep-Alive: timeout=5\r\nA: b\r\nC: d\r\n"
         + CL5 + b"\r\nhello", 200, b"C: d", b"hello"),
    good("no reason", "9112 4", b"HTTP/1.1 200 \r\n" + CL5 + b"\r\nhello", 200, b"", b"hello"),
    good("reason over 0x7f", "9112 4", b"HTTP/1.1 200 \xe9\xff\r\n" + CL5 + b"\r\nhello", 200, b"",
         b"hello"),
    good("418", "9110 15.5", b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n", 418),
    good("599", "9110 15.6", b"HTTP/1.1 599 X\r\nContent-Length: 0\r\n\r\n", 599),
    good("204", "9110 15.3.5", b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n", 204, b"A: b"),
    good("304 with a length", "9110 15.4.5", b"HTTP/1.1 304 Not Modified\r\n" + CL5 + b"\r\n", 304),
    good("HEAD with a length", "9110 9.3.2", OK + CL5 + b"\r\n", 200, method=b"HEAD"),
    good("HEAD, chunked", "9110 9.3.2", CHUNKED, 200, method=b"HEAD"),
    good("until the close", "9112 6.3", OK + b"A: b\r\n\r\nhello", 200, b"A: b", b"hello",
         closes=True),
    good("HTTP/1.0, until the close", "9112 6.3", b"HTTP/1.0 200 OK\r\n\r\nhello", 200, b"",
         b"hello", closes=True),
    good("HTTP/1.0 with a length", "9112 9.3", b"HTTP/1.0 200 OK\r\n" + CL5 + b"\r\nhello", 200,
         b"", b"hello", dropped=True),
    good("Connection: close", "9112 9.6", OK + b"Connection: close\r\n" + CL5 + b"\r\nhello", 200,
         b"", b"hello", dropped=True),
    good("chunks", "9112 7.1", CHUNKED + b"1\r\nh\r\n004\r\nello\r\n00\r\n\r\n", 200, b"",
         b"hello"),
    good("chunk extensions", "9112 7.1.1", CHUNKED + b'5;a="b";c\r\nhello\r\n0;d\r\n\r\n', 200,
         b"", b"hello"),
    good("trailers", "9112 7.1.2", CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\nC: \xe9\r\n\r\n", 200,
         b"", b"hello", trailers=b"A: b\r\nC: \xe9"),
    good("100, then 200", "9110 15.2.1", b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO, 200, b"",
         b"hello"),
    good("103 twice, then 200", "9110 15.2",
         2 * b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + HELLO, 200, b"", b"hello"),
    good("body of every byte", "9112 6", OK + b"Content-Length: 256\r\n\r\n" + bytes(range(256)),
         200, b"", bytes(range(256))),
]  # fmt: skip
