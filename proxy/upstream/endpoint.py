"""Where a model server is: what the file writes, and what its name resolves to."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from .. import config
from ..tls import client_context


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect: host and port, or the path of a unix socket. tls: None for plain.

    asked: the host as the file writes it, where `host` is an address that it resolved to.
    upstream: whose endpoint it is.
    """

    name: str
    host: str = ""
    port: int = 0
    path: str = ""
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    asked: str = ""
    upstream: str = ""

    @property
    def told(self) -> str:
        """What a client may know of it: the upstream's name, and no address."""
        return f"the upstream `{self.upstream}`"

    @property
    def authority(self) -> bytes:
        """What a Host field says of it: the name in the file, never an address it resolved to."""
        if self.path:
            return b"localhost"
        host = bracketed(self.asked or self.host)
        default = 443 if self.tls else 80
        return (host if self.port == default else f"{host}:{self.port}").encode()

    @property
    def resolvable(self) -> bool:
        """Whether its host is a name, which may stand for several addresses."""
        if self.path:
            return False
        try:
            ipaddress.ip_address(self.host.partition("%")[0])
        except ValueError:
            return True
        return False

    def at(self, address: str) -> Endpoint:
        """The same server at one of the addresses that its host resolves to."""
        scheme = "https" if self.tls else "http"
        name = f"{scheme}://{bracketed(address)}:{self.port}"
        return replace(self, name=name, host=address, asked=self.host)


def bracketed(host: str) -> str:
    """As a URL writes it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def endpoints(name: str, upstream: config.Upstream) -> list[Endpoint]:
    """Those of the upstream so named, in the file's order. Raises OSError when a file of `tls`
    cannot be used.
    """
    return [replace(_endpoint(url, upstream.tls), upstream=name) for url in upstream.endpoints]


def _endpoint(url: str, tls: config.UpstreamTLS) -> Endpoint:
    if url.startswith("unix:"):
        return Endpoint(url, path=url.removeprefix("unix:"))
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http":
        return Endpoint(url, host, parts.port or 80)
    return Endpoint(
        url, host, parts.port or 443, tls=client_context(tls), server_name=tls.server_name or host
    )
