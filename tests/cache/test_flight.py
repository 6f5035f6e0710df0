"""Requests for the same thing at the same time share one upstream call."""

from __future__ import annotations

import asyncio

import pytest

from tests.cache.conftest import MakeRig
from tests.cache.rig import Rig, numbered, status, written
from tests.road.scripted import Peer
from tests.road.wire import (
    CHUNKED_HEAD,
    LAST_CHUNK,
    SSE_HEAD,
    Client,
    Gone,
    Message,
    chunk,
    ok,
    soon,
    until,
)  # fmt: skip

CHAT = "/v1/chat/completions"
STREAM = written({"model": "m", "temperature": 0, "stream": True, "messages": []})
WORDS = [b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % n for n in range(4)]
DONE = b"data: [DONE]\n\n"


class Told:
    """A stream that a test tells chunk by chunk."""

    def __init__(self, head: bytes = SSE_HEAD) -> None:
        self.head = head
        self.peer: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()

    async def __call__(self, peer: Peer, _: Message) -> None:
        self.peer.set_result(peer)
        peer.send(self.head)
        try:
            await peer.line()
        except Gone:
            self.gone.set()
            raise

    async def say(self, *chunks: bytes) -> None:
        peer = await soon(self.peer)
        for one in chunks:
            peer.send(chunk(one))
        await peer.flush()

    async def end(self) -> None:
        (await soon(self.peer)).send(LAST_CHUNK)


async def streaming(rig: Rig) -> Client:
    client = await rig.client()
    client.ask("POST", CHAT, body=STREAM)
    return client


async def test_a_follower_is_not_told_the_leaders_id(rig: MakeRig) -> None:
    """What names the leader's request, or says what its client may still ask, is the leader's."""
    told = Told(SSE_HEAD.replace(b"\r\n\r\n", b"\r\nX-Request-Id: 1\r\nRateLimit: x\r\n\r\n"))
    one = await rig(told)
    leader = await streaming(one)
    assert (await leader.head())["x-request-id"] == "1"
    follower = await streaming(one)
    head = await follower.head()
    assert "collapsed" in status(head)
    assert not {"x-request-id", "ratelimit"} & set(head.names)
    await told.say(DONE)
    await told.end()


async def test_followers_get_what_has_come_and_then_each_event_live(rig: MakeRig) -> None:
    """One that joins in the middle has the beginning at once, and the rest as it comes."""
    told = Told()
    one = await rig(told)
    first = await streaming(one)
    await first.head()
    await told.say(WORDS[0])
    assert await first.chunk() == WORDS[0]
    second = await streaming(one)
    assert "collapsed" in status(await second.head())
    assert await second.exactly(len(chunk(WORDS[0]))) == chunk(WORDS[0])
    await told.say(WORDS[1])
    for client in (first, second):
        assert await client.chunk() == WORDS[1]
    await told.say(DONE)
    await told.end()
    for client in (first, second):
        assert await client.chunks() == DONE
    assert one.origin.count == 1
    third = await streaming(one)
    answer = await third.answer()
    assert answer.body == WORDS[0] + WORDS[1] + DONE
    assert one.origin.count == 1


async def test_the_first_one_that_leaves_hands_over(rig: MakeRig) -> None:
    """The call goes on for those who stay, and its answer is stored."""
    told = Told()
    one = await rig(told)
    first = await streaming(one)
    await first.head()
    second = await streaming(one)
    await second.head()
    await told.say(WORDS[0])
    await first.chunk()
    first.abort()
    await told.say(WORDS[1], DONE)
    await told.end()
    assert await second.chunks() == WORDS[0] + WORDS[1] + DONE
    assert not told.gone.is_set()
    await (await streaming(one)).answer()
    assert one.origin.count == 1


async def test_the_first_one_may_leave_before_the_head(rig: MakeRig) -> None:
    """Nothing has come yet, and still the others lose nothing."""
    release = asyncio.Event()

    async def slow(peer: Peer, _: Message) -> None:
        await release.wait()
        peer.send(numbered(1))

    one = await rig(slow)
    clients = [await one.client() for _ in range(3)]
    for client in clients:
        client.ask("POST", "/v1/embeddings", body=written())
    await until(lambda: one.origin.count == 1)
    (flight,) = one.cache.flights.values()
    await until(lambda: len(flight._waiting) == 3)
    clients[0].abort()
    await until(lambda: len(flight._waiting) == 2)
    release.set()
    for client in clients[1:]:
        assert (await client.answer()).body == b'{"answer":1}'
    assert one.origin.count == 1


