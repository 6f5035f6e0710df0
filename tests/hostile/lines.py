"""Request lines, line ends, versions, methods, and bytes that are another protocol."""

from __future__ import annotations

from .case import Case, refused

HOST = b"Host: h\r\n\r\n"

_line_ends = [
    ("LF everywhere", b"GET /x HTTP/1.1\nHost: h\n\n"),
    ("LF after the request line", b"GET /x HTTP/1.1\nHost: h\r\n\r\n"),
    ("LF after a field", b"GET /x HTTP/1.1\r\nHost: h\n\r\n"),
    ("LF as the empty line", b"GET /x HTTP/1.1\r\nHost: h\r\n\n"),
    ("LF LF hidden in a field", b"GET /x HTTP/1.1\r\nHost: h\r\nA: b\n\nC: d\r\n\r\n"),
    ("CR everywhere", b"GET /x HTTP/1.1\rHost: h\r\r"),
    ("CR CR LF", b"GET /x HTTP/1.1\r\r\nHost: h\r\r\n\r\r\n"),
    ("CR after the request line", b"GET /x HTTP/1.1\rHost: h\r\n\r\n"),
    ("CR before the version", b"GET /x\rHTTP/1.1\r\n" + HOST),
    ("CR in the target", b"GET /x\ry HTTP/1.1\r\n" + HOST),
    ("LF in the target", b"GET /x\ny HTTP/1.1\r\n" + HOST),
    ("CR as the empty line", b"GET /x HTTP/1.1\r\nHost: h\r\n\rX"),
    ("CRLF LF CRLF", b"GET /x HTTP/1.1\r\nHost: h\r\n\n\r\n"),
    ("LF CR", b"GET /x HTTP/1.1\n\rHost: h\n\r\n\r"),
    ("leading LF", b"\nGET /x HTTP/1.1\r\n" + HOST),
    ("leading CR", b"\rGET /x HTTP/1.1\r\n" + HOST),
    ("three leading CRLF", b"\r\n\r\n\r\nGET /x HTTP/1.1\r\n" + HOST),
    ("leading CRLF, then LF", b"\r\n\nGET /x HTTP/1.1\r\n" + HOST),
    ("leading space", b" GET /x HTTP/1.1\r\n" + HOST),
    ("leading tab", b"\tGET /x HTTP/1.1\r\n" + HOST),
    ("leading line of spaces", b"  \r\nGET /x HTTP/1.1\r\n" + HOST),
    ("leading NUL", b"\x00GET /x HTTP/1.1\r\n" + HOST),
    ("leading byte order mark", b"\xef\xbb\xbfGET /x HTTP/1.1\r\n" + HOST),
    ("NEL as a line end", b"GET /x HTTP/1.1\x85Host: h\x85\x85\r\n\r\n"),
]

_parts = [
    ("two spaces before the target", b"GET  /x HTTP/1.1"),
    ("two spaces before the version", b"GET /x  HTTP/1.1"),
    ("tab before the target", b"GET\t/x HTTP/1.1"),
    ("tab before the version", b"GET /x\tHTTP/1.1"),
    ("vertical tab before the version", b"GET /x\x0bHTTP/1.1"),
    ("space after the version", b"GET /x HTTP/1.1 "),
    ("tab after the version", b"GET /x HTTP/1.1\t"),
    ("fourth part", b"GET /x HTTP/1.1 HTTP/1.1"),
    ("second request in the first line", b"GET /x HTTP/1.1 GET /never HTTP/1.1"),
    ("method alone", b"GET"),
    ("method and space", b"GET "),
    ("no target", b"GET HTTP/1.1"),
    ("no target, two spaces", b"GET  HTTP/1.1"),
    ("no method", b"/x HTTP/1.1"),
    ("no method, with its space", b" /x HTTP/1.1"),
    ("field line first", b"Host: h"),
    ("colon first", b": h"),
    ("HTTP/0.9", b"GET /x"),
    ("HTTP/0.9 with its space", b"GET /x "),
]

