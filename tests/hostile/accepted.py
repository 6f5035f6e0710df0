"""What is odd and right: it goes through, and the upstream gets it byte for byte."""

from __future__ import annotations

from .case import Case, Seen, chunked, get, passed, post, seen

H = b"Host: h\r\n"

_targets = [
    ("dots and double slashes", b"/a/../b//c"),
    ("dots at the start", b"/../../etc/passwd"),
    ("encoded dot", b"/%2e%2E/x"),
    ("encoded slash", b"/a%2Fb%5cc"),
    ("percent that encodes nothing", b"/%zz%"),
    ("encoded NUL", b"/a%00b"),
    ("query without a name", b"/?"),
    ("two question marks", b"/??a=?"),
    ("empty parameters", b"/x?&&a=&=b"),
    ("semicolon", b"/a;b=c;d"),
    ("plus and percent", b"/a+b%20c?d+e"),
    ("brackets and braces", b"/a[0]{b}|c^d`e"),
    ("quotes and angles", b"/\"a'<b>"),
    ("backslashes", b"/a\\..\\b"),
    ("bytes over 0x7f", b"/\xc3\xa9\xff\x80?\xfe"),
    ("double slash first", b"//host/x"),
    ("URL as a path", b"/http://e/x"),
    ("star as a path", b"/*"),
    ("at and colon", b"/a@b:80"),
    ("15 KiB", b"/" + 15 * 1024 * b"a"),
]

_lines = [
    ("order and case", b"b: 1\r\nA: 2\r\nc-C: 3\r\nHost: h\r\nAa: 4"),
    ("duplicates", b"Host: h\r\nA: 1\r\nB: 2\r\na: 3\r\nA: 1"),
    ("bytes over 0x7f", b"Host: h\r\nA: \x80\xe9\xff\xc3\xa9"),
    ("invalid UTF-8 in quotes", b'Host: h\r\nA: "\xc3\x28"'),
    ("tab inside", b"Host: h\r\nA: b\tc"),
    ("spaces inside", b"Host: h\r\nA: b  c   d"),
    ("every token byte", b"Host: h\r\n!#$%&'*+-.^_`|~09azAZ: b"),
    ("underscore", b"Host: h\r\nTransfer_Encoding: chunked\r\nContent_Length: 5"),
    ("near names", b"Host: h\r\nContent-Lengths: 5\r\nXTransfer-Encoding: chunked\r\nHosts: e"),
    ("cookies on two lines", b"Host: h\r\nCookie: a=b\r\nCookie: c=d"),
    ("every printable byte", b"Host: h\r\nA: " + bytes(range(0x21, 0x7F))),
    ("colons", b"Host: h\r\nA: :b:c:"),
    ("99 of them", H + b"\r\n".join(b"A%d: b" % n for n in range(99))),
    ("value of 32 KiB", b"Host: h\r\nA: " + 32 * 1024 * b"b"),
    ("IPv6 and a port", b"Host: [::1]:8000"),
    ("port", b"Host: h:8000"),
    ("Accept-Encoding kept", b"Host: h\r\nAccept-Encoding: gzip;q=0, identity"),
]

_spaces = [
    ("no space after the colon", b"A:b", b"A: b"),
    ("spaces and tabs around", b"A: \t b \t ", b"A: b"),
    ("empty", b"A:", b"A: "),
    ("only spaces", b"A:  \t ", b"A: "),
]

