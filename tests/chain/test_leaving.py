"""What several clients share goes on for the others when one of them leaves."""

from __future__ import annotations

import asyncio
import json

import pytest

from middleware.cache import Cache
from proxy.edge.connection import ClientConnection
from tests.chain.conftest import Held, Serve
from tests.chain.layers import NOTED, SPOILS, Noted
from tests.chain.rig import Running, entry, whole
from tests.contract.road import LAST_CHUNK, SSE_HEAD, chunk, event
from tests.road.wire import Client, until

JSON = "Content-Type: application/json"


def about(*texts: str) -> bytes:
    return json.dumps({"model": "m", "input": list(texts)}).encode()


def vectors(*texts: str) -> bytes:
    data = [{"index": place, "embedding": [len(text)]} for place, text in enumerate(texts)]
    return json.dumps({"data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}).encode()


def told(body: bytes) -> list[float]:
    return [one["embedding"][0] for one in json.loads(body)["data"]]


async def embed(remora: Running, *texts: str) -> Client:
    """A client that has asked about these."""
    client = await remora.connect()
    client.ask("POST", "/v1/embeddings", JSON, body=about(*texts))
    return client


def connection_of(remora: Running, client: Client) -> ClientConnection:
    """remora's end of it."""
    mine = client.writer.get_extra_info("sockname")
    (found,) = [
        one for one in remora.server.edge.connections
        if one._transport is not None and one._transport.get_extra_info("peername") == mine
    ]  # fmt: skip
    return found


async def test_an_item_that_another_waits_for(serve: Serve, held: Held) -> None:
    """A call is not ended by a client that waited for one of its items and left, though its own
    client does not wait for that very one yet.
    """
    remora = await serve([held], [entry("cache"), NOTED])
    first = await embed(remora, "a", "bb")
    both = await held.asked()
    second = await embed(remora, "ccc", "bb")
    other = await held.asked()
    assert b"bb" not in other.body
    second.abort()
    await other.closed()
    await both.answer(vectors("a", "bb"), JSON.encode())
    answer = await first.answer()
    assert (answer.status, told(answer.body)) == (200, [1, 2])


async def test_an_item_of_a_call_whose_client_left(serve: Serve, held: Held) -> None:
    """Whoever waits for an item of another's call gets it when that one has left."""
    remora = await serve([held], [entry("cache")])
    first = await embed(remora, "a", "bb")
    both = await held.asked()
    second = await embed(remora, "ccc", "bb")
    await (await held.asked()).answer(vectors("ccc"), JSON.encode())
    first.abort()
    await until(lambda: len(remora.server.edge.connections) == 1)
    await both.answer(vectors("a", "bb"), JSON.encode())
    assert told((await second.answer()).body) == [3, 2]


async def test_an_item_whose_call_breaks_off_meanwhile(serve: Serve, held: Held) -> None:
    """A call that breaks off while somebody waits for another item first is that call's failure."""
    remora = await serve([held], [entry("cache")])
    first = await embed(remora, "a")
    one = await held.asked()
    await one.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
    second = await embed(remora, "bb", "a")
    other = await held.asked()
    one.abort()
    assert await first.ended()
    await other.answer(vectors("bb"), JSON.encode())
    answer = await second.answer()
    assert (answer.status, answer["x-remora-error"]) == (502, "upstream_closed")


async def test_an_item_of_a_call_that_was_answered_in_part(serve: Serve, held: Held) -> None:
    """An answer with less than was asked for is taken by nobody for the item that he waits for."""
    remora = await serve([held], [entry("cache")])
    await embed(remora, "a", "bb")
    both = await held.asked()
    second = await embed(remora, "ccc", "a")
    await (await held.asked()).answer(vectors("ccc"), JSON.encode())
    await both.answer(vectors("bb"), JSON.encode())
    again = [await held.asked(), await held.asked()]
    (own,) = [asked for asked in again if b"ccc" in asked.body]
    await own.answer(vectors("ccc", "a"), JSON.encode())
    assert told((await second.answer()).body) == [3, 1]


async def test_a_failure_that_was_to_be_expected(
    serve: Serve, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that fails a call about several items is no bug of remora's: nothing is logged."""
    remora = await serve([held], [entry("cache")])
    client = await embed(remora, "a", "bb")
    (await held.asked()).abort()
    assert (await client.answer()).status == 502
    assert not caplog.records


async def test_the_last_who_reads_another_item(serve: Serve, held: Held) -> None:
    """A call ends when its client and those who took an item from it have left, amid its body."""
    remora = await serve([held], [entry("cache")])
    first = await embed(remora, "a")
    one = await held.asked()
    await one.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
    second = await embed(remora, "bb", "a")
    await (await held.asked()).answer(vectors("bb"), JSON.encode())
    cache: Cache = remora.layer(Cache)
    await until(lambda: [flight.recording.readers for flight in cache.flights.values()] == [2])
    first.abort()
    await until(lambda: [flight.recording.readers for flight in cache.flights.values()] == [1])
    second.abort()
    await one.closed()


async def test_a_call_about_items_that_was_left(serve: Serve, held: Held) -> None:
    """What stands inside of the cache is told that everybody left a call about several items, and
    not that it went well.
    """
    remora = await serve([held], [entry("cache"), NOTED])
    client = await embed(remora, "a", "bb")
    asked = await held.asked()
    await asked.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
    noted: Noted = remora.layer(Noted)
    await until(lambda: noted.seen and noted.seen[0].outcome.status == 200)
    client.abort()
    await asked.closed()
    await until(lambda: noted.outcomes)
    assert [outcome.cancelled for outcome in noted.outcomes] == [True]


CHAT = json.dumps({"model": "m", "messages": [{"role": "user", "content": "a"}], "seed": 1,
                   "stream": True}).encode()  # fmt: skip


async def stream(remora: Running) -> Client:
    client = await remora.connect()
    client.ask("POST", "/v1/chat/completions", JSON, body=CHAT)
    return client


async def test_an_event_as_one_of_its_readers_leaves(serve: Serve, held: Held) -> None:
    """An event that comes between a client's end and that of its task reaches the others."""
    remora = await serve([held], whole())
    first = await stream(remora)
    asked = await held.asked()
    second = await stream(remora)
    await asked.send(SSE_HEAD + chunk(event("1")))
    for client in (first, second):
        await client.head()
        assert await client.chunk() == event("1")
    (flight,) = remora.layer(Cache).flights.values()
    transport = connection_of(remora, first)._transport
    assert transport is not None
    transport.abort()  # the loop tells its protocol with its next turn, and before this:
    asyncio.get_running_loop().call_soon(flight.recording._source.feed, event("2"))
    assert await second.chunk() == event("2")
    await asked.send(chunk(event("[DONE]")) + LAST_CHUNK)
    assert await second.chunks() == event("[DONE]")


async def test_an_event_as_its_only_reader_leaves(serve: Serve, held: Held) -> None:
    """The same without anything between: the loop is told of no failure."""
    remora = await serve([held], [])
    client = await stream(remora)
    asked = await held.asked()
    await asked.send(SSE_HEAD + chunk(event("1")))
    await client.head()
    connection = connection_of(remora, client)
    assert connection._transport is not None and connection.pump is not None
    connection._transport.abort()
    asyncio.get_running_loop().call_soon(connection.pump.stream.feed, event("2"))
    await asked.closed()


async def test_a_filter_that_fails_inside_of_the_cache(serve: Serve, held: Held) -> None:
    """It fails the shared stream with its own error, and the connection to the server is closed,
    not blamed.
    """
    remora = await serve([held], [entry("cache"), SPOILS, NOTED])
    clients = [await stream(remora) for _ in range(2)]
    asked = await held.asked()
    await asked.send(SSE_HEAD + chunk(event("1")))
    for client in clients:
        await client.head()
        assert await client.chunk() == event("1")
    await asked.send(chunk(event("2")))
    for client in clients:
        assert b'"code":"spoiled"' in await client.chunks()
    await asked.closed()
