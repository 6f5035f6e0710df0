"""What may be stored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.http.storing import UNDERSTOOD, forbidden, storable, storable_headers
from tests.core.http.at import head

MAX_AGE = "Cache-Control: max-age=3600"
MODIFIED = "Last-Modified: @-9000"
STATUSES = [
    200,
    203,
    204,
    299,
    301,
    302,
    303,
    307,
    308,
    400,
    404,
    410,
    499,
    500,
    502,
    503,
    504,
    599,
]

RESPONSES = [
    # RFC 9111 3: freshness, or a validator on a status that may be guessed at
    ([MAX_AGE], True),
    (["Cache-Control: s-maxage=9"], True),
    (["Expires: @60", "Date: @0"], True),
    (["Expires: @-60", "Date: @0"], True),
    ([MODIFIED], True),
    (['ETag: "x"'], True),
    (['ETag: "x"', "Cache-Control: no-cache"], True),
    ([], False),
    (["Cache-Control: public"], False),
    # 5.2.2.5
    (["Cache-Control: no-store"], False),
    (["Cache-Control: No-StOrE"], False),
    (["Cache-Control: max-age=9, no-store", "Expires: @60", "Date: @0"], False),
    (["Cache-Control: max-age=9", "Cache-Control: no-store"], False),
    # 5.2.2.7
    (["Cache-Control: private, max-age=9"], False),
    (["Cache-Control: private=\"x\", max-age=9"], True),
    (["Cache-Control: private=\"x y\", max-age=9"], False),
    # 5.2.2.4
    (["Cache-Control: no-cache, max-age=9"], True),
    (["Cache-Control: no-cache=\"content-type\", max-age=9"], False),
    (["Cache-Control: private=\"Vary\", max-age=9"], False),
    # 5.2.2.3
    (["Cache-Control: max-age=9, no-store, must-understand"], True),
    # 4.1
    ([MAX_AGE, "Vary: *"], False),
    ([MAX_AGE, "Vary: , *"], False),
    ([MAX_AGE, "Vary: ", "Vary: *"], False),
    ([MAX_AGE, "Vary: *, Foo"], False),
    ([MAX_AGE, "Vary: Foo, *"], False),
    ([MAX_AGE, "Vary: Foo"], True),
    # what others refuse and the RFC allows
    ([MAX_AGE, "Set-Cookie: a=b"], True),
    ([MAX_AGE, "Pragma: no-cache"], True),
    ([MAX_AGE, "Content-Disposition: attachment"], True),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), RESPONSES)
def test_response(lines: list[str], expected: bool) -> None:
    """RFC 9111 3: a 200 to GET is stored as its fields say."""
    assert storable(b"GET", [], 200, head(*lines)) is expected


@pytest.mark.parametrize("status", STATUSES)
def test_explicit_freshness_on_any_final_status(status: int) -> None:
    """RFC 9111 3: with a lifetime of its own every final status is stored, known or not."""
    assert storable(b"GET", [], status, head(MAX_AGE))


@pytest.mark.parametrize("status", [0, 100, 101, 103, 199, 206, 304, 600, 999])
def test_never(status: int) -> None:
    """RFC 9111 3, 3.3: interim answers, parts, 304 and no statuses at all are not stored."""
    assert not storable(b"GET", [], status, head(MAX_AGE))
    assert forbidden([], status, [])


@pytest.mark.parametrize(
    ("status", "expected"), [(200, True), (404, True), (201, False), (403, False), (599, False)]
)
def test_validator_alone(status: int, expected: bool) -> None:
    """RFC 9110 15.1: without freshness only the statuses named, or `public`, are of use."""
    assert storable(b"GET", [], status, head(MODIFIED)) is expected
    assert storable(b"GET", [], status, head(MODIFIED, "Cache-Control: public"))


@pytest.mark.parametrize("status", [299, 418, 451, 499, 506, 599])
def test_must_understand(status: int) -> None:
    """RFC 9111 5.2.2.3: a status that is not understood is not stored, whatever else is said."""
    assert status not in UNDERSTOOD
    assert not storable(b"GET", [], status, head("Cache-Control: max-age=9, must-understand"))


@pytest.mark.parametrize("method", [b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"get"])
def test_other_methods(method: bytes) -> None:
    """Only GET is stored by these rules; a layer that knows better asks what forbids."""
    assert not storable(method, [], 200, head(MAX_AGE))
    assert not forbidden([], 200, head(MAX_AGE))


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ("max-age=9", False),
        ("max-age=9, public", True),
        ("max-age=9, must-revalidate", True),
        ("s-maxage=9", True),
        ("max-age=9, proxy-revalidate", False),
        ("max-age=9, private, public", False),
    ],
)
def test_authorization(control: str, expected: bool) -> None:
    """RFC 9111 3.5: an answer to credentials is shared only where the origin says so."""
    request = head("Authorization: x")
    response = head(f"Cache-Control: {control}")
    assert storable(b"GET", request, 200, response) is expected


def test_one_client() -> None:
    """A cache of one client stores what is private, and what its credentials got."""
    response = head("Cache-Control: private, max-age=9")
    assert storable(b"GET", head("Authorization: x"), 200, response, shared=False)


def test_request_no_store() -> None:
    """RFC 9111 5.2.1.5: what the client wants kept out stays out."""
    assert not storable(b"GET", head("Cache-Control: no-store"), 200, head(MAX_AGE))
    assert storable(b"GET", head("Cache-Control: other"), 200, head(MAX_AGE))


def test_fields_of_the_connection() -> None:
    """RFC 9111 3.1: no field of the connection, none that it names, no proxy's credentials."""
    stored = storable_headers(
        head(
            "Connection: a, B", "a: 1", "B: 2", "c: 3", "Keep-Alive: x", "TE: x", "Upgrade: x",
            "Transfer-Encoding: x", "Proxy-Connection: x", "Proxy-Authenticate: x",
            "Proxy-Authentication-Info: x", "Proxy-Authorization: x", "Age: 5",
        )
    )  # fmt: skip
    assert stored == head("c: 3")


