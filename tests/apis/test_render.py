"""The answer that an error becomes."""

from __future__ import annotations

import math

import pytest

from proxy.apis import by_name, render
from proxy.errors import BodyTooLarge, NoRoute, ProxyError, Unavailable


def test_the_whole_answer() -> None:
    """An error becomes status, reason, type, length, remora's own mark and the dialect's body."""
    response = render(NoRoute("nothing here"), by_name["plain"])
    assert (response.status, response.reason) == (404, b"Not Found")
    assert response.headers == [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"23"),
        (b"x-remora-error", b"no_route"),
    ]
    assert response.body == b"no_route: nothing here\n"


@pytest.mark.parametrize("api", list(by_name))
def test_length_counts_bytes(api: str) -> None:
    """Content-Length is the body's length in bytes, not in characters."""
    response = render(BodyTooLarge("zu groß: 🦈"), by_name[api])
    assert response.header(b"content-length") == b"%d" % len(response.body)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, None), (0, b"0"), (0.01, b"1"), (1.0, b"1"), (2.5, b"3"), (-1, b"0"), (math.inf, None)],
)
def test_retry_after(seconds: float | None, told: bytes | None) -> None:
    """Retry-After is whole seconds, rounded up, never negative, and absent when not known."""
    response = render(Unavailable("full", retry_after=seconds), by_name["openai"])
    assert response.header(b"retry-after") == told


def test_a_status_without_a_name() -> None:
    """A status that HTTP has no phrase for is sent with an empty one."""
    assert render(ProxyError("odd", status=599), by_name["plain"]).reason == b""


def test_a_code_cannot_write_headers() -> None:
    """A plugin's code that holds line ends adds no header line."""
    response = render(ProxyError("x", code="a\r\nset-cookie: b=1"), by_name["plain"])
    assert response.header(b"x-remora-error") == b"a__set-cookie__b_1"
    assert response.header(b"set-cookie") is None


def test_an_errors_own_fields_are_sent() -> None:
    """What a refusal must say in a header, such as www-authenticate, is in the answer."""
    challenge = (b"www-authenticate", b"Bearer")
    error = ProxyError("who are you?", status=401, code="no_key", headers=[challenge])
    assert challenge in render(error, by_name["openai"]).headers
