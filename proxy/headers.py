"""Hop-by-hop rules and forwarding headers. Bytes in, bytes out.

RFC 9110 section 7.6.1: what belongs to one connection ends with it; so does what `Connection`
names, except the fields that frame or route a message, which no sender may have removed.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum

from .exchange import Headers, Request

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Kind(IntEnum):
    """What a proxy must know of a field. Everything else is END_TO_END and passes as it is."""

    END_TO_END = 0
    HOP = 1
    HOST = 2
    CONTENT_LENGTH = 3
    TRANSFER_ENCODING = 4
    CONNECTION = 5
    UPGRADE = 6
    EXPECT = 7


_KINDS = {
    b"host": Kind.HOST,
    b"content-length": Kind.CONTENT_LENGTH,
    b"transfer-encoding": Kind.TRANSFER_ENCODING,
    b"connection": Kind.CONNECTION,
    b"upgrade": Kind.UPGRADE,
    b"expect": Kind.EXPECT,
    b"keep-alive": Kind.HOP,
    b"proxy-connection": Kind.HOP,
    b"te": Kind.HOP,
}

# The spellings that clients and servers really use, as plain ints: one look-up each. Any other
# spelling is lowered first. (tests/bench: pass)
_SPELLED: dict[bytes, int] = {}
for _name, _kind in _KINDS.items():
    for _spelling in (_name, _name.title(), _name.upper()):
        _SPELLED[_spelling] = int(_kind)
for _name in (
    b"accept", b"accept-encoding", b"accept-language", b"authorization", b"cache-control",
    b"content-encoding", b"content-type", b"cookie", b"date", b"etag", b"origin", b"referer",
    b"server", b"trailer", b"traceparent", b"user-agent", b"vary", b"x-request-id",
):  # fmt: skip
    for _spelling in (_name, _name.title()):
        _SPELLED[_spelling] = 0


def kind_of(name: bytes) -> int:
    """The Kind of a field name, whatever its case, as an int."""
    kind = _SPELLED.get(name)
    return _KINDS.get(name.lower(), 0) if kind is None else kind


NOT_REMOVABLE = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization",
     b"cookie", b"content-encoding", b"expect", b"trailer", b"via", b"forwarded",
     b"x-forwarded-for")
)  # fmt: skip
"""Named in Connection these stay: removing them would change what a message is or whose it is."""


def connection_options(values: Iterable[bytes]) -> frozenset[bytes]:
    """The options of all Connection fields, lowered (RFC 9110 section 7.6.1)."""
    return frozenset(
        option.strip(b" \t").lower() for value in values for option in value.split(b",")
    )


def without(headers: Headers, names: frozenset[bytes]) -> Headers:
    """`headers` less those that `names` (lower case) lists and that may be removed."""
    return [
        pair for pair in headers if (low := pair[0].lower()) not in names or low in NOT_REMOVABLE
    ]


def head_block(first_line: bytes, headers: Headers) -> bytes:
    """A head in one piece, from raw pairs; a blank line ends it."""
    return b"\r\n".join([first_line, *map(b": ".join, headers), b"\r\n"])


FORBIDDEN_TRAILERS = frozenset(
    (b"transfer-encoding", b"content-length", b"host", b"trailer", b"connection", b"te",
     b"upgrade", b"expect", b"authorization", b"cookie", b"set-cookie", b"content-encoding",
     b"content-type", b"content-range", b"keep-alive", b"proxy-connection")
)  # fmt: skip
"""Fields that frame, route, authenticate or describe: RFC 9110 section 6.5.1 bars them."""


# -- who the client is, and what the upstream is told of it


def client_address(peer: str, forwarded_for: Sequence[bytes], trusted: Sequence[IPNetwork]) -> str:
    """The last address in the X-Forwarded-For chain that no trusted proxy vouches past.

    peer: address at the other end of the socket, "" for a unix socket (trusted if any is).
    """
    if not trusted:
        return peer
    address = peer
    hops = [hop.strip() for value in forwarded_for for hop in value.split(b",")]
    while hops and _is_trusted(address, trusted):
        try:
            address = str(_parsed(hops.pop().decode("latin-1")))
        except ValueError:
            break
    return address


# Some proxies write the client's port, too: 198.51.100.1:4711, [2001:db8::1]:4711.
_NODE = re.compile(r"\[(.+)\](?::[0-9]+)?|([0-9.]+):[0-9]+")


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Raises ValueError. An IPv4 address that is written as IPv6 is that of IPv4."""
    if (node := _NODE.fullmatch(text)) is not None:
        text = node[1] or node[2]
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def _is_trusted(address: str, trusted: Sequence[IPNetwork]) -> bool:
    if not address:
        return True
    try:
        parsed = _parsed(address)
    except ValueError:
        return False
    return any(parsed in network for network in trusted)


