"""Event streams fail over until their first event, over real sockets."""

from __future__ import annotations

import asyncio

import pytest

from tests.retry.conftest import MakeRig
from tests.retry.rig import (
    CHAT,
    DONE,
    FAILED,
    QUESTION,
    STREAM,
    Endpoint,
    Rig,
    event,
    resets,
    says,
    streams,
)
from tests.road.scripted import Peer
from tests.road.wire import LAST_CHUNK, SSE_HEAD, Gone, Message, chunk, head, ok, until

GOOD = streams(event("a"), event("b"), DONE)
WHOLE = event("a") + event("b") + DONE


async def until_closed(peer: Peer, message: Message) -> None:
    """An event stream whose end is its connection's, with nothing in it."""
    peer.send(head("HTTP/1.1 200 OK", "content-type: Text/Event-Stream", "Connection: close"))
    raise Gone("closed by the endpoint")


async def ask(one: Rig) -> Message:
    return await one.ask(CHAT, STREAM)


@pytest.mark.parametrize(
    "bad",
    [
        streams(end=False),
        streams(b": ping\n\n", end=False),
        streams(b'data: {"choices"', end=False),
        streams(),
        streams(b"event: nothing\n\n"),
        streams(FAILED, DONE),
        streams(b": ping\n\n", FAILED, end=False),
        says(ok(b"", "Content-Type: text/event-stream; charset=utf-8")),
        says(ok(FAILED, "Content-Type: text/event-stream")),
        until_closed,
    ],
    ids=["dies", "comment", "half", "ends", "no data", "error", "error later", "empty", "whole",
         "closes"],
)  # fmt: skip
async def test_a_stream_that_fails_before_its_first_event(rig: MakeRig, bad: object) -> None:
    """The client sees nothing of it: it gets another endpoint's stream, whole."""
    sick = Endpoint(bad)  # type: ignore[arg-type]
    one = await rig(sick, Endpoint(GOOD), on=["stream", "reset"])
    for _ in range(2):
        answer = await ask(one)
        assert (answer.status, answer.body) == (200, WHOLE)
        assert answer["x-remora-attempts"] == ("2" if sick.count else None)
    assert sick.count >= 1


async def test_a_stream_that_dies_after_its_first_event(rig: MakeRig) -> None:
    """It is not tried again: the client has seen a part, and gets an error event."""
    one = await rig(*[Endpoint(streams(event("a"), end=False)) for _ in range(2)])
    answer = await ask(one)
    assert answer.status == 200
    assert answer.body.startswith(event("a") + b'data: {"error":')
    assert b'"code":"upstream_closed"' in answer.body
    assert one.total == 1
    assert not one.numbers("remora_retries_total")


async def test_an_error_event_later_on_is_passed_on(rig: MakeRig) -> None:
    """Only the first event decides."""
    one = await rig(Endpoint(streams(event("a"), FAILED, DONE)))
    assert (await ask(one)).body == event("a") + FAILED + DONE
    assert one.total == 1


async def test_no_stream_begins_well(rig: MakeRig) -> None:
    """Where each one dies before its first event the client gets no 200 but an error."""
    one = await rig(*[Endpoint(streams(end=False)) for _ in range(3)])
    answer = await ask(one)
    assert (answer.status, answer["x-remora-attempts"]) == (502, "3")
    assert b'"code":"upstream_closed"' in answer.body
    assert one.counts == [1, 1, 1]


async def test_every_stream_tells_an_error(rig: MakeRig) -> None:
    """The last one's answer is passed on as its server told it."""
    one = await rig(*[Endpoint(streams(FAILED)) for _ in range(3)])
    answer = await ask(one)
    assert (answer.status, answer.body) == (200, FAILED)
    assert one.total == 3


class Told:
    """Tells a stream event by event, as a test says."""

    def __init__(self) -> None:
        self.peer: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()

    async def __call__(self, peer: Peer, message: Message) -> None:
        peer.send(SSE_HEAD)
        self.peer.set_result(peer)
        try:
            await peer.line()
        except Gone:
            self.gone.set()
            raise

    async def say(self, data: bytes) -> None:
        peer = await self.peer
        peer.send(chunk(data) if data else LAST_CHUNK)
        await peer.flush()


async def test_the_head_leaves_with_the_first_event(rig: MakeRig) -> None:
    """Not before, and not later; each other event leaves as it comes."""
    told = Told()
    one = await rig(Endpoint(told))
    client = await one.running.connect()
    client.ask("POST", CHAT, body=STREAM)
    await told.say(b": waiting\n\n")
    reading = asyncio.ensure_future(client.head())
    done, _ = await asyncio.wait([reading], timeout=0.05)
    assert not done, "the head came before the first event"
    await told.say(event("a")[:-1])
    await told.say(event("a")[-1:])
    assert (await reading).status == 200
    got = b""
    while len(got) < len(b": waiting\n\n" + event("a")):
        got += await client.chunk()
    assert got == b": waiting\n\n" + event("a")
    for text in "bc":
        await told.say(event(text))
        assert await client.chunk() == event(text)
    await told.say(b"")
    assert await client.chunk() == b""


