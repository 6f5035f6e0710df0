"""A clean request, then a hostile one on the same connection: only the first is executed."""

from __future__ import annotations

from .case import NEVER, Case, chunked, get, post, refused, seen

FIRST = get(target=b"/first")
SEEN = seen(b"GET /first", b"Host: h")

_second = [
    (
        "CL.TE",
        "9112 6.1",
        post(b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    ),
    ("TE.TE", "9112 6.1", post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n")),
    ("duplicate CL", "9112 6.3", post(b"Content-Length: 0\r\nContent-Length: 0\r\n")),
    ("LF line ends", "9112 2.2", b"GET /x HTTP/1.1\nHost: h\n\n"),
    ("fold", "9112 5.2", get(b"Host: h\r\nA: b\r\n c\r\n")),
    ("no Host", "9112 3.2", get(b"")),
    ("two Hosts", "9112 3.2", get(b"Host: h\r\nHost: h\r\n")),
    ("space before the colon", "9112 5.1", get(b"Host : h\r\n")),
    ("NUL in the target", "9112 3.2", get(target=b"/\x00")),
    ("fragment", "9112 3.2", get(target=b"/x#a")),
    ("HTTP/0.9", "9112 2.3", b"GET /x\r\n\r\n"),
    ("a space between the two", "9112 2.2", b" " + get()),
    ("LF between the two", "9112 2.2", b"\n" + get()),
    ("an empty field line", "9112 2.2", b"\r\n: \r\n\r\n"),
    ("binary", "9112 2.2", b"\x16\x03\x01\x00\x5c\x01"),
    ("a body nobody announced", "9112 6.3", b'{"a": "b"}' + get()),
    ("a status line", "9112 3", b"HTTP/1.1 200 OK\r\n\r\n"),
]

CASES: list[Case] = [
    *(
        refused("second: " + name, section, FIRST + raw + NEVER, sees=(SEEN,))
        for name, section, raw in _second
    ),
    refused("second: CONNECT", "9112 3.2.3", FIRST + b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
            405, 501, sees=(SEEN,)),
    refused("second: HTTP/2", "9112 2.3", FIRST + b"GET /x HTTP/2.0\r\nHost: h\r\n\r\n" + NEVER,
            505, sees=(SEEN,)),
    refused("second: bytes over Content-Length", "9112 6.3",
            post(b"Content-Length: 5\r\n", b"hello{") + NEVER,
            sees=(seen(b"POST /x", b"Host: h", b"hello"),)),
    refused("second: bytes behind the last chunk", "9112 7.1",
            chunked(b"0\r\n\r\n") + b"0\r\n\r\n" + NEVER,
            sees=(seen(b"POST /x", b"Host: h"),)),
    refused("second: GET's unannounced chunks", "9112 6.3",
            get(b"Host: h\r\nTransfer_Encoding: chunked\r\n") + b"5\r\nhello\r\n0\r\n\r\n" + NEVER,
            sees=(seen(b"GET /x", b"Host: h\r\nTransfer_Encoding: chunked"),)),
]  # fmt: skip
