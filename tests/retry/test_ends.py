"""What outer and inner layers see of a request that took several attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from proxy.chain import Handler
from proxy.errors import ConnectFailed, UpstreamClosed
from proxy.exchange import Outcome, Request, Response
from tests.contract.layers import Layer, Passed, Probe, named
from tests.retry.conftest import MakeRig
from tests.retry.rig import (
    ANSWER,
    CHAT,
    DONE,
    FAILED,
    STREAM,
    Endpoint,
    event,
    resets,
    status,
    streams,
)
from tests.road.scripted import Peer
from tests.road.wire import SSE_HEAD, Message, chunk, until

AROUND = {"outside": [named(Probe, "outer")], "inside": [named(Probe, "inner")]}


def here(cls: type[Layer]) -> dict[str, Any]:
    """An entry of a chain for a layer of this file."""
    return {f"{__name__}:{cls.__name__}": {}}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    Probe.passed.clear()


def inner() -> list[Passed]:
    return [one for one in Probe.passed if one.name == "inner"]


async def outer() -> Passed:
    return await Probe.of("outer")


async def test_outer_layers_see_the_last_answer_alone(rig: MakeRig) -> None:
    """One request, one end, the outcome of what the client got, the endpoint that gave it."""
    bad, good = Endpoint(status(503)), Endpoint(ANSWER)
    one = await rig(bad, good, **AROUND)
    while not bad.count:
        Probe.passed.clear()
        assert (await one.ask()).status == 200
    seen = await outer()
    (outcome,) = seen.outcomes
    assert (outcome.status, outcome.error, outcome.cancelled) == (200, None, False)
    assert outcome.bytes_sent == len(b'{"data":[]}')
    assert seen.raised is None
    assert seen.request.endpoint == one.upstreams[one.endpoints.index(good)].url
    assert inner()[1].request.endpoint == seen.request.endpoint


async def test_inner_layers_see_each_attempt_end(rig: MakeRig) -> None:
    """Each is told once: of a failed attempt its own outcome, before the next one begins; of the
    last one what the client's exchange came to.
    """
    one = await rig(Endpoint(resets, status(503), ANSWER), **AROUND)
    assert (await one.ask())["x-remora-attempts"] == "3"
    seen = await outer()
    attempts = inner()
    first, second, last = [each.outcomes for each in attempts]
    assert [len(told) for told in (first, second, last)] == [1, 1, 1]
    assert isinstance(first[0].error, UpstreamClosed) and first[0].status == 0
    assert isinstance(attempts[0].raised, UpstreamClosed)
    assert (second[0].status, second[0].error) == (503, None)
    assert second[0].first_byte is not None
    assert last[0] is seen.outcomes[0]
    assert len({id(each.request) for each in attempts}) == 3


class Holds(Layer):
    """Holds something for each request, until its end is told."""

    held: ClassVar[int] = 0
    most: ClassVar[list[int]] = []

    async def handle(self, request: Request, next: Handler) -> Response:
        Holds.held += 1
        self.most.append(Holds.held)
        request.on_end(self.give_back)
        return await next(request)

    @staticmethod
    def give_back(outcome: Outcome) -> None:
        Holds.held -= 1


async def test_the_failed_attempts_end_first(rig: MakeRig) -> None:
    """An inner layer that holds something for an attempt has it back before the next one."""
    Holds.most.clear()
    one = await rig(Endpoint(resets, status(503), ANSWER), inside=[here(Holds)])
    assert (await one.ask()).status == 200
    await until(lambda: not Holds.held)
    assert Holds.most == [1, 1, 1]


async def test_a_failure_ends_every_attempt(rig: MakeRig) -> None:
    """Where all fail, the last one is told with the client's exchange: its status and error."""
    one = await rig(None, None, **AROUND)
    assert (await one.ask()).status == 502
    seen = await outer()
    assert isinstance(seen.raised, ConnectFailed)
    told = [each.outcomes for each in inner()]
    assert [len(each) for each in told] == [1, 1, 1]
    assert all(isinstance(each[0].error, ConnectFailed) for each in told)
    assert [each[0].status for each in told] == [0, 0, 502]


