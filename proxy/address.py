"""Where a socket is: addresses to listen on and endpoints to connect to, as a file writes them."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from .units import OFF_SCHEMA, is_off

_HOST = r"(?:\[[0-9A-Fa-f:.%a-z]+\]|[^\s:/@\[\]]*)"
LISTEN_PATTERN = rf"^(?:unix:/.+|{_HOST}:[0-9]{{1,5}})$"
ENDPOINT_PATTERN = r"^(?:unix:/.+|https?://[^/?#@\s]+/?)$"


class Address(NamedTuple):
    """A place to listen on: `path` of a unix socket, else `host` ("" is every one) and `port`."""

    host: str
    port: int
    path: str | None = None

    def overlaps(self, other: Address) -> bool:
        """Whether both cannot be bound at once. Port 0 is a new port each time."""
        if self.path is not None or other.path is not None:
            return self.path == other.path
        if self.port != other.port or self.port == 0:
            return False
        return self._covers(other) or other._covers(self)

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it, by its address or by a file's permissions."""
        try:
            return self.path is not None or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def _covers(self, other: Address) -> bool:
        if self.host in ("", other.host):
            return True
        # asyncio binds `::` for IPv6 alone, so it stands beside 0.0.0.0.
        return self.host in ("0.0.0.0", "::") and _version(self.host) == _version(other.host)


def _version(host: str) -> int:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0


def parse_address(text: str) -> Address:
    """Reads `host:port`, `[::1]:port`, `:port` or `unix:/path`. Raises ValueError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path:
            raise ValueError("a unix socket needs an absolute path: unix:/run/remora.sock")
        return Address("", 0, path)
    match = re.fullmatch(rf"({_HOST}):([0-9]{{1,5}})", text)
    if match is None:
        raise ValueError(
            f"`{text[:80]}` is not an address; write 127.0.0.1:8080, [::1]:8080, :8080 "
            "or unix:/run/remora.sock"
        )
    host, port = match[1], int(match[2])
    if port > 65535:
        raise ValueError(f"port {port} is over 65535")
    if host.startswith("["):
        host = host[1:-1]
        if _version(host) != 6:
            raise ValueError(f"`{host}` is not an IPv6 address")
    return Address(host.lower(), port)


def check_endpoint(text: str) -> str:
    """An endpoint of an upstream, without a final slash. Raises ValueError."""
    if text.startswith("unix:"):
        return f"unix:{parse_address(text).path}"
    try:
        url = urlsplit(text)
        port = url.port
        (url.hostname or "").encode("idna")  # as it will be looked up, and asked for in TLS
    except ValueError:
        raise ValueError(f"the host or the port of `{_shown(text)}` cannot be read") from None
    if url.username is not None or url.password is not None:
        raise ValueError("a user and password do not belong in an endpoint")
    if url.scheme not in ("http", "https") or not url.hostname or re.search(r"[\s\0]", text):
        raise ValueError(
            f"`{_shown(text)}` is not an endpoint; write http://127.0.0.1:8000, "
            "https://host:443 or unix:/run/model.sock"
        )
    if url.path not in ("", "/") or "?" in text or "#" in text:
        raise ValueError(
            f"an endpoint has no path or query; write {url.scheme}://{url.netloc}: "
            "remora keeps the path that the client sent"
        )
    if port == 0 or url.netloc.endswith(":"):
        raise ValueError(f"`{_shown(text)}` has no usable port")
    return text.removesuffix("/")


def _shown(text: str) -> str:
    """The text without what stands before an `@`: it may be a password."""
    return re.sub(r"//[^/]*@", "//", text)[:80]


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _address(text: str) -> str:
    parse_address(text)
    return text


def _admin(value: Any, info: ValidationInfo) -> Any:
    if is_off(value, info):
        return None
    if not isinstance(value, str):
        raise ValueError("an address or `off` is expected; write 127.0.0.1:9901")
    return _address(value)


def _network(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return ipaddress.ip_network(value)
        except ValueError:
            pass
        try:
            meant = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ValueError(f"`{value[:80]}` is not a network; write 10.0.0.0/8") from None
        raise ValueError(f"`{value[:80]}` has host bits; write {meant}")
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    raise ValueError("a network is expected; write 10.0.0.0/8")


ListenAddress = Annotated[
    str,
    AfterValidator(_address),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": LISTEN_PATTERN,
            "examples": ["0.0.0.0:8080", "[::]:8080", ":8080", "unix:/run/remora.sock"],
        }
    ),
]
AdminAddress = Annotated[
    str | None,
    BeforeValidator(_admin),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": LISTEN_PATTERN}, OFF_SCHEMA]},
    ),
]
Endpoint = Annotated[
    str,
    AfterValidator(check_endpoint),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": ENDPOINT_PATTERN,
            "examples": ["http://127.0.0.1:8000", "https://gpu-1:443", "unix:/run/model.sock"],
        }
    ),
]
TrustedNetwork = Annotated[
    Network,
    PlainValidator(_network),
    WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8", "::1"]}),
]
