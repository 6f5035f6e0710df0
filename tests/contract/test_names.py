"""Names that lists in the code hold, written once more: whatever a list loses shows here.

A test that takes its names from the list itself cannot see that one is missing.
"""

from __future__ import annotations

import pytest

from middleware.aggregate.fields import apart, shared
from middleware.auth.config import Key
from middleware.auth.keys import Holder
from middleware.auth.models import ModelNotAllowed, may_use
from middleware.compress.answers import compressible
from middleware.rate_limit.who import account_of
from proxy.assembly import RouteInfo
from proxy.exchange import Request, Response
from proxy.headers import without

KEY = Key(name="mini", key="a-key-of-sixteen-or-more", models=["mini"])


@pytest.mark.parametrize(
    "name",
    ["host", "content-length", "transfer-encoding", "content-type", "authorization", "cookie",
     "content-encoding", "expect", "trailer", "via", "forwarded", "x-forwarded-for"],
)  # fmt: skip
def test_what_connection_cannot_name_away(name: str) -> None:
    """What frames a message, says whose it is or where it came from stays."""
    field = (name.encode(), b"x")
    assert without([field], frozenset({field[0]})) == [field]


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key"])
def test_by_which_fields_rate_limit_tells_keys_apart(name: str) -> None:
    """Two values are two clients, and neither is one that sends none."""
    account = account_of(["api_key"], RouteInfo("r", "default"))
    asked = [[], [(name.encode(), b"one")], [(name.encode(), b"two")]]
    assert len({account(Request(b"GET", b"/", headers)) for headers in asked}) == 3


@pytest.mark.parametrize(
    "name",
    ["x-forwarded-for", "forwarded", "x-real-ip", "x-client-ip", "true-client-ip",
     "cf-connecting-ip", "x-envoy-external-address"],
)  # fmt: skip
def test_addresses_of_clients_are_in_no_shared_call(name: str) -> None:
    """They keep nobody apart, and a call for several has none of them."""
    field = (name.encode(), b"10.0.0.1")
    assert shared([field]) == []
    assert apart(across=False, ignore=())([field]) == ()


@pytest.mark.parametrize(
    "name", ["content-type", "accept", "accept-encoding", "content-length", "user-agent", "date"]
)
def test_fields_that_keep_nobody_apart(name: str) -> None:
    """What the API itself looks at, or what says nothing of what is asked."""
    assert apart(across=False, ignore=())([(name.encode(), b"x")]) == ()


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
async def test_a_key_for_certain_models_may_look(method: bytes) -> None:
    """What only reads passes without a model; a POST does not."""
    await may_use(Request(method, b"/v1/models", []), Holder.of(KEY), 1000)
    with pytest.raises(ModelNotAllowed):
        await may_use(Request(b"POST", b"/v1/models", [], b"{}"), Holder.of(KEY), 1000)


def answer(*headers: tuple[bytes, bytes]) -> Response:
    return Response(200, list(headers), b"x" * 2000)


@pytest.mark.parametrize(
    "name",
    ["content-encoding", "content-range", "content-digest", "repr-digest", "digest", "content-md5"],
)
def test_answers_whose_bytes_stay(name: str) -> None:
    """What is encoded, a part, or has a digest of its bytes is not compressed."""
    kind, request = (b"content-type", b"application/json"), Request(b"GET", b"/", [])
    assert compressible(request, answer(kind), 1024)
    assert not compressible(request, answer(kind, (name.encode(), b"gzip")), 1024)


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/json", "application/x-ndjson", "application/jsonl",
     "application/xml", "application/javascript", "image/svg+xml", "application/problem+json",
     "application/atom+xml"],
)  # fmt: skip
def test_types_that_are_compressed(kind: str) -> None:
    """Text and JSON, and nothing that is packed already."""
    request = Request(b"GET", b"/", [])
    assert compressible(request, answer((b"content-type", kind.encode())), 1024)
    assert not compressible(request, answer((b"content-type", b"image/png")), 1024)
