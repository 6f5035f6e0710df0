"""What an unsafe request makes stale."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.http.invalidation import invalidates, resolve
from tests.core.http.at import head


@pytest.mark.parametrize(
    "method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"M-SEARCH", b"ANY", b"get"]
)
@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, True), (204, True), (303, True), (304, True), (400, False), (500, False), (101, False)],
)
def test_unsafe(method: bytes, status: int, expected: bool) -> None:
    """RFC 9111 4.4: a method that is not known to be safe invalidates its target, errors do not."""
    assert invalidates(method, status, b"/a?b", [], b"h") == ([b"/a?b"] if expected else [])


@pytest.mark.parametrize(
    "method",
    [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PROPFIND", b"REPORT", b"SEARCH", b"QUERY"],
)
def test_safe(method: bytes) -> None:
    """RFC 9110 9.2.1: a safe method invalidates nothing, whatever it names."""
    assert invalidates(method, 200, b"/a", head("Location: /b"), b"h") == []


TARGETS = [
    # RFC 3986 5.4, from /dir/page?q
    ("/b", b"/b"),
    ("b", b"/dir/b"),
    ("../b", b"/b"),
    ("./", b"/dir/"),
    ("", b"/dir/page?q"),
    ("?x=1", b"/dir/page?x=1"),
    ("#part", b"/dir/page?q"),
    ("/b?c#d", b"/b?c"),
    ("//h/b", b"/b"),
    ("http://h/b", b"/b"),
    ("http://h", b"/"),
    ("HTTP://H:80/b", b"/b"),
    ("http://h:/b", b"/b"),
    ("/\xfc%2F", b"/\xfc%2F"),
    # RFC 9111 4.4: another origin
    ("http://other/b", None),
    ("//other/b", None),
    ("http://h:81/b", None),
    ("https://h/b", None),
    ("ftp://h/b", None),
    ("mailto:a@h", None),
    ("http://h.other/b", None),
    ("http://h@other/b", None),
    ("http://[bad/b", None),
    ("http://h:port/b", None),
    ("http://h:99999/b", None),
]


@pytest.mark.parametrize(("reference", "expected"), TARGETS)
def test_resolve(reference: str, expected: bytes | None) -> None:
    """RFC 3986 5: references are resolved; one that leads elsewhere names nothing here."""
    found = resolve(reference.encode("latin-1"), b"/dir/page?q", b"h", b"http")
    assert found == expected


@pytest.mark.parametrize(
    ("authority", "scheme", "reference", "expected"),
    [
        (b"h:8080", b"http", b"http://h:8080/b", b"/b"),
        (b"h:8080", b"http", b"http://h/b", None),
        (b"h:443", b"https", b"https://h/b", b"/b"),
        (b"[::1]:80", b"http", b"http://[::1]/b", b"/b"),
        (b"", b"http", b"/b", None),
        (b"", b"http", b"http://h/b", None),
    ],
)
def test_origin(authority: bytes, scheme: bytes, reference: bytes, expected: bytes | None) -> None:
    """RFC 9110 4.3.1: origins are the same with their default port written or not."""
    assert resolve(reference, b"/a", authority, scheme) == expected


def test_absolute_target() -> None:
    """A target in absolute-form is a base as well; one that is no path is none."""
    assert resolve(b"b", b"http://h/a/c", b"ignored", b"http") == b"/a/b"
    assert resolve(b"/b", b"*", b"h", b"http") is None


def test_both_fields() -> None:
    """RFC 9111 4.4: Location and Content-Location too, each once, the target first."""
    headers = head(
        "Location: /new", "Content-Location: /about", "Content-Location: /a", "Location: //x/y"
    )
    assert invalidates(b"POST", 201, b"/a", headers, b"h") == [b"/a", b"/new", b"/about"]


@given(st.binary(max_size=40), st.binary(max_size=20), st.binary(max_size=20))
def test_any_bytes(reference: bytes, target: bytes, authority: bytes) -> None:
    """Any bytes anywhere: no error, and the target itself always goes."""
    for location in (reference, b"http://" + reference, b"//" + authority + reference):
        found = invalidates(b"POST", 200, target, [(b"Location", location)], authority)
        assert found[0] == target
        assert len(found) <= 2