def test_everything_else_is_stored() -> None:
    """RFC 9111 3.1: every other field is kept as it came, lines and their order included."""
    headers = head(
        "Content-Encoding: x", "Content-Length: 10", "Content-Range: y", "ETag: \"z\"",
        "Set-Cookie: a=b", "Set-Cookie: c=d", "Expires: @0", "Date: @0", "X-Any: \xfc",
        "Content-Security-Policy: default-src 'self'", "Cache-Control: max-age=1",
    )  # fmt: skip
    assert storable_headers(headers) == headers


def test_named_fields() -> None:
    """RFC 9111 5.2.2.4, 5.2.2.7: what `no-cache` and `private` name is left out."""
    headers = head('Cache-Control: no-cache="A", private="b, c"', "a: 1", "B: 2", "c: 3", "d: 4")
    assert [name for name, _ in storable_headers(headers)] == [b"Cache-Control", b"d"]
    assert [name for name, _ in storable_headers(headers, shared=False)] == [
        b"Cache-Control", b"B", b"c", b"d",
    ]  # fmt: skip


@given(
    st.integers(-5, 1200),
    st.lists(
        st.tuples(
            st.sampled_from([b"cache-control", b"Vary", b"connection", b"etag", b"x"]),
            st.binary(max_size=30),
        )
    ),
)
def test_any_bytes(status: int, headers: list[tuple[bytes, bytes]]) -> None:
    """Any bytes: no error; what is stored is some of what came, and never what is forbidden."""
    stored = storable_headers(headers)
    assert all(pair in headers for pair in stored)
    if forbidden(headers, status, headers):
        assert not storable(b"GET", headers, status, headers)