@pytest.mark.parametrize("before_the_head", [True, False])
async def test_the_last_one_that_leaves_cancels_the_call(
    rig: MakeRig, before_the_head: bool
) -> None:
    """When nobody waits any more, the upstream is let go; who asks then starts anew."""
    told = Told(b"" if before_the_head else SSE_HEAD)
    one = await rig(told, numbered(2))
    clients = [await streaming(one) for _ in range(3)]
    if before_the_head:
        await until(lambda: one.cache.flights)
        (flight,) = one.cache.flights.values()
        await until(lambda: len(flight._waiting) == 3)
    else:
        for client in clients:
            await client.head()
    clients[0].abort()
    clients[2].abort()
    with pytest.raises(TimeoutError):
        await soon(told.gone.wait(), 0.1)
    clients[1].abort()
    await soon(told.gone.wait())
    await until(lambda: not one.cache.flights)
    assert (await (await streaming(one)).answer()).body == b'{"answer":2}'
    assert one.origin.count == 2


async def test_a_slow_follower_delays_nobody(rig: MakeRig) -> None:
    """One that reads nothing does not keep the others from any byte; it is cut off in the end."""
    told = Told(CHUNKED_HEAD)
    one = await rig(told, max_entry_bytes=100_000)
    quick = await one.client()
    quick.ask("POST", "/v1/embeddings", body=written())
    await quick.head()
    (flight,) = one.cache.flights.values()
    slow = await one.running.connect(stalled=True)
    slow.ask("POST", "/v1/embeddings", body=written())
    await until(lambda: flight.recording.readers == 2)
    piece = bytes(50_000)
    sent = 0
    while sent < 400:
        sent += 1
        await told.say(piece)
        got = 0
        while got < len(piece):
            got += len(await quick.chunk())
        assert flight.recording.held <= 100_000 + 2 * len(piece)
        if flight.recording.readers == 1:
            break
    assert flight.recording.readers == 1, "the slow one is still held for"
    assert sent > 2
    await told.end()
    assert await quick.chunk() == b""
    slow.go_on()
    await slow.ended()
    assert one.origin.count == 1


async def test_a_slow_client_alone_slows_the_upstream(rig: MakeRig) -> None:
    """Back-pressure reaches the upstream where nobody else waits; nothing is lost."""
    size = 8_000_000

    async def large(peer: Peer, _: Message) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 100_000):
            peer.send(b"x" * 100_000)
            await peer.flush()

    one = await rig(large, max_entry_bytes=100_000)
    slow = await one.running.connect(stalled=True)
    slow.ask("POST", "/v1/embeddings", body=written())
    await until(lambda: one.cache.flights)
    (flight,) = one.cache.flights.values()
    await until(lambda: flight.recording.held > 100_000)
    largest = 0
    slow.go_on()
    await slow.head()
    left = size
    while left:
        left -= len(await slow.exactly(min(left, 50_000)))
        largest = max(largest, flight.recording.held)
    assert largest < 1_000_000


async def test_all_followers_of_a_failed_leader_get_the_error(rig: MakeRig) -> None:
    """An upstream that dies before its head fails each of them, in their dialect; none hangs."""
    release = asyncio.Event()

    async def dies(peer: Peer, _: Message) -> None:
        await release.wait()
        peer.abort()

    one = await rig(dies, numbered(2))
    clients = [await one.client() for _ in range(5)]
    for client in clients:
        client.ask("POST", "/v1/embeddings", body=written())
    await until(lambda: one.cache.flights)
    (flight,) = one.cache.flights.values()
    await until(lambda: len(flight._waiting) == 5)
    release.set()
    for client in clients:
        answer = await client.answer()
        assert answer.status == 502
        assert b'"upstream_closed"' in answer.body
    assert one.origin.count == 1
    assert not one.cache.flights
    assert (await one.ask()).body == b'{"answer":2}'


