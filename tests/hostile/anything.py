"""Bytes of any kind for Hypothesis: requests from a grammar, the same damaged, and plain noise."""

from __future__ import annotations

from hypothesis import strategies as st

_CONTROLS = bytes([*range(0x20), 0x7F])

_ODD = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b"\t", b" ", b"  ", b"\x0b", b"\x7f", b"\x80",
     b"\xff", b":", b",", b";", b"#", b"%", b"0", b"5", b"chunked", b'"', b"\\", b"\xc2\xa0",
     b" HTTP/1.1", b"\r\nHost: h", b"\r\nContent-Length: 3", b"\r\nTransfer-Encoding: chunked"]
)  # fmt: skip
_LINE_ENDS = st.sampled_from(
    [b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n ", b"\r\n\t", b" \r\n", b"\r\n\r\n", b""]
)

_methods = st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"])
_targets = st.sampled_from(
    [b"/", b"/x", b"/a/../b//c", b"/%zz?a=b;c", b"//h/x", b"http://e:80/x?y", b"/\xe9"]
) | st.binary(max_size=12).map(lambda data: b"/" + data.translate(None, _CONTROLS + b" #"))
_versions = st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.1", b"1.0"])
_hosts = st.sampled_from([b"Host: h\r\n", b"host:h:80\r\n", b"HOST: \t[::1]\r\n", b"Host:\r\n"])

_names = st.sampled_from(
    [b"A", b"a", b"Accept", b"X-B_c", b"Keep-Alive", b"TE", b"Upgrade", b"Content-Type", b"Cookie",
     b"Trailer", b"!#$%&'*+-.^_`|~"]
)  # fmt: skip
_colons = st.sampled_from([b":", b": ", b":\t", b": \t "])
_values = st.sampled_from([b"", b"b", b"b \t", b"a, b", b"\xff\x80", b"b  c", b"b\tc"]) | st.binary(
    max_size=8
).map(lambda data: data.translate(None, _CONTROLS))
_fields = st.builds(lambda n, c, v: n + c + v + b"\r\n", _names, _colons, _values)
_special = st.sampled_from(
    [b"", b"", b"", b"Connection: close\r\n", b"Connection: a, keep-alive\r\n",
     b"Connection: upgrade\r\n", b"Connection: X-B_c,,cookie\r\n", b"Expect: 100-continue\r\n"]
)  # fmt: skip

_data = st.binary(max_size=40) | st.just(b"GET /never HTTP/1.1\r\nHost: h\r\n\r\n")
_sizes = st.sampled_from([b"%x", b"%X", b"0%x"])
_extensions = st.sampled_from([b"", b"", b"", b"", b";a", b';a="b;c"', b" ;a=b", b";a = b", b";"])
_trailers = st.sampled_from([b"", b"", b"a: b\r\n", b"a: b \r\nX: \xe9\r\n"])


@st.composite
def _chunks(draw: st.DrawFn) -> bytes:
    data = draw(_data)
    body = b""
    while data:
        size = draw(st.integers(1, len(data)))
        body += draw(_sizes) % size + draw(_extensions) + b"\r\n" + data[:size] + b"\r\n"
        data = data[size:]
    return body + b"0\r\n" + draw(_trailers) + b"\r\n"


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request, nearly always a right one."""
    kind = draw(st.sampled_from(["none", "length", "chunks"]))
    framing, body, version = b"", b"", draw(_versions)
    if kind == "length":
        body = draw(_data)
        framing = b"Content-Length: %d\r\n" % len(body)
    elif kind == "chunks" and version == b"1.1":
        body = draw(_chunks())
        framing = draw(
            st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"TRANSFER-ENCODING:CHUNKED\r\n"])
        )
    lines = [draw(_hosts), framing, draw(_special), *draw(st.lists(_fields, max_size=3))]
    head = draw(_methods) + b" " + draw(_targets) + b" HTTP/" + version + b"\r\n"
    return head + b"".join(draw(st.permutations(lines))) + b"\r\n" + body


def pipelined() -> st.SearchStrategy[bytes]:
    """One to three requests in a row."""
    return st.lists(requests(), min_size=1, max_size=3).map(b"".join)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """What `whole` gives, with line ends changed, and bytes put in, taken out or replaced."""
    raw = draw(whole)
    for _ in range(draw(st.integers(1, 2))):
        if draw(st.booleans()):
            parts = raw.split(b"\r\n")
            at = draw(st.integers(1, len(parts)))
            raw = b"\r\n".join(parts[:at]) + draw(_LINE_ENDS) + b"\r\n".join(parts[at:])
        else:
            at = draw(st.integers(0, len(raw)))
            odd = draw(_ODD | st.binary(min_size=1, max_size=3))
            raw = raw[:at] + odd + raw[at + draw(st.integers(0, 2)) :]
    return raw


def anything() -> st.SearchStrategy[bytes]:
    """Any bytes at all, at least one."""
    noise = st.binary(min_size=1, max_size=200)
    odds = st.lists(_ODD, min_size=1, max_size=20).map(b"".join)
    return st.one_of(pipelined(), *3 * [damaged(pipelined())], noise | odds)
