"""Which request bodies are kept to be sent again, over real sockets."""

from __future__ import annotations

import orjson

from tests.retry.conftest import MakeRig
from tests.retry.rig import ANSWER, EMBEDDINGS, Endpoint, Rig, resets, status
from tests.road.scripted import Peer
from tests.road.wire import LAST_CHUNK, Client, Message, chunk, head, until

PIECE = b"x" * 1000


async def begun(one: Rig, client: Client, *lines: str) -> None:
    """Sends a head, and waits until remora works on it: the body then comes as a stream."""
    client.send(head(*lines, "Host: h"))
    await until(lambda: one.numbers("remora_requests_in_flight"))


async def test_a_body_that_comes_late_is_kept(rig: MakeRig) -> None:
    """Up to `max_body` bytes are read first, and each attempt has all of them."""
    bad, good = Endpoint(resets), Endpoint(ANSWER)
    one = await rig(bad, good, max_body=2000)
    for _ in range(2):
        client = await one.running.connect()
        await begun(one, client, f"POST {EMBEDDINGS} HTTP/1.1", "Content-Length: 2000")
        client.send(PIECE)
        client.send(PIECE)
        assert (await client.answer()).status == 200
    assert {message.body for message in (*bad.seen, *good.seen)} == {PIECE * 2}
    assert bad.count >= 1


async def test_a_larger_body_passes_once(rig: MakeRig) -> None:
    """One byte over `max_body` it streams, and a failure is the client's."""
    one = await rig(Endpoint(resets), Endpoint(resets), max_body=1999)
    client = await one.running.connect()
    await begun(one, client, f"POST {EMBEDDINGS} HTTP/1.1", "Content-Length: 2000")
    client.send(PIECE)
    client.send(PIECE)
    assert (await client.answer()).status == 502
    assert one.total == 1


async def test_a_body_that_is_here_is_kept(rig: MakeRig) -> None:
    """What came with the head, or what an outer layer has read, is in memory in any case."""
    one = await rig(Endpoint(resets, ANSWER), max_body=10)
    assert (await one.ask(body=PIECE)).status == 200
    assert one.total == 2


async def test_a_larger_body_is_not_held(rig: MakeRig) -> None:
    """Its beginning reaches the server before its end has come."""

    class Reads(Endpoint):
        async def __call__(self, peer: Peer) -> None:
            self.seen.append(await peer.head())
            await peer.exactly(1000)
            peer.send(head("HTTP/1.1 200 OK", "Content-Length: 0", "Connection: close"))

    one = await rig(Reads(), max_body=1999)
    client = await one.running.connect()
    await begun(one, client, f"POST {EMBEDDINGS} HTTP/1.1", "Content-Length: 2000")
    client.send(PIECE)
    assert (await client.answer()).status == 200


async def test_a_body_of_unknown_length_passes_once(rig: MakeRig) -> None:
    """Chunks without a length are not kept, and arrive as the client framed them."""
    bad = Endpoint(status(503))
    one = await rig(bad)
    client = await one.running.connect()
    await begun(one, client, f"POST {EMBEDDINGS} HTTP/1.1", "Transfer-Encoding: chunked")
    client.send(chunk(b"{"))
    client.send(chunk(b"}") + LAST_CHUNK)
    assert (await client.answer()).status == 503
    (seen,) = bad.seen
    assert (seen.body, seen["transfer-encoding"]) == (b"{}", "chunked")


async def test_a_stream_that_nobody_has_seen_goes_elsewhere(rig: MakeRig) -> None:
    """Where no connection could be made, also a body that streams is sent to another endpoint,
    whole and framed as it came.
    """
    good = Endpoint(ANSWER)
    one = await rig(None, good, max_body=10)
    retried = set()
    for framing in ["Content-Length: 2000", "Transfer-Encoding: chunked"] * 2:
        for _ in range(2):
            client = await one.running.connect()
            await begun(one, client, "POST /unknown HTTP/1.1", framing)
            for _ in range(2):
                client.send(PIECE if "2000" in framing else chunk(PIECE))
            client.send(b"" if "2000" in framing else LAST_CHUNK)
            answer = await client.answer()
            assert answer.status == 200
            if answer["x-remora-attempts"] == "2":
                retried.add(framing)
            name, _, value = framing.partition(": ")
            assert good.seen[-1][name.lower()] == value
            assert good.seen[-1].body == PIECE * 2
    assert len(retried) == 2