async def test_all_followers_of_a_broken_stream_are_told(rig: MakeRig) -> None:
    """After the head each gets what came, and then an error event; nothing is stored."""
    told = Told()
    one = await rig(told, ok(b"{}"))
    clients = [await streaming(one) for _ in range(3)]
    await told.say(WORDS[0])
    for client in clients:
        await client.head()
        assert await client.chunk() == WORDS[0]
    (await soon(told.peer)).abort()
    for client in clients:
        assert b'"error"' in await client.chunks()
    assert (await (await streaming(one)).answer()).body == b"{}"


async def test_an_answer_that_is_refused_is_shared_too(rig: MakeRig) -> None:
    """A 429 goes to all who asked at once: one call was made, and one was refused."""
    release = asyncio.Event()

    async def refuses(peer: Peer, _: Message) -> None:
        await release.wait()
        peer.send(ok(b"{}", "Retry-After: 1", status="429 Too Many Requests"))

    one = await rig(refuses)
    clients = [await one.client() for _ in range(3)]
    for client in clients:
        client.ask("POST", "/v1/embeddings", body=written())
    await until(lambda: one.cache.flights)
    (flight,) = one.cache.flights.values()
    await until(lambda: len(flight._waiting) == 3)
    release.set()
    for client in clients:
        assert (await client.answer()).status == 429
    assert one.origin.count == 1


async def test_nothing_is_shared_where_the_file_says_so(rig: MakeRig) -> None:
    """Under `coalesce: off` each asks for itself."""
    release = asyncio.Event()

    async def slow(peer: Peer, _: Message) -> None:
        await release.wait()
        peer.send(numbered(1))

    one = await rig(slow, coalesce="off")
    clients = [await one.client() for _ in range(3)]
    for client in clients:
        client.ask("POST", "/v1/embeddings", body=written())
    await until(lambda: one.origin.count == 3)
    release.set()
    for client in clients:
        await client.answer()


async def test_followers_that_read_another_coding_do_not_get_this_one(rig: MakeRig) -> None:
    """A client that cannot read gzip never gets it out of another's call."""
    release = asyncio.Event()

    async def packs(peer: Peer, message: Message) -> None:
        await release.wait()
        if message["accept-encoding"]:
            peer.send(ok(b"packed", "Content-Encoding: gzip", "Vary: Accept-Encoding"))
        else:
            peer.send(ok(b"plain"))

    one = await rig(packs)
    packed, plain = await one.client(), await one.client()
    packed.ask("POST", "/v1/embeddings", "Accept-Encoding: gzip", body=written())
    await until(lambda: one.origin.count == 1)
    plain.ask("POST", "/v1/embeddings", body=written())
    release.set()
    assert (await packed.answer()).body == b"packed"
    assert (await plain.answer()).body == b"plain"


async def test_a_cookie_set_for_one_is_not_set_for_others(rig: MakeRig) -> None:
    """Under `share: public` an answer that sets a cookie goes to the one it was made for."""
    release = asyncio.Event()
    made = 0

    async def greets(peer: Peer, _: Message) -> None:
        nonlocal made
        made += 1
        mine = made
        await release.wait()
        peer.send(ok(b"{}", f"Set-Cookie: session={mine}"))

    one = await rig(greets, share="public")
    clients = [await one.client() for _ in range(3)]
    for client in clients:
        client.ask("POST", "/v1/embeddings", body=written())
    await until(lambda: one.origin.count >= 1)
    release.set()
    cookies = {(await client.answer())["set-cookie"] for client in clients}
    assert len(cookies) == 3


async def test_a_refused_credential_is_one_clients_own(rig: MakeRig) -> None:
    """Under `share: public` a client whose key is wrong fails for itself alone."""
    release = asyncio.Event()

    async def checks(peer: Peer, message: Message) -> None:
        await release.wait()
        right = message["authorization"] == "Bearer right"
        peer.send(ok(b"{}", status="200 OK" if right else "401 Unauthorized"))

    one = await rig(checks, share="public")
    wrong, right = await one.client(), await one.client()
    wrong.ask("POST", "/v1/embeddings", "Authorization: Bearer wrong", body=written())
    await until(lambda: one.origin.count == 1)
    right.ask("POST", "/v1/embeddings", "Authorization: Bearer right", body=written())
    release.set()
    assert (await wrong.answer()).status == 401
    assert (await right.answer()).status == 200
