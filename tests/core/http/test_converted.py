"""The fields of a converted body say nothing false of it."""

from __future__ import annotations

import pytest

from middleware.core.http.converted import converted, varying, weakened


def test_fields_of_the_old_bytes_go() -> None:
    """Length, digests and ranges; the type changes in its place, the others keep theirs."""
    headers = [
        (b"Date", b"today"),
        (b"Content-Length", b"3"),
        (b"Content-Type", b"application/json; charset=utf-8"),
        (b"content-type", b"text/html"),
        (b"Repr-Digest", b"sha-256=:x:"),
        (b"Content-Digest", b"sha-256=:x:"),
        (b"Digest", b"x"),
        (b"Content-MD5", b"x"),
        (b"Accept-Ranges", b"bytes"),
        (b"X-Kept", b"1"),
    ]
    assert converted(headers, b"a/b") == [
        (b"Date", b"today"), (b"Content-Type", b"a/b"), (b"X-Kept", b"1"),
    ]  # fmt: skip


def test_a_type_is_added_where_there_was_none() -> None:
    """A body whose type was not told has one now."""
    assert converted([(b"a", b"b")], b"c/d") == [(b"a", b"b"), (b"content-type", b"c/d")]


@pytest.mark.parametrize(
    ("etag", "expected"), [(b'"x"', b'W/"x"'), (b'W/"x"', b'W/"x"'), (b'""', b'W/""')]
)
def test_an_etag_becomes_weak(etag: bytes, expected: bytes) -> None:
    """A strong one would name the bytes of the other form (RFC 9110 section 8.8.1)."""
    assert (b"ETag", expected) in converted([(b"ETag", etag)], b"a/b")
    assert weakened([(b"ETag", etag), (b"a", b"b")]) == [(b"ETag", expected), (b"a", b"b")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [b"Accept"]),
        ([b"Origin"], [b"Origin", b"Accept"]),
        ([b"Origin, accept"], [b"Origin, accept"]),
        ([b"*"], [b"*"]),
        ([b"Accept-Encoding"], [b"Accept-Encoding", b"Accept"]),
        ([b"a", b"ACCEPT"], [b"a", b"ACCEPT"]),
    ],
)
def test_vary_is_told_once(before: list[bytes], after: list[bytes]) -> None:
    """Whatever the server has said of it already."""
    headers = varying([(b"Vary", value) for value in before], b"Accept")
    assert [value for _, value in headers] == after
