"""Who is counted: the name of a request's account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from ipaddress import AddressValueError, IPv6Address

from proxy.chain import RouteInfo
from proxy.exchange import Request

Part = Callable[[Request], bytes]

_CREDENTIALS = (b"authorization", b"x-api-key", b"api-key")


def account_of(key: Sequence[str], route: RouteInfo) -> Part:
    """A function that names the account, by the parts of `key`. What a client sent is in the name
    as a digest only: names are short, and give no credential away.
    """
    parts = [_part(name, route) for name in key]
    if len(parts) == 1:
        return parts[0]
    return lambda request: digest(*[part(request) for part in parts])


def digest(*parts: bytes) -> bytes:
    """16 bytes; each part's length counts."""
    hashed = blake2b(digest_size=16)
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big"))
        hashed.update(part)
    return hashed.digest()


def _part(name: str, route: RouteInfo) -> Part:
    if name == "client_ip":
        return client_network
    if name == "api_key":
        return _credential
    if name == "model":
        return lambda request: digest(request.api.model(request).encode(errors="replace"))
    if name == "route":
        here = route.name.encode()
        return lambda request: here
    field = name.removeprefix("header:").encode()
    return lambda request: digest(request.header(field) or b"")


def client_network(request: Request) -> bytes:
    """The client's address; of IPv6 its /64, in which a host chooses freely (RFC 4291 2.5.1)."""
    client = request.client
    if ":" not in client:
        return client.encode()
    try:
        address = IPv6Address(client)
    except AddressValueError:
        return client.encode()
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped).encode()
    return client.encode() if address.is_link_local else address.packed[:8]


def _credential(request: Request) -> bytes:
    if request.identity is not None:
        return b"=" + request.identity.name.encode()
    if request.tenant is not None:
        return b"=" + request.tenant.encode(errors="surrogateescape")
    for name in _CREDENTIALS:
        if value := request.header(name):
            return digest(name, value)
    return b""
