"""A request that is asked again by another client."""

from __future__ import annotations

from middleware.core.repeat import Asked, Repeat
from proxy.apis import by_name
from proxy.exchange import Request, Response


def test_it_is_asked_again_as_it_was() -> None:
    """Method, target, body, route and API are the repeat's; client, tenant and trace the other's.

    Its body is framed anew, even where the client's own was the same bytes.
    """
    body = b'{"input":"b"}'
    api = by_name["openai"]
    repeat = Repeat(b"POST", b"/b?c=1", [(b"Accept", b"*/*")], body, "chat", api)
    client = Request(
        b"GET", b"/a",
        [(b"ACCEPT", b"x"), (b"Content-Length", b"9"), (b"If-Range", b"x"), (b"Trace", b"1")],
        body, client="10.0.0.7", received_at=1.0,
    )  # fmt: skip
    client.declared = body
    client.chunked = client.http10 = True
    client.tenant = "t"
    client.label = "other"
    twin = repeat.by(client, 9.0)
    assert (twin.method, twin.target, twin.path, twin.body) == (b"POST", b"/b?c=1", b"/b", body)
    assert twin.headers == [(b"Accept", b"*/*"), (b"Trace", b"1")]
    assert (twin.label, twin.api) == ("chat", api)
    assert (twin.client, twin.tenant, twin.received_at) == ("10.0.0.7", "t", 9.0)
    assert twin.declared is None and not twin.chunked and not twin.http10


def test_it_is_taken_as_it_came() -> None:
    """Whatever inner layers make of method, target and headers: the repeat is what the client
    sent.
    """
    request = Request(b"POST", b"/v1/embeddings", [(b"Host", b"a")], b'{"input":"a"}')
    request.label = "chat"
    asked = Asked(request)
    request.target = b"/elsewhere"
    request.headers = [(b"Host", b"b")]
    repeat = asked.repeat(Response(200, []), 1000)
    assert repeat == Repeat(
        b"POST", b"/v1/embeddings", [(b"Host", b"a")], b'{"input":"a"}', "chat", None
    )
    assert asked.repeat(Response(200, []), 12) is None
    assert asked.repeat(Response(304, []), 13) == repeat