_connection = [
    ("names a field", b"Connection: a\r\nA: b\r\nC: d", b"C: d"),
    ("names two, in other case", b"Connection: a, Cc\r\nA: b\r\ncC: d\r\nE: f", b"E: f"),
    ("on two lines", b"Connection: a\r\nConnection: c\r\nA: b\r\nC: d\r\nE: f", b"E: f"),
    ("names what is not there", b"Connection: zz\r\nA: b", b"A: b"),
    ("empty options", b"Connection: , ,a,,\r\nA: b\r\nC: d", b"C: d"),
    ("named after the field", b"A: b\r\nC: d\r\nConnection: a", b"C: d"),
    ("Keep-Alive and the like", b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nA: b",
     b"A: b"),
    ("TE", b"TE: trailers\r\nConnection: TE\r\nA: b", b"A: b"),
    ("TE gzip, unnamed", b"TE: gzip\r\nA: b", b"A: b"),
    ("names Host", b"Connection: Host\r\nA: b", b"A: b"),
    ("names what it may not take away", b"Connection: Cookie, Content-Type\r\nCookie: b",
     b"Cookie: b"),
    ("names itself", b"Connection: Connection\r\nA: b", b"A: b"),
    ("upgrade without Upgrade", b"Connection: upgrade\r\nA: b", b"A: b"),
    ("Upgrade without upgrade", b"Upgrade: h2c\r\nA: b", b"A: b"),
    ("Upgrade to HTTP/2", b"Connection: Upgrade\r\nUpgrade: h2c\r\nA: b", b"A: b"),
    ("Upgrade to HTTP/2 among others",
     b"Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: a/1 , H2C\r\nA: b", b"A: b"),
    ("Upgrade to HTTP", b"Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\nA: b", b"A: b"),
    ("Upgrade to TLS", b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\nA: b", b"A: b"),
]  # fmt: skip

_methods = [
    b"DELETE",
    b"PATCH",
    b"PUT",
    b"TRACE",
    b"PROPFIND",
    b"get",
    b"M-SEARCH",
    b"A!#$%&'*+^_`|~",
]

_chunked = [
    ("one chunk", b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("no data", b"0\r\n\r\n", b""),
    ("many chunks", b"1\r\nh\r\n1\r\ne\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
    ("hex in both cases", b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", 2 * b"0123456789"),
    ("leading zeros", b"0000000000000005\r\nhello\r\n000\r\n\r\n", b"hello"),
    ("extension", b"5;a=b\r\nhello\r\n0;c\r\n\r\n", b"hello"),
    ("extensions with quotes", b'5;a=b;c="d e";f="\\"\xe9"\r\nhello\r\n0\r\n\r\n', b"hello"),
    ("CRLF as data", b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    ("a request as data", b"1a\r\nGET /never HTTP/1.1\r\nHo:\r\n\r\n0\r\n\r\n",
     b"GET /never HTTP/1.1\r\nHo:\r\n"),
]  # fmt: skip

CL5 = b"Content-Length: 5\r\n"
TE = b"Transfer-Encoding: chunked\r\n"


def _post(fields: bytes = b"", body: bytes = b"", trailers: bytes = b"") -> Seen:
    return seen(b"POST /x", b"Host: h" + (b"\r\n" + fields if fields else b""), body, trailers)


X = seen(b"GET /x", b"Host: h")

CASES: list[Case] = [
    passed("plain", "9112 3", get(), X),
    *(
        passed("target: " + name, "9112 3.2.1", get(target=raw), seen(b"GET " + raw, b"Host: h"))
        for name, raw in _targets
    ),
    *(
        passed("fields: " + name, "9110 5.3", get(raw + b"\r\n"), seen(b"GET /x", raw))
        for name, raw in _lines
    ),
    *(
        passed("value: " + name, "9112 5.1", get(H + raw + b"\r\n"), seen(b"GET /x", H + line))
        for name, raw, line in _spaces
    ),
    *(
        passed("Connection: " + name, "9110 7.6.1", get(H + raw + b"\r\n"),
               seen(b"GET /x", H + line))
        for name, raw, line in _connection
    ),
    passed("Connection: names Content-Length", "9110 7.6.1",
           post(b"Connection: Content-Length\r\n" + CL5, b"hello"), _post(body=b"hello")),
    passed("Connection: names Transfer-Encoding", "9110 7.6.1",
           post(b"Connection: Transfer-Encoding\r\n" + TE, b"5\r\nhello\r\n0\r\n\r\n"),
           _post(body=b"hello")),
    passed("Connection: close goes no further", "9112 9.6", get(H + b"Connection: close\r\n"), X,
           closes=True),
    passed("Connection: close in a list", "9112 9.6",
           get(H + b"Connection: a, CLOSE\r\nA: b\r\n"), X, closes=True),
    passed("Connection: close, and a request behind it", "9112 9.6",
           get(H + b"Connection: close\r\n") + get(target=b"/never"), X, closes=True),
    passed("Connection: close and keep-alive", "9112 9.6",
           get(H + b"Connection: keep-alive, close\r\n"), X, closes=True),
    passed("HTTP/1.0", "9112 9.3", get(version=b"1.0"), X, closes=True),
    passed("HTTP/1.0 without Host", "9112 3.2", get(b"", version=b"1.0"),
           seen(b"GET /x", b"Host: UPSTREAM"), closes=True),
    passed("HTTP/1.0 with keep-alive", "9112 C.2.2",
           get(H + b"Connection: keep-alive\r\n", version=b"1.0"), X),
    passed("HTTP/1.0 with a body", "9112 6.3", post(CL5, b"hello", version=b"1.0"),
           _post(body=b"hello"), closes=True),
    passed("HTTP/1.0 and Expect", "9110 10.1.1",
           post(b"Expect: 100-continue\r\n" + CL5, b"hello", version=b"1.0"),
           _post(body=b"hello"), closes=True),
    *(
        passed("method " + m.decode(), "9110 9.1", m + b" /x HTTP/1.1\r\n" + H + b"\r\n",
               seen(m + b" /x", b"Host: h"))
        for m in _methods
    ),
    passed("method of 32 bytes", "9110 9.1", 32 * b"M" + b" /x HTTP/1.1\r\n" + H + b"\r\n",
           seen(32 * b"M" + b" /x", b"Host: h")),
    passed("HEAD", "9110 9.3.2", b"HEAD /x HTTP/1.1\r\n" + H + b"\r\n",
           seen(b"HEAD /x", b"Host: h")),
    passed("OPTIONS *", "9112 3.2.4", b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n",
           seen(b"OPTIONS *", b"Host: h")),
    passed("OPTIONS with a bare authority", "9112 3.2.4",
           b"OPTIONS http://h HTTP/1.1\r\n" + H + b"\r\n", seen(b"OPTIONS *", b"Host: h")),
    passed("absolute-form", "9112 3.2.2", get(target=b"http://h/x?a"),
           seen(b"GET /x?a", b"Host: h")),
    passed("absolute-form, another Host", "9112 3.2.2", get(b"Host: e\r\nA: b\r\n", b"http://h/x"),
           seen(b"GET /x", b"Host: h\r\nA: b")),
    passed("absolute-form, empty Host", "9112 3.2.2", get(b"Host:\r\n", b"http://h:81/x"),
           seen(b"GET /x", b"Host: h:81")),
    passed("absolute-form, no path", "9112 3.2.1", get(target=b"http://h"),
           seen(b"GET /", b"Host: h")),
    passed("absolute-form, only a query", "9112 3.2.1", get(target=b"http://h?a"),
           seen(b"GET /?a", b"Host: h")),
    passed("absolute-form, scheme in capitals", "9110 4.2.3", get(target=b"HTTP://h/x"), X),
    passed("absolute-form, path untouched", "9112 3.2.2", get(target=b"http://h//a/../%2e"),
           seen(b"GET //a/../%2e", b"Host: h")),
    passed("empty Host", "9112 3.2", get(b"Host:\r\n"), seen(b"GET /x", b"Host: ")),
    passed("leading CRLF", "9112 2.2", b"\r\n" + get(), X),
    passed("two leading CRLF", "9112 2.2", b"\r\n\r\n" + get(), X),
    passed("POST without a length", "9112 6.3", post(b""), _post()),
    passed("POST with length 0", "9110 8.6", post(b"Content-Length: 0\r\n"), _post()),
    passed("POST", "9112 6.2", post(CL5, b"hello"), _post(body=b"hello")),
    passed("length with spaces around", "9112 5.1", post(b"Content-Length:\t 5 \r\n", b"hello"),
           _post(body=b"hello")),
    passed("GET with a body", "9110 9.3.1", get(H + CL5) + b"hello",
           seen(b"GET /x", b"Host: h", b"hello")),
    passed("body of every byte", "9112 6.2", post(b"Content-Length: 256\r\n", bytes(range(256))),
           _post(body=bytes(range(256)))),
    passed("body of 200 KiB", "9112 6.2", post(b"Content-Length: 204800\r\n", 204800 * b"a"),
           _post(body=204800 * b"a")),
    passed("body that is said to be gzip", "9110 8.4",
           post(b"Content-Encoding: gzip\r\n" + CL5, b"hello"),
           _post(b"Content-Encoding: gzip", b"hello")),
    *(
        passed("chunked: " + name, "9112 7.1", chunked(raw), _post(body=body))
        for name, raw, body in _chunked
    ),
    passed("CHUNKED", "9112 7", post(b"TRANSFER-ENCODING: \t CHUNKED \r\n", b"1\r\na\r\n0\r\n\r\n"),
           _post(body=b"a")),
    passed("trailers", "9112 7.1.2", chunked(b"1\r\na\r\n0\r\nA: b\r\nc:d \r\n\r\n"),
           _post(body=b"a", trailers=b"A: b\r\nc: d")),
    passed("trailers, announced", "9110 6.6.2",
           post(b"Trailer: A\r\n" + TE, b"1\r\na\r\n0\r\nA: \xe9\r\n\r\n"),
           _post(b"Trailer: A", b"a", b"A: \xe9")),
    passed("Expect", "9110 10.1.1", post(b"Expect: 100-continue\r\n" + CL5, b"hello"),
           _post(body=b"hello")),
    passed("Expect in other case", "9110 10.1.1", post(b"Expect: 100-Continue\r\n" + CL5, b"hello"),
           _post(body=b"hello")),
    passed("Upgrade with a body", "9110 7.8",
           post(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
                + CL5, b"hello"),
           _post(body=b"hello")),
    passed("two requests at once", "9112 9.3.2", get(target=b"/1") + get(target=b"/2"),
           seen(b"GET /1", b"Host: h"), seen(b"GET /2", b"Host: h")),
    passed("ten requests at once", "9112 9.3.2",
           b"".join(get(target=b"/%d" % n) for n in range(10)),
           *(seen(b"GET /%d" % n, b"Host: h") for n in range(10))),
    passed("bodies and requests at once", "9112 9.3.2",
           post(CL5, b"hello") + chunked(b"2\r\nhi\r\n0\r\n\r\n") + get(),
           _post(body=b"hello"), _post(body=b"hi"), X),
    passed("CRLF between two requests", "9112 2.2",
           post(CL5, b"hello") + b"\r\n" + get(), _post(body=b"hello"), X),
]  # fmt: skip
