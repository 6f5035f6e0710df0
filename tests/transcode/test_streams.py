"""Streams: events for some, objects for others, each the moment it is whole."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import msgpack
import orjson
import pytest

from middleware.core.object_stream import EVENT
from middleware.core.sse import MAX_EVENT
from tests.road.scripted import Peer
from tests.road.wire import LAST_CHUNK, SSE_HEAD, Client, Message, chunk, head, ok
from tests.transcode.conftest import MakeRig
from tests.transcode.rig import JSON, MSGPACK, Rig, said, unpacked

CHAT = "/v1/chat/completions"
ASKED = {"model": "m", "messages": [], "stream": True}
PACKED_HEAD = head(
    "HTTP/1.1 200 OK", f"Content-Type: {MSGPACK}", "Transfer-Encoding: chunked"
)  # fmt: skip


class Told:
    """A server that sends what the test puts in, piece by piece."""

    def __init__(self, first: bytes) -> None:
        self.first = first
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def __call__(self, peer: Peer, message: Message) -> None:
        peer.send(self.first)
        while (piece := await self.pieces.get()) is not None:
            peer.send(piece)
        peer.abort()

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.pieces.put_nowait(piece)

    def die(self) -> None:
        self.pieces.put_nowait(None)


async def begin(one: Rig, *fields: str, target: str = CHAT, version: str = "1.1") -> Client:
    """Sends the request; MessagePack where the fields name no other type."""
    client = await one.client()
    if any(JSON in field for field in fields if field.startswith("Content-Type")):
        client.ask("POST", target, *fields, body=orjson.dumps(ASKED), version=version)
        return client
    packed = (f"Content-Type: {MSGPACK}", *fields)
    client.ask("POST", target, *packed, body=msgpack.packb(ASKED), version=version)
    return client


async def test_each_event_leaves_when_it_is_whole(rig: MakeRig) -> None:
    """As one MessagePack object: the head before there is any, each before the next is sent."""
    told = Told(SSE_HEAD)
    one = await rig(told)
    client = await begin(one, f"Accept: {MSGPACK}")
    answer = await client.head()
    assert (answer["content-type"], answer["vary"], answer.chunked) == (MSGPACK, "Accept", True)
    for number in range(5):
        told.say(chunk(b'data: {"n"'), chunk(b":%d}\n" % number), chunk(b"\n"))
        assert msgpack.unpackb(await client.chunk()) == {"n": number}
    told.say(chunk(b": ping\n\ndata: [DONE]\n\n"), b"0\r\nRepr-Digest: x\r\n\r\n")
    assert msgpack.unpackb(await client.chunk()) == "[DONE]"
    assert await client.chunk() == b""
    assert client.trailers == []
    assert one.server.last.body == orjson.dumps(ASKED)
    assert one.count("remora_transcoded_total", route="/*", part="stream") == 1


async def test_names_and_ids_of_events(rig: MakeRig) -> None:
    """They are in an extension, unless the data says the name itself."""
    told = Told(SSE_HEAD)
    one = await rig(told)
    client = await begin(one, f"Accept: {MSGPACK}")
    await client.head()
    told.say(chunk(b'event: a\ndata: {"type":"a"}\n\nid: 1\nevent: b\ndata: {}\n\n'), LAST_CHUNK)
    found = list(msgpack.Unpacker(io.BytesIO(await client.chunks())))
    named = msgpack.ExtType(EVENT, msgpack.packb(["b", "1", {}]))
    assert found == [{"type": "a"}, named]


@pytest.mark.parametrize(
    ("accept", "converted"),
    [
        ("*/*", True),
        (f"{MSGPACK};q=0.5, text/event-stream", False),
        (f"{MSGPACK}, text/event-stream", True),
        (JSON, False),
        ("text/event-stream", False),
    ],
)
async def test_who_gets_objects(accept: str, converted: bool, rig: MakeRig) -> None:
    """A client that spoke MessagePack, unless it says that it likes events better."""
    one = await rig(SSE_HEAD + chunk(b"data: 1\n\n") + LAST_CHUNK)
    answer = await (await begin(one, f"Accept: {accept}")).answer()
    assert answer.body == (b"\x01" if converted else b"data: 1\n\n")
    assert answer["content-type"] == (MSGPACK if converted else "text/event-stream")


async def test_a_json_clients_stream_passes(rig: MakeRig) -> None:
    """Its bytes as they came, also where they are no events at all."""
    one = await rig(SSE_HEAD + chunk(b"data: {1\n\n\xffx") + LAST_CHUNK)
    answer = await (await begin(one, f"Content-Type: {JSON}", "Accept: */*")).answer()
    assert answer.body == b"data: {1\n\n\xffx"
    assert "vary" not in answer.names


async def test_a_whole_stream_in_one_answer(rig: MakeRig) -> None:
    """One with a Content-Length, as a cache gives it, is converted the same."""
    body = b"data: 1\n\ndata: [DONE]\n\n"
    one = await rig(ok(body, "Content-Type: text/event-stream"))
    answer = await (await begin(one, f"Accept: {MSGPACK}")).answer()
    assert answer.body == b"\x01" + msgpack.packb("[DONE]")


async def test_a_server_that_dies_in_a_stream(rig: MakeRig) -> None:
    """The last object is the error, as the API's error event has it; half an event is dropped."""
    told = Told(SSE_HEAD)
    one = await rig(told)
    client = await begin(one, f"Accept: {MSGPACK}")
    await client.head()
    told.say(chunk(b"data: 1\n\ndata: {"))
    assert await client.chunk() == b"\x01"
    told.die()
    error = msgpack.unpackb(await client.chunk())
    assert error["error"]["code"] == "upstream_closed"
    assert await client.chunk() == b""
    assert await client.rest() == b""


