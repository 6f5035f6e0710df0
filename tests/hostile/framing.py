"""Content-Length and Transfer-Encoding in every spelling that two parsers may read two ways."""

from __future__ import annotations

from .case import NEVER, Case, chunked, cut, post, refused

SMUGGLED = b"0\r\n\r\n" + NEVER
"""Ends a chunked body at once; what follows is a request only to who believed in chunks."""

BOTH = "9112 6.1"
_both = [
    ("CL.TE", b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
    ("TE.CL", b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n"),
    ("CL 0 and TE", b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
    ("TE and CL far apart", b"Transfer-Encoding: chunked\r\nA: b\r\nC: d\r\nContent-Length: 6\r\n"),
    ("CL and TE identity", b"Content-Length: 6\r\nTransfer-Encoding: identity\r\n"),
    ("CL and empty TE", b"Content-Length: 6\r\nTransfer-Encoding:\r\n"),
    ("CL and TE in other case", b"content-LENGTH: 6\r\ntransfer-ENCODING: cHuNkEd\r\n"),
    (
        "CL twice and TE",
        b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n",
    ),
    ("bad CL and TE", b"Content-Length: x\r\nTransfer-Encoding: chunked\r\n"),
    ("CL and bad TE", b"Content-Length: 6\r\nTransfer-Encoding: xchunked\r\n"),
]

_encodings = [
    ("chunked twice in a list", b"Transfer-Encoding: chunked, chunked\r\n"),
    ("chunked on two lines", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    (
        "chunked, then identity line",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    ),
    (
        "identity, then chunked line",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    ),
    ("chunked, then empty line", b"Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n"),
    ("cow, then chunked line", b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n"),
    ("two lines in two cases", b"Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
    ("identity", b"Transfer-Encoding: identity\r\n"),
    ("gzip", b"Transfer-Encoding: gzip\r\n"),
    ("gzip, chunked", b"Transfer-Encoding: gzip, chunked\r\n"),
    ("chunked, gzip", b"Transfer-Encoding: chunked, gzip\r\n"),
    ("chunked, identity", b"Transfer-Encoding: chunked, identity\r\n"),
    ("identity, chunked", b"Transfer-Encoding: identity, chunked\r\n"),
    ("chunked with a comma after", b"Transfer-Encoding: chunked,\r\n"),
    ("chunked with a comma before", b"Transfer-Encoding: ,chunked\r\n"),
    ("xchunked", b"Transfer-Encoding: xchunked\r\n"),
    ("chunkedx", b"Transfer-Encoding: chunkedx\r\n"),
    ("chunk", b"Transfer-Encoding: chunk\r\n"),
    ("chunked chunked", b"Transfer-Encoding: chunked chunked\r\n"),
    ("chunked in double quotes", b'Transfer-Encoding: "chunked"\r\n'),
    ("chunked in single quotes", b"Transfer-Encoding: 'chunked'\r\n"),
    ("chunked with a parameter", b"Transfer-Encoding: chunked;q=1\r\n"),
    ("chunked with a bare semicolon", b"Transfer-Encoding: chunked;\r\n"),
    ("vertical tab before", b"Transfer-Encoding: \x0bchunked\r\n"),
    ("vertical tab after", b"Transfer-Encoding: chunked\x0b\r\n"),
    ("form feed before", b"Transfer-Encoding: \x0cchunked\r\n"),
    ("NUL after", b"Transfer-Encoding: chunked\x00\r\n"),
    ("no-break space before", b"Transfer-Encoding: \xa0chunked\r\n"),
    ("no-break space after", b"Transfer-Encoding: chunked\xa0\r\n"),
    ("next line (NEL) after", b"Transfer-Encoding: chunked\x85\r\n"),
    ("Kelvin sign for K", b"Transfer-Encoding: chun\xe2\x84\xaaed\r\n"),
    ("full-width c", b"Transfer-Encoding: \xef\xbd\x83hunked\r\n"),
    ("empty", b"Transfer-Encoding:\r\n"),
    ("space before the colon", b"Transfer-Encoding : chunked\r\n"),
    ("tab before the colon", b"Transfer-Encoding\t: chunked\r\n"),
    ("NUL in the name", b"Transfer\x00-Encoding: chunked\r\n"),
    ("NUL after the name", b"Transfer-Encoding\x00: chunked\r\n"),
    ("line starts with a space", b" Transfer-Encoding: chunked\r\n"),
    ("behind a bare CR", b"A: b\rTransfer-Encoding: chunked\r\n"),
    ("behind a bare LF", b"A: b\nTransfer-Encoding: chunked\r\n"),
    ("behind LF CR", b"A: b\n\rTransfer-Encoding: chunked\r\n"),
    ("value on the next line", b"Transfer-Encoding:\r\n chunked\r\n"),
    ("value behind a bare LF", b"Transfer-Encoding:\nchunked\r\n"),
    ("value behind a bare CR", b"Transfer-Encoding:\rchunked\r\n"),
]

_lengths = [
    ("plus sign", b"+5"),
    ("minus sign", b"-5"),
    ("minus zero", b"-0"),
    ("hex", b"0x5"),
    ("binary", b"0b101"),
    ("octal", b"0o5"),
    ("one leading zero", b"05"),
    ("010", b"010"),
    ("two zeros", b"00"),
    ("underscore", b"1_0"),
    ("comma, same value", b"5, 5"),
    ("comma, no space", b"5,5"),
    ("comma after", b"5,"),
    ("comma before", b",5"),
    ("semicolon", b"5;"),
    ("space inside", b"5 5"),
    ("tab inside", b"5\t5"),
    ("fraction", b"5.0"),
    ("exponent", b"5e0"),
    ("word", b"five"),
    ("quotes", b'"5"'),
    ("suffix", b"5L"),
    ("19 digits", b"1" + 18 * b"0"),
    ("5 + 2**64, which wraps to 5", b"18446744073709551621"),
    ("5 + 2**32 padded to 19 digits", b"0000000004294967301"),
    ("400 digits", 400 * b"9"),
    ("full-width digit", b"\xef\xbc\x95"),
    ("Arabic digit", b"\xd9\xa5"),
    ("superscript digit", b"\xb2"),
    ("vertical tab before", b"\x0b5"),
    ("form feed after", b"5\x0c"),
    ("NEL after", b"5\x85"),
    ("no-break space before", b"\xa05"),
    ("NUL after", b"5\x00"),
    ("bare CR after", b"5\r6"),
    ("folded", b"5\r\n 0"),
    ("empty", b""),
    ("only spaces", b"  "),
]

_duplicates = [
    ("same value twice", b"Content-Length: 5\r\nContent-Length: 5\r\n"),
    ("two values", b"Content-Length: 5\r\nContent-Length: 6\r\n"),
    ("zero and five", b"Content-Length: 0\r\nContent-Length: 5\r\n"),
    ("twice in two cases", b"Content-Length: 5\r\ncontent-length: 5\r\n"),
    ("twice, far apart", b"Content-Length: 5\r\nA: b\r\nC: d\r\nContent-Length: 5\r\n"),
    ("value and empty", b"Content-Length: 5\r\nContent-Length:\r\n"),
    ("space before the colon", b"Content-Length : 5\r\n"),
    ("tab before the colon", b"Content-Length\t: 5\r\n"),
    ("on a folded line", b"A: b\r\n Content-Length: 5\r\n"),
]

_short = [
    cut("CL, no byte of the body", "9112 8", post(b"Content-Length: 5\r\n"), eof=True),
    cut("CL, one byte missing", "9112 8", post(b"Content-Length: 5\r\n", b"hell"), eof=True),
    cut("chunked, nothing after the head", "9112 8", chunked(b""), eof=True),
    cut("chunked, end in the size", "9112 8", chunked(b"5"), eof=True),
    cut("chunked, end after the size", "9112 8", chunked(b"5\r\n"), eof=True),
    cut("chunked, end in the data", "9112 8", chunked(b"5\r\nhel"), eof=True),
    cut("chunked, end after the data", "9112 8", chunked(b"5\r\nhello\r\n"), eof=True),
    cut("chunked, end after the zero", "9112 8", chunked(b"5\r\nhello\r\n0\r\n"), eof=True),
    cut("chunked, end in a trailer", "9112 8", chunked(b"0\r\nA: b\r\n"), eof=True),
    cut("chunked, end in the last CRLF", "9112 8", chunked(b"0\r\n\r"), eof=True),
]

CASES: list[Case] = [
    *(refused(name, BOTH, post(fields, SMUGGLED), 400, 501) for name, fields in _both),
    *(
        refused("TE " + name, "9112 6.1", post(fields, SMUGGLED), 400, 501)
        for name, fields in _encodings
    ),
    refused(
        "TE with HTTP/1.0", "9112 6.1",
        post(b"Transfer-Encoding: chunked\r\n", SMUGGLED, version=b"1.0"),
    ),
    refused(
        "TE with HTTP/1.0 and keep-alive", "9112 6.1",
        post(b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n", SMUGGLED, version=b"1.0"),
    ),
    *(
        refused("CL " + name, "9112 6.3", post(b"Content-Length: " + value + b"\r\n", b"hello"))
        for name, value in _lengths
    ),
    *(refused("CL " + name, "9112 6.3", post(fields, b"hello")) for name, fields in _duplicates),
    *_short,
]  # fmt: skip
