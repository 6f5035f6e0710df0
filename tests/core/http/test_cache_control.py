"""The grammar of Cache-Control."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.http.cache_control import MAX_SECONDS, delta_seconds, parse
from proxy.exchange import Headers


def control(*lines: bytes) -> Headers:
    return [(b"Cache-Control", line) for line in lines]


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b"max-age=60", 60),
        (b"MAX-Age=60", 60),
        (b"foo, max-age=60, bar=baz", 60),
        (b'max-age="60"', 60),
        (b"max-age=0060", 60),
        (b"max-age=2147483647", 2**31 - 1),
        (b"max-age=2147483648", MAX_SECONDS),
        (b"max-age=99999999999", MAX_SECONDS),
        (b"max-age=" + b"9" * 6000, MAX_SECONDS),
        (b"max-age=60, max-age=1", 60),
        (b"max-age=1, max-age=60", 1),
        (b'ext="max-age=60", max-age=1', 1),
        (b'max-age=1, ext="max-age=60"', 1),
        (b'ext="a\\", max-age=60, \\"", max-age=1', 1),
        (b"max-age=0", 0),
        (b"max-age", 0),
        (b"max-age=", 0),
        (b"max-age=-60", 0),
        (b"max-age=+60", 0),
        (b"max-age=60.0", 0),
        (b"max-age=60.5", 0),
        (b"max-age=1e3", 0),
        (b"max-age='60'", 0),
        (b"max-age=a60", 0),
        (b"max-age=60a", 0),
        (b"max-age=\xb2", 0),
        (b"max-age =60", 0),
        (b"max-age= 60", 0),
        (b'max-age="60', 0),
        (b'max-age="60"1', 0),
        (b"max-age=60; public", 0),
    ],
)
def test_seconds(line: bytes, seconds: int) -> None:
    """RFC 9111 1.2.2, 4.2.1, 5.2: the first number counts; what is none is 0, hence stale."""
    assert parse(control(line)).seconds(b"max-age") == seconds
    assert b"max-age" in parse(control(line))


@pytest.mark.parametrize(
    "lines",
    [
        [b"no-store"],
        [b"No-StOrE"],
        [b"a, no-store"],
        [b"max-age=9", b"no-store"],
        [b'a="', b"no-store"],
        [b'a="x, no-store'],
        [b"no-store=1"],
        [b"no-store; max-age=9"],
        [b"no-store max-age=9"],
        [b",,no-store,,"],
    ],
)
def test_what_forbids_is_found(lines: list[bytes]) -> None:
    """A directive that forbids is seen on any line, in any case, beside any nonsense."""
    assert b"no-store" in parse(control(*lines))


@pytest.mark.parametrize("line", [b'ext="no-store"', b"no-stores", b"xno-store", b"", b"=no-store"])
def test_what_only_looks_like_one(line: bytes) -> None:
    """Neither a quoted argument nor a longer name is the directive."""
    assert b"no-store" not in parse(control(line))


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        ([b"no-cache"], set()),
        ([b'no-cache="a"'], {b"a"}),
        ([b'no-cache="Set-Cookie, b"'], {b"set-cookie", b"b"}),
        ([b"no-cache=a"], {b"a"}),
        ([b'no-cache="a"', b'no-cache="b"'], {b"a", b"b"}),
        ([b'no-cache="a"', b"no-cache"], set()),
        ([b'no-cache=""'], set()),
        ([b"no-cache="], set()),
        ([b'no-cache="a, ,b"'], set()),
        ([b'no-cache="a b"'], set()),
        ([b'no-cache = "a"'], set()),
    ],
)
def test_fields(lines: list[bytes], fields: set[bytes]) -> None:
    """RFC 9111 5.2.2.4: a proper list limits the directive, anything else leaves it whole."""
    rules = parse(control(*lines))
    assert rules.fields(b"no-cache") == fields
    assert rules.unqualified(b"no-cache") is not bool(fields)


@pytest.mark.parametrize(
    ("line", "argument"),
    [
        (b"a", None),
        (b"a=b", b"b"),
        (b'a="b, c"', b"b, c"),
        (b'a="b\\"\\\\c"', b'b"\\c'),
        (b'a="', b""),
        (b'a="b"c', b""),
        (b"a=(b)", b""),
    ],
)
def test_argument(line: bytes, argument: bytes | None) -> None:
    """RFC 9110 5.6.4: a quoted-string is read as what it quotes; a malformed one as nothing."""
    assert parse(control(line)).argument(b"a") == argument


def test_absent() -> None:
    """Without the field there is no directive, and no number."""
    rules = parse([(b"Cache-Controls", b"no-cache")])
    assert b"no-cache" not in rules
    assert not rules.unqualified(b"no-cache")
    assert rules.argument(b"max-stale") is None
    assert rules.seconds(b"max-age") == 0


def test_other_name() -> None:
    """RFC 9213: a targeted field with the same grammar is read by its name."""
    headers = [(b"CDN-Cache-Control", b"max-age=5"), (b"Cache-Control", b"max-age=9")]
    assert parse(headers, b"cdn-cache-control").seconds(b"max-age") == 5


def test_long_lists() -> None:
    """Sixty thousand directives on one line cost time in proportion, not its square."""
    line = b"a=1," * 60_000 + b"no-store"
    began = process_time()
    assert b"no-store" in parse(control(line))
    assert process_time() - began < 2


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_any_bytes(lines: list[bytes]) -> None:
    """Any bytes: no error, names in lower case, numbers within bounds."""
    rules = parse(control(*lines))
    for name in (b"max-age", b"no-cache", b"private"):
        assert 0 <= rules.seconds(name) <= MAX_SECONDS
        assert all(field == field.lower() for field in rules.fields(name))


@given(st.text('abno-stre=", \\;', max_size=40), st.booleans())
def test_a_line_of_its_own_is_never_hidden(noise: str, before: bool) -> None:
    """Whatever stands on another line, no-store on its own line is found."""
    lines = [noise.encode(), b"no-store"]
    assert b"no-store" in parse(control(*(lines if before else reversed(lines))))


@given(st.integers(0, 10**30))
def test_delta_seconds(number: int) -> None:
    """Every whole number is read, the large ones as the bound."""
    assert delta_seconds(str(number).encode()) == min(number, MAX_SECONDS)