async def test_an_error_in_a_stream_of_no_known_api(rig: MakeRig) -> None:
    """Its error event has a name, which the extension keeps."""
    told = Told(SSE_HEAD)
    one = await rig(told)
    client = await begin(one, f"Accept: {MSGPACK}", target="/own")
    await client.head()
    told.die()
    last = msgpack.unpackb(await client.chunk())
    assert last.code == EVENT
    name, _, error = msgpack.unpackb(last.data)
    assert (name, error["code"]) == ("error", "upstream_closed")


async def test_an_event_over_the_bound(rig: MakeRig) -> None:
    """The stream ends with an error object, and the server's connection is closed."""
    told = Told(SSE_HEAD)
    one = await rig(told)
    client = await begin(one, f"Accept: {MSGPACK}")
    await client.head()
    told.say(chunk(b"data: " + b"x" * MAX_EVENT + b"\n\n"))
    error = msgpack.unpackb(await client.chunk())
    assert error["error"]["code"] == "answer_not_convertible"
    assert await client.chunk() == b""
    told.die()


async def test_a_client_of_http10(rig: MakeRig) -> None:
    """It reads to the end of the connection: objects, then the error."""
    told = Told(SSE_HEAD)
    one = await rig(told)
    client = await begin(one, f"Accept: {MSGPACK}", version="1.0")
    told.say(chunk(b"data: 1\n\n"))
    told.die()
    raw = await client.rest()
    first, error = msgpack.Unpacker(io.BytesIO(raw.partition(b"\r\n\r\n")[2]))
    assert first == 1 and error["error"]["code"] == "upstream_closed"


async def test_a_client_that_leaves(rig: MakeRig) -> None:
    """Its server hears of it."""
    gone = asyncio.Event()

    async def endless(peer: Peer, message: Message) -> None:
        peer.send(SSE_HEAD + chunk(b"data: 1\n\n"))
        await peer.ended()
        gone.set()

    one = await rig(endless)
    client = await begin(one, f"Accept: {MSGPACK}")
    await client.head()
    await client.chunk()
    client.abort()
    await asyncio.wait_for(gone.wait(), 5)


async def test_an_error_instead_of_a_stream(rig: MakeRig) -> None:
    """Asked for a stream, the server answers with a document: it is converted as one."""
    one = await rig(ok(b'{"error":"no"}', f"Content-Type: {JSON}", status="400 Bad Request"))
    answer = await (await begin(one, f"Accept: {MSGPACK}")).answer()
    assert (answer.status, unpacked(answer)) == (400, {"error": "no"})


# -- and back: a server that streams objects


