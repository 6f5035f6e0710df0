"""Which coding a client would like best."""

from __future__ import annotations

import pytest

from middleware.core.http.codings import MAX_CODINGS, preferred

OFFERED = (b"zstd", b"br", b"gzip")

CHOICES: list[tuple[tuple[bytes, ...], bytes | None]] = [
    ((), None),
    ((b"",), None),
    ((b"gzip",), b"gzip"),
    ((b"gzip, deflate, br, zstd",), b"zstd"),
    ((b"gzip, br",), b"br"),
    ((b"gzip;q=1.0, br;q=0.8",), b"gzip"),
    ((b"gzip;q=0.5, br;q=0.5",), b"br"),
    ((b"x-gzip",), b"gzip"),
    ((b"GZIP ; Q=0.3",), b"gzip"),
    ((b"*",), b"zstd"),
    ((b"*;q=0.1, zstd;q=0",), b"br"),
    ((b"identity, *;q=0",), None),
    ((b"identity;q=0.5, gzip;q=0.5",), b"gzip"),
    ((b"identity;q=1, gzip;q=0.5",), None),
    ((b"gzip;q=0",), None),
    ((b"gzip;q=2",), None),
    ((b"deflate",), None),
    ((b"deflate", b"br"), b"br"),
]


@pytest.mark.parametrize(("lines", "best"), CHOICES)
def test_the_greatest_weight_wins(lines: tuple[bytes, ...], best: bytes | None) -> None:
    """RFC 9110 section 12.5.3; among equals the first that is offered, which beats `identity`."""
    assert preferred(OFFERED, [(b"Accept-Encoding", line) for line in lines]) == best


def test_what_is_looked_at_is_bounded() -> None:
    """A member beyond MAX_CODINGS is passed over."""
    line = b", ".join([b"a"] * (MAX_CODINGS - 1))
    assert preferred(OFFERED, [(b"accept-encoding", line + b", gzip")]) == b"gzip"
    assert preferred(OFFERED, [(b"accept-encoding", line + b", a, gzip")]) is None
