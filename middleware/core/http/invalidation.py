"""What an unsafe request makes stale (RFC 9111 section 4.4)."""

from __future__ import annotations

from urllib.parse import SplitResult, urljoin, urlsplit

from proxy.exchange import Headers

from .fields import OWS, values

SAFE = frozenset({
    b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PROPFIND", b"REPORT", b"SEARCH", b"QUERY",
})  # fmt: skip
"""Methods that change nothing (RFC 9110 section 9.2.1, and the registry). No other is trusted."""

_PORTS = {"http": 80, "https": 443}


def invalidates(
    method: bytes,
    status: int,
    target: bytes,
    response_headers: Headers,
    authority: bytes,
    scheme: bytes = b"http",
) -> list[bytes]:
    """The targets whose stored answers, each of them, must go now; `target` itself first.

    Empty for a safe method and for an answer that is an error. authority: what the client sent as
    Host. Location and Content-Location count only where they are of the same origin.
    """
    if method in SAFE or not 200 <= status <= 399:
        return []
    found = [target]
    for name in (b"location", b"content-location"):
        for value in values(response_headers, name):
            other = resolve(value, target, authority, scheme)
            if other is not None and other not in found:
                found.append(other)
    return found


def resolve(reference: bytes, target: bytes, authority: bytes, scheme: bytes) -> bytes | None:
    """The target that a URI reference names, path and query; None where its origin is another.

    Relative ones start from `target` (RFC 3986 section 5).
    """
    base = target.decode("latin-1")
    if base.startswith("/") or not base:
        base = f"{scheme.decode('latin-1')}://{authority.decode('latin-1')}{base}"
    try:
        here = urlsplit(base)
        there = urlsplit(urljoin(base, reference.strip(OWS).decode("latin-1")))
        if _origin(here) is None or _origin(there) != _origin(here):
            return None
    except ValueError:
        return None
    path = there.path or "/"
    return f"{path}?{there.query}".encode("latin-1") if there.query else path.encode("latin-1")


def _origin(uri: SplitResult) -> tuple[str, str, int] | None:
    """Raises ValueError where the port is none."""
    if uri.scheme not in _PORTS or not uri.hostname:
        return None
    return uri.scheme, uri.hostname, uri.port or _PORTS[uri.scheme]