async def test_each_object_becomes_an_event(rig: MakeRig) -> None:
    """For a JSON client that asked for a stream, wherever the server's bytes are cut."""
    told = Told(PACKED_HEAD)
    one = await rig(told, upstream="msgpack")
    client = await begin(one, f"Content-Type: {JSON}", "Accept: */*")
    answer = await client.head()
    assert (answer["content-type"], answer.chunked) == ("text/event-stream", True)
    packed = msgpack.packb({"n": 300, "text": "ž"})
    for cut in range(1, len(packed)):
        told.say(chunk(packed[:cut]), chunk(packed[cut:]))
        assert await client.chunk() == 'data: {"n":300,"text":"ž"}\n\n'.encode()
    told.say(chunk(msgpack.packb("[DONE]") + msgpack.packb(None)), LAST_CHUNK)
    assert await client.chunk() == b"data: [DONE]\n\ndata: null\n\n"
    assert await client.chunk() == b""
    assert msgpack.unpackb(one.server.last.body) == ASKED


async def test_accepting_events_asks_for_a_stream(rig: MakeRig) -> None:
    """Also where no API's body says so."""
    one = await rig(PACKED_HEAD + chunk(b"\x01\x02") + LAST_CHUNK, upstream="msgpack")
    answer = await one.ask(None, "Accept: text/event-stream", method="GET", target="/own")
    assert answer.body == b"data: 1\n\ndata: 2\n\n"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (said({"a": 1}, of=MSGPACK), 200),
        (PACKED_HEAD.replace(b"200 OK", b"400 No") + chunk(b"\x81\xa1a\x01") + LAST_CHUNK, 400),
    ],
    ids=["length", "error"],
)
async def test_a_document_where_a_stream_was_asked_for(
    raw: bytes, status: int, rig: MakeRig
) -> None:
    """A server that gives one with its length, or tells an error, gives no stream."""
    one = await rig(raw, upstream="msgpack")
    answer = await (await begin(one, f"Content-Type: {JSON}", "Accept: */*")).answer()
    assert (answer.status, answer["content-type"], answer.body) == (status, JSON, b'{"a":1}')


async def test_one_document_in_chunks_is_no_stream(rig: MakeRig) -> None:
    """Nobody asked for a stream: it becomes JSON, and two objects are none."""
    one = await rig(
        PACKED_HEAD + chunk(b"\x81\xa1a") + chunk(b"\x01") + LAST_CHUNK,
        PACKED_HEAD + chunk(b"\x01\x02") + LAST_CHUNK,
        upstream="msgpack",
    )
    answer = await one.json({"model": "m"})
    assert (answer["content-type"], answer.body) == (JSON, b'{"a":1}')
    assert (await one.json({"model": "m"})).status == 502


@pytest.mark.parametrize(
    "end", [b"\xc1", b"\x81\x01\x02", b"\xc7\x01\x05x", None, b"half"], ids=str
)
async def test_a_stream_of_objects_that_fails(end: bytes | None, rig: MakeRig) -> None:
    """No object, one that JSON cannot say, half a one at the end, or a server that dies: the
    stream ends with the API's error event.
    """
    told = Told(PACKED_HEAD)
    one = await rig(told, upstream="msgpack")
    client = await begin(one, f"Content-Type: {JSON}", "Accept: */*")
    await client.head()
    told.say(chunk(b"\x01"))
    assert await client.chunk() == b"data: 1\n\n"
    if end is None:
        told.die()
    elif end == b"half":
        told.say(chunk(b"\x92\x01"), LAST_CHUNK)
    else:
        told.say(chunk(end))
    event = await client.chunk()
    assert event.startswith(b"data: {") and event.endswith(b"\n\n")
    code = orjson.loads(event[6:])["error"]["code"]
    assert code == ("upstream_closed" if end is None else "answer_not_convertible")
    assert await client.chunk() == b""
    told.die()


async def test_a_msgpack_clients_stream_of_objects_passes(rig: MakeRig) -> None:
    """Its bytes as they came; where the server dies it breaks off."""
    told = Told(PACKED_HEAD)
    one = await rig(told, upstream="msgpack")
    client = await begin(one, f"Accept: {MSGPACK}")
    await client.head()
    told.say(chunk(b"\xc1\x92"))
    assert await client.chunk() == b"\xc1\x92"
    told.die()
    assert await client.ended() == b""


async def test_vectors_in_events(rig: MakeRig) -> None:
    """Lists of numbers become arrays there as in a document."""
    vector: list[Any] = [0.5] * 20
    one = await rig(
        SSE_HEAD + chunk(b"data: " + orjson.dumps(vector) + b"\n\n") + LAST_CHUNK,
        embeddings="float32",
    )
    answer = await (await begin(one, f"Accept: {MSGPACK}")).answer()
    assert msgpack.unpackb(answer.body).code == 65
