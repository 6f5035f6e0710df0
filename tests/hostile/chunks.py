"""Chunked bodies: sizes, data, extensions and trailers."""

from __future__ import annotations

from .case import NEVER, Case, chunked, cut

REST = b"\r\nhello\r\n0\r\n\r\n" + NEVER

_sizes = [
    ("empty", b""),
    ("space before", b" 5"),
    ("space after", b"5 "),
    ("tab before", b"\t5"),
    ("tab after", b"5\t"),
    ("space inside", b"0 5"),
    ("plus", b"+5"),
    ("minus", b"-5"),
    ("0x", b"0x5"),
    ("0X", b"0X5"),
    ("x", b"x5"),
    ("h after", b"5h"),
    ("underscore", b"0_5"),
    ("fraction", b"5.0"),
    ("comma", b"5,"),
    ("two sizes", b"5,5"),
    ("letter over f", b"5g"),
    ("word", b"five"),
    ("quotes", b'"5"'),
    ("17 digits", 16 * b"0" + b"5"),
    ("17 digits, which wrap to 5", b"1" + 15 * b"0" + b"5"),
    ("400 digits", 399 * b"0" + b"5"),
    ("NUL after", b"5\x00"),
    ("vertical tab after", b"5\x0b"),
    ("bare CR after", b"5\r5"),
    ("CR CR LF", b"5\r"),
    ("full-width digit", b"\xef\xbc\x95"),
    ("superscript digit", b"\xb2"),
]

_bodies = [
    ("LF after the size", b"5\nhello\r\n0\r\n\r\n"),
    ("LF after the data", b"5\r\nhello\n0\r\n\r\n"),
    ("CR after the data", b"5\r\nhello\r0\r\n\r\n"),
    ("LF CR after the data", b"5\r\nhello\n\r0\r\n\r\n"),
    ("nothing after the data", b"5\r\nhello0\r\n\r\n"),
    ("two bytes for the CRLF", b"5\r\nhelloXX0\r\n\r\n"),
    ("one byte too many", b"5\r\nhello!\r\n0\r\n\r\n"),
    ("one byte too few", b"5\r\nhell\r\n0\r\n\r\n"),
    ("second size bad", b"5\r\nhello\r\nz\r\nhello\r\n0\r\n\r\n"),
    ("no chunk, a plain body", b"hello"),
    ("minus zero", b"-0\r\n\r\n"),
    ("plus zero", b"+0\r\n\r\n"),
    ("hex zero", b"0x0\r\n\r\n"),
    ("17 zeros", 17 * b"0" + b"\r\n\r\n"),
    ("LF after the zero", b"0\n\r\n"),
    ("LF as the last line", b"0\r\n\n"),
    ("CR as the last line", b"0\r\n\rX"),
    ("LF LF as the end", b"0\n\n"),
    ("space before the zero", b" 0\r\n\r\n"),
    ("empty line before the zero", b"5\r\nhello\r\n\r\n0\r\n\r\n"),
]

_extensions = [
    ("bare LF in it", b";a=b\nc"),
    ("bare LF at its end", b";a=b\nhello\r\n0\r\n\r\n" + NEVER),
    ("bare LF after the semicolon", b";\n"),
    ("bare CR in it", b";a=b\rc"),
    ("NUL", b";a\x00=b"),
    ("byte 1", b";a=\x01"),
    ("DEL", b";a=b\x7f"),
    ("escape in quotes", b';a="\x1b"'),
    ("bare LF in quotes", b';a="b\nc"'),
    ("CRLF in quotes", b';a="b\r\nc"'),
    ("5 KiB of it", b";a=" + 5 * 1024 * b"b"),
    ("5 KiB of them", 1280 * b";a=b"),
]

_trailers = [
    ("Content-Length", b"Content-Length: 5\r\n"),
    ("Transfer-Encoding", b"Transfer-Encoding: chunked\r\n"),
    ("Host", b"Host: e\r\n"),
    ("host in lower case", b"host: e\r\n"),
    ("Connection", b"Connection: close\r\n"),
    ("Trailer", b"Trailer: a\r\n"),
    ("TE", b"TE: trailers\r\n"),
    ("Upgrade", b"Upgrade: h2c\r\n"),
    ("Expect", b"Expect: 100-continue\r\n"),
    ("Authorization", b"Authorization: Bearer x\r\n"),
    ("Cookie", b"Cookie: a=b\r\n"),
    ("Set-Cookie", b"Set-Cookie: a=b\r\n"),
    ("Content-Encoding", b"Content-Encoding: gzip\r\n"),
    ("Content-Type", b"Content-Type: text/html\r\n"),
    ("Content-Range", b"Content-Range: bytes 0-4/5\r\n"),
    ("second one Content-Length", b"A: b\r\nContent-Length: 5\r\n"),
]

_trailer_lines = [
    ("fold", b"A: b\r\n c\r\n"),
    ("fold at once", b" A: b\r\n"),
    ("bare LF", b"A: b\n"),
    ("bare CR", b"A: b\rC: d\r\n"),
    ("NUL", b"A: b\x00\r\n"),
    ("space before the colon", b"A : b\r\n"),
    ("no name", b": b\r\n"),
    ("no colon", b"A\r\n"),
    ("request line", b"GET /never HTTP/1.1\r\n"),
    ("bad name", b"A(: b\r\n"),
    ("only a space", b" \r\n"),
    ("1,500 of them", b"".join(b"A%d: b\r\n" % n for n in range(1500))),
    ("70 KiB of them", b"".join(b"A%d: %s\r\n" % (n, 1024 * b"b") for n in range(70))),
    ("value of 70 KiB", b"A: " + 70 * 1024 * b"b" + b"\r\n"),
]

CASES: list[Case] = [
    *(cut("size: " + name, "9112 7.1", chunked(raw + REST)) for name, raw in _sizes),
    *(cut("chunk: " + name, "9112 7.1", chunked(raw + NEVER)) for name, raw in _bodies),
    *(
        cut("extension: " + name, "9112 7.1.1", chunked(b"5" + raw + REST))
        for name, raw in _extensions
    ),
    *(
        cut(
            "trailer " + name, "9110 6.5.1", chunked(b"5\r\nhello\r\n0\r\n" + raw + b"\r\n" + NEVER)
        )
        for name, raw in _trailers
    ),
    *(
        cut("trailer: " + name, "9112 7.1.2", chunked(b"0\r\n" + raw + b"\r\n" + NEVER))
        for name, raw in _trailer_lines
    ),
]