_versions = [
    ("lower case", b"http/1.1"),
    ("mixed case", b"Http/1.1"),
    ("1.10", b"HTTP/1.10"),
    ("01.1", b"HTTP/01.1"),
    ("11", b"HTTP/11"),
    ("1", b"HTTP/1"),
    ("1.", b"HTTP/1."),
    (".1", b"HTTP/.1"),
    ("comma", b"HTTP/1,1"),
    ("plus", b"HTTP/+1.1"),
    ("minus", b"HTTP/1.-1"),
    ("three numbers", b"HTTP/1.1.1"),
    ("HTTPS", b"HTTPS/1.1"),
    ("XHTTP", b"XHTTP/1.1"),
    ("RTSP", b"RTSP/1.0"),
    ("no slash", b"HTTP1.1"),
    ("backslash", b"HTTP\\1.1"),
    ("letter", b"HTTP/1.x"),
    ("full-width digit", b"HTTP/1.\xef\xbc\x91"),
    ("superscript digit", b"HTTP/1.\xb9"),
    ("NUL after", b"HTTP/1.1\x00"),
]

_methods = [
    ("parentheses", b"G(E)T"),
    ("at sign", b"G@T"),
    ("colon", b"GET:"),
    ("quotes", b'"GET"'),
    ("braces", b"{GET}"),
    ("slash", b"GET/x"),
    ("NUL", b"G\x00ET"),
    ("escape", b"\x1bGET"),
    ("DEL", b"GET\x7f"),
    ("byte over 0x7f", b"G\xc9T"),
    ("33 bytes", 33 * b"M"),
]

CLIENT_HELLO = bytes.fromhex(
    "160301005c010000580303000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
    "0000041301c02b0100002b00000006000400000168000a00040002001d000d0004000204030010000b00090868"
    "7474702f312e31"
)

_others = [
    ("TLS ClientHello", CLIENT_HELLO),
    ("SSLv2 hello", bytes.fromhex("802e0103010015000000100100800200800300800400800500800600")),
    ("HTTP/2 frames without a preface", bytes.fromhex("000000040000000000") * 3),
    ("PROXY protocol 1", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET /x HTTP/1.1\r\n" + HOST),
    ("PROXY protocol 2", b"\r\n\r\n\x00\r\nQUIT\n" + bytes.fromhex("20110000")),
    ("SOCKS 5", b"\x05\x02\x00\x02"),
    ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
    ("Redis inline", b"PING\r\n"),
    ("Redis array", b"*1\r\n$4\r\nPING\r\n"),
    ("SMTP", b"EHLO h\r\n"),
    ("memcached", b"stats\r\n"),
    ("JSON", b'{"method": "GET"}\r\n'),
    ("a status line", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("HTML", b"<html>\r\n"),
    ("NULs", 64 * b"\x00"),
    ("bytes 0xff", 64 * b"\xff" + b"\r\n"),
    ("every byte", bytes(range(256))),
]

LONG = 17 * 1024
_long = [
    refused("target of 17 KiB", "9112 3", b"GET /" + LONG * b"a" + b" HTTP/1.1\r\n" + HOST, 414),
    refused("target of 17 KiB without an end", "9112 3", b"GET /" + LONG * b"a", 400, 414),
    refused("method without an end", "9112 3", LONG * b"A", 400, 414, 501),
    refused(
        "target of 1 MiB", "9112 3", b"GET /" + (1 << 20) * b"a" + b" HTTP/1.1\r\n" + HOST, 414, 431
    ),
    refused("version without an end", "9112 3", b"GET /x HTTP/1.1" + LONG * b"1", 400, 414),
]

CASES: list[Case] = [
    *(refused("line end: " + name, "9112 2.2", raw) for name, raw in _line_ends),
    *(refused("request line: " + name, "9112 3", raw + b"\r\n" + HOST) for name, raw in _parts),
    *(
        refused("version " + name, "9112 2.3", b"GET /x " + raw + b"\r\n" + HOST)
        for name, raw in _versions
    ),
    *(
        refused(f"version {v.decode()}", "9110 15.6.6", b"GET /x HTTP/" + v + b"\r\n" + HOST, 505)
        for v in (b"0.0", b"0.9", b"1.2", b"1.9", b"2.0", b"3.0", b"9.9")
    ),
    *(
        refused("method with " + name, "9110 9.1", raw + b" /x HTTP/1.1\r\n" + HOST, 400, 501)
        for name, raw in _methods
    ),
    refused("HTTP/2 preface", "9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, 505),
    *(refused(name, "9112 2.2", raw, 400, 505) for name, raw in _others),
    *_long,
]
