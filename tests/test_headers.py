"""Header rules, without sockets: bytes in, bytes out."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange import Headers, Request
from proxy.headers import (
    NOT_REMOVABLE,
    Kind,
    client_address,
    connection_options,
    forwarder,
    head_block,
    kind_of,
    with_host,
    with_length,
    without,
    without_length,
)

networks = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "fd00::/8", "192.0.2.1")]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"host", Kind.HOST),
        (b"content-length", Kind.CONTENT_LENGTH),
        (b"transfer-encoding", Kind.TRANSFER_ENCODING),
        (b"connection", Kind.CONNECTION),
        (b"upgrade", Kind.UPGRADE),
        (b"expect", Kind.EXPECT),
        (b"keep-alive", Kind.HOP),
        (b"proxy-connection", Kind.HOP),
        (b"te", Kind.HOP),
        (b"user-agent", Kind.END_TO_END),
        (b"authorization", Kind.END_TO_END),
        (b"x-any", Kind.END_TO_END),
        (b"", Kind.END_TO_END),
    ],
)
def test_kind_of(name: bytes, kind: Kind) -> None:
    """A field's kind does not depend on how it is spelled."""
    mixed = bytes(c ^ 0x20 if i % 2 and 97 <= c <= 122 else c for i, c in enumerate(name))
    for spelling in (name, name.upper(), name.title(), mixed):
        assert kind_of(spelling) == int(kind)


@given(st.binary(max_size=30))
def test_kind_of_any_case(name: bytes) -> None:
    """Whatever the bytes, case never changes the kind."""
    assert kind_of(name) == kind_of(name.lower()) == kind_of(name.upper())


def test_connection_options() -> None:
    """Options of all fields, split at commas, without white space and case."""
    values = [b" Close ,X-A,, keep-alive\t", b"TE"]
    assert connection_options(values) == {b"close", b"x-a", b"", b"keep-alive", b"te"}


def test_without() -> None:
    """Named fields go, every duplicate in any case; the order of the others stays."""
    headers = [(b"A", b"1"), (b"b", b"2"), (b"a", b"3"), (b"C", b"4")]
    assert without(headers, frozenset({b"a"})) == [(b"b", b"2"), (b"C", b"4")]


@pytest.mark.parametrize("name", sorted(NOT_REMOVABLE))
def test_not_removable(name: bytes) -> None:
    """What frames a message, says whose it is or where it came from cannot be named away."""
    headers = [(name.title(), b"x"), (b"X-A", b"y")]
    assert without(headers, frozenset({name, b"x-a"})) == headers[:1]


def test_head_block() -> None:
    """The first line, a line for each pair as it came, and a blank line."""
    assert head_block(b"GET / HTTP/1.1", [(b"hOst", b"h"), (b"X", b"\xff")]) == (
        b"GET / HTTP/1.1\r\nhOst: h\r\nX: \xff\r\n\r\n"
    )
    assert head_block(b"0", []) == b"0\r\n\r\n"


def test_lengths() -> None:
    """A length is put in the place of every other, and taken away whatever its case."""
    headers = [(b"content-LENGTH", b"1"), (b"A", b"b"), (b"Content-Length", b"1")]
    assert with_length(headers, 22) == [(b"A", b"b"), (b"Content-Length", b"22")]
    assert without_length(headers) == [(b"A", b"b")]
    assert len(headers) == 3


def test_with_host() -> None:
    """Host changes its value in its place; its name stays as it came."""
    headers = [(b"A", b"b"), (b"hOST", b"old"), (b"C", b"d")]
    assert with_host(headers, b"new:1") == [(b"A", b"b"), (b"hOST", b"new:1"), (b"C", b"d")]
    assert with_host([(b"A", b"b")], b"new:1") == [(b"A", b"b")]


@pytest.mark.parametrize(
    ("peer", "chain", "client"),
    [
        ("203.0.113.9", [b"198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"1.1.1.1", b"198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1, nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [b"\xff\xfe"], "10.0.0.1"),
        ("10.0.0.1", [b""], "10.0.0.1"),
        ("fd00::1", [b"[2001:db8::1]"], "2001:db8::1"),
        ("fd00::1", [b"2001:DB8:0::1"], "2001:db8::1"),
        ("10.0.0.1", [b"1.1.1.1, 198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", [b"198.51.100.1:1, 10.0.0.2:65535"], "198.51.100.1"),
        ("fd00::1", [b"[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", [b"198.51.100.1:, 1"], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1, ::ffff:10.0.0.2"], "198.51.100.1"),
        ("::ffff:10.0.0.1", [b"::ffff:198.51.100.1"], "198.51.100.1"),
        ("", [b"198.51.100.1"], "198.51.100.1"),
        ("192.0.2.1", [b"198.51.100.1"], "198.51.100.1"),
        ("192.0.2.2", [b"198.51.100.1"], "192.0.2.2"),
    ],
)
def test_client_address(peer: str, chain: list[bytes], client: str) -> None:
    """Read from the right: the first address that no trusted proxy vouches past."""
    assert client_address(peer, chain, networks) == client
    assert client_address(peer, chain, []) == peer


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_client_address_of_anything(chain: list[bytes]) -> None:
    """Whatever a header holds, the answer is an address or the peer itself."""
    found = client_address("10.0.0.1", chain, networks)
    assert found == str(ipaddress.ip_address(found))


def applied(
    style: str, trusted: list[str], peer: str, headers: Headers, scheme: str = "http"
) -> list[tuple[bytes, bytes]]:
    """What `forwarder` makes of these headers."""
    request = Request(b"GET", b"/", [(b"Host", b"h"), *headers], client=peer)
    change = forwarder(style, [ipaddress.ip_network(text) for text in trusted], False)
    assert change is not None
    change(request, peer, scheme)
    return [pair for pair in request.headers if pair[0].lower() != b"host"]


def test_nothing_to_do() -> None:
    """Where the file asks for nothing there is no forwarder, and no request pays for one."""
    assert forwarder("off", [], False) is None


def test_forwarded_quotes() -> None:
    """RFC 7239 section 6: an IPv6 address stands in brackets and quotes, no address is unknown."""
    assert applied("forwarded", [], "2001:db8::1", [], "https") == [
        (b"Forwarded", b'for="[2001:db8::1]";host="h";proto=https')
    ]
    assert applied("forwarded", [], "", []) == [(b"Forwarded", b'for=unknown;host="h";proto=http')]


def test_a_strangers_claims_go_in_every_spelling() -> None:
    """Every forwarding field of a peer that is not trusted is dropped, duplicates and all."""
    claims: Headers = [
        (b"x-FORWARDED-for", b"1"), (b"X-Forwarded-For", b"2"), (b"FORWARDED", b"for=3"),
        (b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Host", b"evil"), (b"X-Other", b"kept"),
    ]  # fmt: skip
    assert applied("x-forwarded", ["10.0.0.0/8"], "203.0.113.9", claims) == [
        (b"X-Other", b"kept"), (b"X-Forwarded-For", b"203.0.113.9"),
        (b"X-Forwarded-Proto", b"http"), (b"X-Forwarded-Host", b"h"),
    ]  # fmt: skip


def test_a_trusted_proxys_words_are_joined() -> None:
    """Several fields of a trusted proxy become one list, in their order, ours last."""
    claims: Headers = [(b"X-Forwarded-For", b"1.1.1.1"), (b"x-forwarded-for", b"2.2.2.2")]
    told = dict(applied("x-forwarded", ["10.0.0.0/8"], "10.0.0.1", claims))
    assert told[b"X-Forwarded-For"] == b"1.1.1.1, 2.2.2.2, 10.0.0.1"
