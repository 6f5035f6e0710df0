"""Bytes of any kind for Hypothesis: requests from a grammar, the same damaged, and plain noise."""

from __future__ import annotations

from hypothesis import strategies as st

_ODD = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b"\t", b" ", b"  ", b"\x0b", b"\x7f",
    b"\x80", b"\xff", b":", b",", b";", b"#", b"%", b"0", b"5", b"chunked",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Host: h\r\n", b" HTTP/1.1", b"\xc2\xa0", b'"', b"\\",
)  # fmt: skip

_methods = st.sampled_from(
    [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT"]
)
_targets = st.sampled_from(
    [
        b"/",
        b"/x",
        b"/a/../b//c",
        b"/%zz?a=b;c",
        b"//h/x",
        b"*",
        b"http://e:80/x?y",
        b"/\xe9",
        b"h:80",
    ]
) | st.binary(max_size=12).map(lambda data: b"/" + data)
_versions = st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0", b"2.0", b"0.9"])
_hosts = st.sampled_from([b"Host: h\r\n", b"Host: h\r\n", b"host:h:80\r\n", b"Host:\r\n", b""])

_names = st.sampled_from(
    [b"A", b"a", b"Accept", b"X-B_c", b"Connection", b"Keep-Alive", b"TE", b"Upgrade", b"Expect",
     b"Content-Type", b"Cookie", b"Trailer", b"!#$%&'*+-.^_`|~"]
)  # fmt: skip
_values = st.sampled_from(
    [b"", b"b", b" b", b"b \t", b"\t b", b"close", b"keep-alive", b"a, close", b"upgrade", b"a",
     b"100-continue", b"\xff\x80", b"b  c"]
) | st.binary(max_size=8)  # fmt: skip
_colons = st.sampled_from([b":", b": ", b": ", b":\t", b" :"])
_fields = st.builds(lambda n, c, v: n + c + v + b"\r\n", _names, _colons, _values)

_sizes = st.integers(0, 40)
_extensions = st.sampled_from(
    [b"", b"", b"", b";a", b';a="b;c"', b" ;a=b", b";", b"; a = b", b";a\x01"]
)


@st.composite
def _bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """(field lines, body bytes)."""
    kind = draw(st.sampled_from(["none", "length", "chunks", "odd"]))
    data = draw(st.binary(max_size=40) | st.just(b"GET /never HTTP/1.1\r\nHost: h\r\n\r\n"))
    if kind == "length":
        return b"Content-Length: %d\r\n" % len(data), data
    if kind == "odd":
        length = draw(
            st.sampled_from([b"+3", b"03", b"3,3", b"0x3", b"", b"3 ", b"99999999999999999999"])
        )
        return b"Content-Length: " + length + b"\r\n", data
    if kind == "none":
        return b"", b""
    body = b""
    while data:
        size = draw(st.integers(1, len(data)))
        body += draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % size
        body += draw(_extensions) + b"\r\n" + data[:size] + b"\r\n"
        data = data[size:]
    trailers = b"".join(draw(st.lists(_fields, max_size=2)))
    coding = draw(
        st.sampled_from([b"chunked", b"chunked", b"Chunked", b"gzip, chunked", b"chunked\t"])
    )
    return b"Transfer-Encoding: " + coding + b"\r\n", body + b"0\r\n" + trailers + b"\r\n"


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request of the grammar, most of them right."""
    framing, body = draw(_bodies())
    lines = [draw(_hosts), framing, *draw(st.lists(_fields, max_size=3))]
    head = draw(_methods) + b" " + draw(_targets) + b" HTTP/" + draw(_versions) + b"\r\n"
    return head + b"".join(draw(st.permutations(lines))) + b"\r\n" + body


_line_ends = st.sampled_from(
    [b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n ", b"\r\n\t", b" \r\n", b"\r\n\r\n", b""]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Some requests in a row, with line ends changed, and bytes put in, taken out or replaced."""
    raw = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            parts = raw.split(b"\r\n")
            at = draw(st.integers(0, len(parts) - 1))
            end = draw(_line_ends)
            raw = b"\r\n".join(parts[: at + 1]) + end + b"\r\n".join(parts[at + 1 :])
        else:
            at = draw(st.integers(0, len(raw)))
            odd = draw(st.sampled_from(_ODD) | st.binary(min_size=1, max_size=3))
            raw = raw[:at] + odd + raw[at + draw(st.integers(0, 2)) :]
    return raw


def anything() -> st.SearchStrategy[bytes]:
    """Any bytes at all, at least one."""
    return st.one_of(
        damaged(),
        damaged(),
        st.binary(min_size=1, max_size=200),
        st.lists(st.sampled_from(_ODD), min_size=1, max_size=20).map(b"".join),
    )