async def test_patience_ends(rig: MakeRig) -> None:
    """A head without an event leaves after `first_event`; the stream is not failed over then."""
    told = Told()
    one = await rig(Endpoint(told), first_event=0.03)
    client = await one.running.connect()
    client.ask("POST", CHAT, body=STREAM)
    assert (await client.head()).status == 200
    await told.say(event("a"))
    assert await client.chunk() == event("a")
    (await told.peer).abort()
    assert b'"error"' in await client.chunk()


async def test_a_beginning_that_is_too_large(rig: MakeRig) -> None:
    """Of comments without an event 64 KiB are looked at; a stream with more passes, whole."""
    comments = [b":" + b"x" * 1000 + b"\n"] * 70
    one = await rig(Endpoint(streams(*comments)))
    answer = await ask(one)
    assert (answer.status, answer.body) == (200, b"".join(comments))
    assert one.total == 1
    one = await rig(Endpoint(streams(*comments[:60])))
    assert (await ask(one)).body == b"".join(comments[:60])
    assert one.total == 3


async def test_a_long_first_event_is_whole(rig: MakeRig) -> None:
    """More than the stream holds back-pressured: nothing is lost and nothing hangs."""
    long = event("y" * 300_000)
    one = await rig(Endpoint(streams(long, event("b"), DONE)))
    assert (await ask(one)).body == long + event("b") + DONE
    assert one.total == 1


@pytest.mark.parametrize(
    ("keys", "target", "body", "method"),
    [
        ({"on": ["connect", 503]}, CHAT, STREAM, "POST"),
        ({}, "/events", None, "GET"),
        ({}, "/unknown", b"{}", "POST"),
    ],
    ids=["not in on", "get", "unknown post"],
)
async def test_heads_that_do_not_wait(
    rig: MakeRig, keys: dict[str, object], target: str, body: bytes | None, method: str
) -> None:
    """Where the file does not want it, and where the stream is no answer of a model that could be
    asked again, a head leaves at once.
    """
    told = Told()
    one = await rig(Endpoint(told), **keys)
    client = await one.running.connect()
    client.ask(method, target, body=body)
    assert (await client.head()).status == 200
    await told.say(event("a"))
    assert await client.chunk() == event("a")


async def test_a_compressed_stream_is_not_looked_into(rig: MakeRig) -> None:
    """It passes as it came."""
    raw = ok(b"\x1f\x8b", "Content-Type: text/event-stream", "Content-Encoding: gzip")
    one = await rig(Endpoint(says(raw)))
    assert (await ask(one)).body == b"\x1f\x8b"
    assert one.total == 1


async def test_a_client_that_leaves_before_the_first_event(rig: MakeRig) -> None:
    """The server's connection is closed, and nobody else is asked."""
    told = Told()
    one = await rig(Endpoint(told, GOOD))
    client = await one.running.connect()
    client.ask("POST", CHAT, body=STREAM)
    await told.peer
    client.abort()
    await asyncio.wait_for(told.gone.wait(), 5)
    await until(lambda: one.numbers("remora_requests_cancelled_total"))
    assert one.total == 1


async def test_the_failed_streams_connection_is_closed(rig: MakeRig) -> None:
    """A stream that is given up while it goes on leaves no connection behind."""
    told = Told()
    one = await rig(Endpoint(told, GOOD), attempts=2)
    client = await one.running.connect()
    client.ask("POST", CHAT, body=STREAM)
    await told.say(FAILED)
    answer = await client.answer()
    assert (answer.body, answer["x-remora-attempts"]) == (WHOLE, "2")
    await asyncio.wait_for(told.gone.wait(), 5)


async def test_an_answer_that_is_no_stream_is_not_held(rig: MakeRig) -> None:
    """JSON that comes in pieces passes as it comes, whatever is in it."""

    async def slowly(peer: Peer, message: Message) -> None:
        peer.send(head("HTTP/1.1 200 OK", "Content-Length: 4", "Content-Type: application/json"))
        await peer.flush()
        release = await released
        peer.send(release)

    released: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    one = await rig(Endpoint(slowly))
    client = await one.running.connect()
    client.ask("POST", CHAT, body=QUESTION)
    assert (await client.head()).status == 200
    released.set_result(b"null")
    assert await client.exactly(4) == b"null"


async def test_the_reset_of_a_json_answer_is_not_retried(rig: MakeRig) -> None:
    """Its head has left: the client sees a connection that breaks off, and one server was asked."""

    async def breaks(peer: Peer, message: Message) -> None:
        peer.send(head("HTTP/1.1 200 OK", "Content-Length: 4") + b"nu")
        await peer.flush()
        await until(lambda: one.numbers("remora_retry_attempts_total"))
        await resets(peer, message)

    one = await rig(*[Endpoint(breaks) for _ in range(2)])
    client = await one.running.connect()
    client.ask("POST", CHAT, body=QUESTION)
    assert (await client.head()).status == 200
    assert await client.ended() in (b"", b"nu")
    assert one.total == 1