async def test_a_body_that_the_balancer_has_read_is_sent_whole(rig: MakeRig) -> None:
    """`balance: prefix` may read more than `max_body`: what is in memory by then is kept."""
    bad, good = Endpoint(resets), Endpoint(ANSWER)
    keys = {"max_body": 10, "attempts": 4, "budget": {"floor": 100}}
    one = await rig(None, bad, good, **keys, upstream_keys={"balance": "prefix"})
    retried = 0
    for number in range(12):
        question = orjson.dumps({"input": f"{number} " * 20})
        client = await one.running.connect()
        framing = f"Content-Length: {len(question)}"
        await begun(one, client, f"POST {EMBEDDINGS} HTTP/1.1", framing)
        client.send(question)
        answer = await client.answer()
        assert answer.status == 200
        retried += answer["x-remora-attempts"] is not None
        assert good.seen[-1].body == question
    assert retried


async def test_a_stream_sent_in_part_is_not_sent_again(rig: MakeRig) -> None:
    """A kept connection dies with a part of the body, and no other can be made: what has gone
    with it cannot be sent twice, and half a body would look whole.
    """

    class Dies(Endpoint):
        async def __call__(self, peer: Peer) -> None:
            self.seen.append(await peer.request())
            peer.send(head("HTTP/1.1 200 OK", "Content-Length: 0"))
            self.seen.append(await peer.head())
            await peer.exactly(1000)
            assert one.upstreams[0]._server is not None
            one.upstreams[0]._server.close()
            peer.abort()

    one = await rig(Dies(), max_body=10)
    client = await one.running.connect()
    assert (await client.exchange("GET", "/")).status == 200
    await begun(one, client, "PUT /unknown HTTP/1.1", "Content-Length: 2000")
    client.send(PIECE)
    answer = await client.answer()
    assert (answer.status, answer["x-remora-attempts"]) == (502, None)
    assert one.total == 2


async def test_100_continue_passes_once(rig: MakeRig) -> None:
    """A client that waits for the server's word gets it, and its request is not sent again."""

    class Asks(Endpoint):
        async def __call__(self, peer: Peer) -> None:
            message = await peer.head()
            self.seen.append(message)
            peer.send(head("HTTP/1.1 100 Continue"))
            message.body = await peer.exactly(2)
            peer.abort()

    one = await rig(Asks(), Asks(), attempts=2)
    client = await one.running.connect()
    client.ask("POST", EMBEDDINGS, "Expect: 100-continue", "Content-Length: 2")
    assert (await client.head()).status == 100
    client.send(b"{}")
    assert (await client.answer()).status == 502
    assert one.total == 1


async def test_an_upgrade_passes_once(rig: MakeRig) -> None:
    """An upgraded connection is opened, and one that fails is not tried again."""

    class Upgrades(Endpoint):
        async def __call__(self, peer: Peer) -> None:
            self.seen.append(await peer.head())
            peer.send(head("HTTP/1.1 101 On", "Upgrade: echo", "Connection: Upgrade"))
            peer.send(await peer.exactly(4))

    one = await rig(Upgrades())
    client = await one.running.connect()
    client.ask("GET", "/", "Connection: Upgrade", "Upgrade: echo")
    assert (await client.head()).status == 101
    client.send(b"ping")
    assert await client.exactly(4) == b"ping"
    one = await rig(Endpoint(resets), Endpoint(resets))
    client = await one.running.connect()
    client.ask("GET", "/", "Connection: Upgrade", "Upgrade: echo")
    assert (await client.answer()).status == 502
    assert one.total == 1


async def test_an_early_hint_of_each_attempt_reaches_the_client(rig: MakeRig) -> None:
    """1xx answers pass, of a retry as of the first attempt."""

    async def hints(peer: Peer, message: Message) -> None:
        peer.send(head("HTTP/1.1 103 Early Hints", "Link: </a>"))
        await (resets if one.total == 1 else ANSWER)(peer, message)

    one = await rig(Endpoint(hints))
    client = await one.running.connect()
    client.ask("GET", "/")
    assert [(await client.head()).status for _ in range(3)] == [103, 103, 200]
    await until(lambda: one.total == 2)