Forwarder = Callable[[Request, str, str], None]
"""(request, peer address, scheme): sets request.client and rewrites request.headers in place."""


def forwarder(style: str, trusted: Sequence[IPNetwork], make_trace: bool) -> Forwarder | None:
    """The rewriting that a file asks for, or None where it asks for none.

    style: `off`, `x-forwarded`, or `forwarded` (RFC 7239). What an untrusted peer claims about
    where it comes from is replaced; what a trusted proxy says is appended to.
    """
    steps: list[Forwarder] = []
    if trusted:
        steps.append(_find_client(trusted))
    if style != "off":
        steps.append(_tell_forwarded(style, trusted))
    if make_trace:
        steps.append(_make_trace)
    if not steps:
        return None
    if len(steps) == 1:
        return steps[0]

    def apply(request: Request, peer: str, scheme: str) -> None:
        for step in steps:
            step(request, peer, scheme)

    return apply


def _find_client(trusted: Sequence[IPNetwork]) -> Forwarder:
    def apply(request: Request, peer: str, scheme: str) -> None:
        chain = [value for name, value in request.headers if name.lower() == b"x-forwarded-for"]
        if chain:
            request.client = client_address(peer, chain, trusted)

    return apply


_CLAIMS = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"))


def _tell_forwarded(style: str, trusted: Sequence[IPNetwork]) -> Forwarder:
    def apply(request: Request, peer: str, scheme: str) -> None:
        believed = bool(trusted) and _is_trusted(peer, trusted)
        said: dict[bytes, bytes] = {}
        headers: Headers = []
        for pair in request.headers:
            name = pair[0].lower()
            if name in _CLAIMS:
                if believed:
                    said[name] = said[name] + b", " + pair[1] if name in said else pair[1]
            else:
                headers.append(pair)
        host = request.header(b"host") or b""
        by = peer.encode() or b"unknown"
        if style == "forwarded":
            node = b'"[%b]"' % by if b":" in by else by
            element = b'for=%b;host="%b";proto=%b' % (node, host, scheme.encode())
            before = said.get(b"forwarded")
            headers.append((b"Forwarded", before + b", " + element if before else element))
        else:
            before = said.get(b"x-forwarded-for")
            headers.append((b"X-Forwarded-For", before + b", " + by if before else by))
            proto = said.get(b"x-forwarded-proto", scheme.encode())
            headers.append((b"X-Forwarded-Proto", proto))
            headers.append((b"X-Forwarded-Host", said.get(b"x-forwarded-host", host)))
        request.headers = headers

    return apply


def _make_trace(request: Request, peer: str, scheme: str) -> None:
    # W3C Trace Context level 1: version 00, 16-byte trace id, 8-byte parent id, sampled.
    if request.header(b"traceparent") is None:
        trace, span = os.urandom(16).hex(), os.urandom(8).hex()
        request.headers.append((b"traceparent", f"00-{trace}-{span}-01".encode()))
    if request.header(b"x-request-id") is None:
        request.headers.append((b"x-request-id", os.urandom(16).hex().encode()))


def with_host(headers: Headers, authority: bytes) -> Headers:
    """`headers` with `authority` for their Host, in its place."""
    return [(name, authority) if name.lower() == b"host" else (name, value)
            for name, value in headers]  # fmt: skip


def without_length(headers: Headers) -> Headers:
    """`headers` less any Content-Length."""
    return [pair for pair in headers if len(pair[0]) != 14 or pair[0].lower() != b"content-length"]


def with_length(headers: Headers, size: int) -> Headers:
    """`headers` with a Content-Length of `size` bytes, and no other."""
    return [*without_length(headers), (b"Content-Length", b"%d" % size)]
