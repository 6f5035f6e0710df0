"""What the layer does with a request, where that needs no sockets."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import ConnectFailed, ProxyError, Unavailable, UpstreamClosed, UpstreamTimeout
from proxy.exchange import Request, Response, Stream
from tests.retry.stage import Call, Stage, ticks


def answers(call: Call) -> None:
    call.head.set_result(Response(200, [], b"{}"))


async def test_what_goes_well_is_not_touched() -> None:
    """The client's own request goes on, the server's own answer comes back, no end is added."""
    stage = Stage()
    stage.play = answers
    request = stage.request()
    response = await stage.layer.handle(request)
    (call,) = stage.calls
    assert call.request is request
    assert response is call.head.result() and response.headers == []
    assert request.ends == 1, "the call's own"


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("open", code="circuit_open", retry_after=1),
        Unavailable("full", code="upstream_pool_full"),
        ProxyError("no", status=503),
        UpstreamTimeout("late"),
    ],
    ids=["circuit", "pool", "any", "timeout"],
)
async def test_what_is_not_worth_a_retry(error: ProxyError) -> None:
    """What remora itself refuses, and a reason that the file does not name: the very error passes
    on, its fields untouched.
    """
    stage = Stage()
    stage.play = lambda call: call.fail(error)
    with pytest.raises(type(error)) as caught:
        await stage.layer.handle(stage.request())
    assert caught.value is error
    assert len(stage.calls) == 1 and error.headers == ()
    assert not stage.tally.retries


async def test_a_refusal_behind_a_failure_is_final() -> None:
    """The second attempt meets an open circuit: that is what the client is told."""
    stage = Stage()
    errors = iter([UpstreamClosed("gone"), Unavailable("open", code="circuit_open")])
    stage.play = lambda call: call.fail(next(errors))
    with pytest.raises(Unavailable) as caught:
        await stage.layer.handle(stage.request())
    assert dict(caught.value.headers) == {b"x-remora-attempts": b"2"}


async def test_another_endpoint_first() -> None:
    """Each attempt avoids all that failed before, and what was avoided already."""
    stage = Stage(attempts=4)
    stage.play = lambda call: call.fail(ConnectFailed("refused"))
    request = stage.request()
    request.avoid = frozenset({"http://old"})
    with pytest.raises(ConnectFailed):
        await stage.layer.handle(request)
    avoided = [call.request.avoid for call in stage.calls]
    assert avoided == [
        {"http://old"},
        {"http://old", "http://e0"},
        {"http://old", "http://e0", "http://e1"},
        {"http://old", "http://e0", "http://e1", "http://e2"},
    ]
    assert request.endpoint == "http://e3"


async def test_a_retry_is_the_clients_request() -> None:
    """Tenant, identity, address, label and framing are the client's."""
    stage = Stage()
    seen = []

    def moves(call: Call) -> None:
        seen.append(call.request.path)
        call.request.target = call.request.path = b"/moved"
        call.fail(UpstreamClosed("gone"))

    stage.play = moves
    request = stage.request()
    request.tenant, request.label, request.client = "t", "r", "192.0.2.1"
    request.chunked = request.http10 = True
    request.declared = request.body
    with pytest.raises(UpstreamClosed):
        await stage.layer.handle(request)
    assert seen == [b"/v1/embeddings"] * 3
    for call in stage.calls[1:]:
        again = call.request
        assert again is not request
        for name in ("tenant", "label", "client", "chunked", "http10", "body", "declared",
                     "target", "headers", "interim", "identity"):  # fmt: skip
            assert getattr(again, name) == getattr(request, name), name
        assert again.declared is request.declared


async def test_a_body_that_a_layer_has_put_there_streams() -> None:
    """The length that the client declared is not that of another body: it is not read."""
    stage = Stage(max_body=10)
    stage.play = answers
    body = Stream()
    body.feed(b"x" * 11)
    body.end()
    request = Request(b"POST", b"/v1/embeddings", [(b"content-length", b"5")], body)
    assert (await stage.layer.handle(request)).status == 200
    assert stage.calls[0].request.body is body


async def test_an_endpoint_that_a_body_was_read_for_is_not_asked_twice() -> None:
    """A body that an inner layer has read in vain is gone: no half of it is sent."""
    stage = Stage(max_body=10)

    def takes(call: Call) -> None:
        assert isinstance(call.request.body, Stream)
        call.request.body.pipe(Nowhere())
        call.fail(ConnectFailed("refused"))

    stage.play = takes
    request = Request(b"POST", b"/x", [(b"content-length", b"50")], Stream())
    request.declared = request.body
    with pytest.raises(ConnectFailed):
        await stage.layer.handle(request)
    assert len(stage.calls) == 1


class Nowhere:
    """A sink that keeps nothing."""

    def write(self, chunk: bytes) -> None:
        pass

    def end(self, trailers: object) -> None:
        pass

    def fail(self, error: Exception) -> None:
        pass


async def test_a_client_that_leaves_in_the_first_attempt() -> None:
    """Nothing is told but to the client's own exchange, at its end."""
    stage = Stage()
    asking = asyncio.ensure_future(stage.layer.handle(stage.request()))
    await ticks()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    (call,) = stage.calls
    assert call.cancelled and not call.ends
    call.request.finish()
    assert len(call.ends) == 1


async def test_each_request_earns_its_share() -> None:
    """Requests that go well pay for the retries of those that fail."""
    stage = Stage(budget={"ratio": 0.5, "floor": 0, "window": 10})
    stage.play = answers
    for _ in range(5):
        await stage.layer.handle(stage.request())
    stage.play = lambda call: call.fail(UpstreamClosed("gone"))
    for _ in range(3):
        with pytest.raises(UpstreamClosed):
            await stage.layer.handle(stage.request())
    assert len(stage.calls) == 5 + 3 + 4
    stage.now += 30
    with pytest.raises(UpstreamClosed):
        await stage.layer.handle(stage.request())
    assert len(stage.calls) == 13