async def test_a_stream_that_failed_over_is_told_once(rig: MakeRig) -> None:
    """The last attempt ends with the stream's last byte, not with its head."""
    bad = Endpoint(streams(FAILED))
    one = await rig(bad, Endpoint(streams(event("a"), DONE)), **AROUND)
    while not bad.count:
        Probe.passed.clear()
        answer = await one.ask(CHAT, STREAM)
    seen = await outer()
    first, last = inner()
    assert [len(each.outcomes) for each in (first, last)] == [1, 1]
    assert first.outcomes[0].status == 200
    assert last.outcomes[0] is seen.outcomes[0]
    assert last.outcomes[0].bytes_sent == len(answer.body)


async def test_a_client_that_leaves_ends_the_attempt_under_way(rig: MakeRig) -> None:
    """In a retry that hangs: cancelled is told to it and to the client's exchange, once."""
    gone = asyncio.Event()

    async def hangs(peer: Peer, message: Message) -> None:
        try:
            await peer.line()
        finally:
            gone.set()

    one = await rig(Endpoint(resets), Endpoint(hangs), **AROUND)
    client = await one.running.connect()
    client.ask("GET", "/")
    await until(lambda: len(inner()) >= 1 and one.endpoints[1].count)
    client.abort()
    seen = await outer()
    await asyncio.wait_for(gone.wait(), 5)
    assert seen.outcomes[0].cancelled
    assert [len(each.outcomes) for each in inner()] == [1] * len(inner())
    assert inner()[-1].outcomes[0].cancelled


async def test_a_client_that_leaves_amid_a_retried_stream(rig: MakeRig) -> None:
    """The winning attempt's connection is closed, its end told as cancelled."""
    gone = asyncio.Event()

    async def goes_on(peer: Peer, message: Message) -> None:
        peer.send(SSE_HEAD + chunk(event("a")))
        try:
            await peer.line()
        finally:
            gone.set()

    one = await rig(Endpoint(resets, streams(FAILED)), Endpoint(goes_on), attempts=3, **AROUND)
    client = await one.running.connect()
    client.ask("POST", CHAT, body=STREAM)
    await client.head()
    assert await client.chunk() == event("a")
    client.abort()
    seen = await outer()
    await asyncio.wait_for(gone.wait(), 5)
    assert seen.outcomes[0].cancelled and seen.outcomes[0].status == 200
    assert [len(each.outcomes) for each in inner()] == [1] * len(inner())
    assert inner()[-1].outcomes[0] is seen.outcomes[0]


class Adds(Layer):
    """Changes the request in place, as an inner layer may."""

    async def handle(self, request: Request, next: Handler) -> Response:
        request.headers.append((b"x-added", b"1"))
        request.target += b"&more"
        assert isinstance(request.body, bytes)
        request.body = request.body + b"!"
        return await next(request)


async def test_what_an_inner_layer_changes_is_changed_once(rig: MakeRig) -> None:
    """Each attempt begins with the request as it came to `retry`."""
    endpoint = Endpoint(resets, status(503), ANSWER)
    one = await rig(endpoint, inside=[here(Adds)])
    assert (await one.ask("/v1/embeddings?a", b"{}")).status == 200
    assert endpoint.count == 3
    for message in endpoint.seen:
        assert message.target == b"/v1/embeddings?a&more"
        assert message.body == b"{}!"
        assert message.names.count("x-added") == 1


class Bug(Layer):
    """Fails the second time."""

    async def handle(self, request: Request, next: Handler) -> Response:
        if request.avoid:
            raise ZeroDivisionError("secret of the layer")
        return await next(request)


async def test_a_bug_of_an_inner_layer_is_no_failure_of_the_upstream(rig: MakeRig) -> None:
    """It passes through: the client gets a 500, nothing is tried again, every end is told."""
    one = await rig(Endpoint(resets), inside=[named(Probe, "inner"), here(Bug)])
    assert (await one.ask()).status == 500
    assert one.total == 1
    assert [len(each.outcomes) for each in inner()] == [1, 1]
