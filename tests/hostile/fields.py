"""Field lines: names, values, folds, and how many there may be."""

from __future__ import annotations

from .case import Case, chunked, get, refused

H = b"Host: h\r\n"

_lines = [
    ("fold with a space", b"A: b\r\n c\r\n"),
    ("fold with a tab", b"A: b\r\n\tc\r\n"),
    ("fold of an empty value", b"A:\r\n b\r\n"),
    ("fold that is only a space", b"A: b\r\n \r\n"),
    ("fold that looks like a field", b"A: b\r\n C: d\r\n"),
    ("space before the colon", b"A : b\r\n"),
    ("tab before the colon", b"A\t: b\r\n"),
    ("no name", b": b\r\n"),
    ("no name, only a space", b" : b\r\n"),
    ("no colon", b"A\r\n"),
    ("no colon, with a value", b"A b\r\n"),
    ("equals for the colon", b"A=b\r\n"),
    ("space inside the name", b"A B: c\r\n"),
    ("tab inside the name", b"A\tB: c\r\n"),
    ("request line as a field", b"GET /never HTTP/1.1\r\n"),
    ("full-width colon", b"A\xef\xbc\x9a b\r\n"),
]

_values = [
    ("NUL", b"a\x00b"),
    ("NUL first", b"\x00ab"),
    ("NUL last", b"ab\x00"),
    ("byte 1", b"a\x01b"),
    ("bell", b"a\x07b"),
    ("backspace", b"a\x08b"),
    ("vertical tab", b"a\x0bb"),
    ("form feed", b"a\x0cb"),
    ("shift out", b"a\x0eb"),
    ("escape", b"a\x1b[2Jb"),
    ("unit separator last", b"ab\x1f"),
    ("DEL", b"a\x7fb"),
    ("bare CR", b"a\rb"),
    ("bare CR first", b"\rab"),
    ("bare CR last", b"ab\r"),
    ("bare LF", b"a\nb"),
    ("bare LF and a field", b"a\nHost: e"),
    ("LF LF and a request", b"a\n\nGET /never HTTP/1.1"),
    ("bare CR and a field", b"a\rHost: e"),
]

_expectations = [
    ("something else", b"Expect: 200-ok\r\n"),
    ("100-continue and more", b"Expect: 100-continue, more\r\n"),
    ("100-continue with a parameter", b"Expect: 100-continue;a=b\r\n"),
    ("100 alone", b"Expect: 100\r\n"),
]

MANY = b"".join(b"A%d: b\r\n" % n for n in range(101))
ENDLESS = b"GET /x HTTP/1.1\r\n" + H + b"A: " + 70 * 1024 * b"b"

CASES: list[Case] = [
    *(refused("field: " + name, "9112 5", get(H + raw)) for name, raw in _lines),
    refused("field: fold before the first field", "9112 2.2", get(b" A: b\r\n" + H)),
    refused("field: tab fold before the first field", "9112 2.2", get(b"\tA: b\r\n" + H)),
    refused("field: first line is only a space", "9112 2.2", get(b" \r\n" + H)),
    refused("field: last line folds", "9112 5.2", get(H + b"A: b\r\n\t\r\n")),
    *(
        refused(f"name with {char.decode('ascii')}", "9110 5.1", get(H + b"A" + char + b"B: c\r\n"))
        for char in (bytes([byte]) for byte in b'()<>@,;\\"/[]?={}')
    ),
    *(
        refused(f"name with byte {byte:#04x}", "9110 5.1", get(H + b"A%cB: c\r\n" % byte))
        for byte in (0x00, 0x01, 0x0B, 0x0D, 0x1B, 0x7F, 0x80, 0xA0, 0xFF)
    ),
    *(
        refused("value with " + name, "9110 5.5", get(H + b"A: " + raw + b"\r\n"))
        for name, raw in _values
    ),
    *(refused("Expect " + name, "9110 10.1.1", get(H + raw), 417) for name, raw in _expectations),
    refused("101 fields and Host", "9112 5", get(H + MANY), 431),
    refused("101 fields, chunked", "9112 5", chunked(b"0\r\n\r\n").replace(H, H + MANY), 431),
    refused("1,010 fields", "9112 5", get(H + 10 * MANY), 431),
    refused("value of 70 KiB", "9112 5", get(H + b"A: " + 70 * 1024 * b"b" + b"\r\n"), 431),
    refused("value without an end", "9112 5", ENDLESS, 431),
    refused("name of 70 KiB", "9112 5", get(H + 70 * 1024 * b"A" + b": b\r\n"), 400, 431),
    refused("fields of 70 KiB", "9112 5",
            get(H + b"".join(b"A%d: %s\r\n" % (n, 1024 * b"b") for n in range(70))), 431),
    refused("value of 2 MiB", "9112 5", get(H + b"A: " + (2 << 20) * b"b" + b"\r\n"), 431),
]  # fmt: skip
