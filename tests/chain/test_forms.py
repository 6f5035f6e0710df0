"""One stream through every layer that changes bodies: dialect, MessagePack, a coding, the cache."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any

import msgpack
import pytest

from tests.chain.conftest import Held, Serve
from tests.chain.rig import Running, whole
from tests.contract.road import LAST_CHUNK, SSE_HEAD, Asked, chunk
from tests.road.wire import Client, Message

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, "seed": 3,
        "max_tokens": 5}  # fmt: skip
MSGPACK = "application/msgpack"


def token(text: str, whole: str | None = None) -> bytes:
    """An event of TGI's."""
    details = {"finish_reason": "length", "generated_tokens": 2, "seed": 3}
    event = {"index": 1, "token": {"id": 1, "text": text, "logprob": -1.0, "special": False},
             "generated_text": whole, "details": details if whole else None}  # fmt: skip
    return chunk(b"data:" + json.dumps(event).encode() + b"\n\n")


class Packed:
    """Objects of a stream in MessagePack, as they come."""

    kind, coding = MSGPACK, None
    fields = (f"Content-Type: {MSGPACK}", f"Accept: {MSGPACK}", "Accept-Encoding: gzip")
    body = msgpack.packb(CHAT)

    def __init__(self, client: Client) -> None:
        self.client = client
        self._objects = msgpack.Unpacker()

    async def next(self) -> Any:
        """The next one; None at the end of the body."""
        while True:
            for one in self._objects:
                return one
            piece = await self.client.chunk()
            if not piece:
                return None
            self._objects.feed(piece)


class Zipped:
    """Events of a stream in JSON and gzip, as they come."""

    kind, coding = "text/event-stream", "gzip"
    fields = ("Content-Type: application/json", "Accept-Encoding: gzip")
    body = json.dumps(CHAT).encode()

    def __init__(self, client: Client) -> None:
        self.client = client
        self._inflate = zlib.decompressobj(31)
        self._text = b""

    async def next(self) -> Any:
        while b"\n\n" not in self._text:
            piece = await self.client.chunk()
            if not piece:
                assert self._inflate.eof and not self._text, "the coding or an event has no end"
                return None
            self._text += self._inflate.decompress(piece)
        event, _, self._text = self._text.partition(b"\n\n")
        data = event.removeprefix(b"data: ")
        return "[DONE]" if data == b"[DONE]" else json.loads(data)


Form = type[Packed] | type[Zipped]


async def asked_by(remora: Running, form: Form) -> tuple[Client, Message]:
    client = await remora.connect()
    client.ask("POST", "/v1/chat/completions", *form.fields, body=form.body)
    return client, await client.head()


CHAIN = whole(transcode={"dialect": "tgi"}, cache={"when": "always"})


def content(event: Any) -> str:
    return "".join(one["delta"].get("content") or "" for one in event["choices"])


async def begun(held: Held) -> Asked:
    """The call at the server, with one token answered."""
    asked = await held.asked()
    body = json.loads(asked.body)
    assert asked.start == b"POST /generate_stream HTTP/1.1"
    assert body["parameters"]["max_new_tokens"] == 5
    assert asked.header(b"accept-encoding") in (None, b"identity")
    await asked.send(SSE_HEAD + token("one"))
    return asked


@pytest.mark.parametrize("form", [Packed, Zipped])
async def test_each_event_at_once(serve: Serve, held: Held, form: Form) -> None:
    """A token of TGI's reaches a client of OpenAI's API when it is sent, whatever its form; another
    client gets the same from the cache, in JSON and in clear.
    """
    remora = await serve([held], CHAIN)
    asking = asyncio.ensure_future(asked_by(remora, form))
    asked = await begun(held)
    client, answer = await asking
    assert (answer.status, answer["content-type"]) == (200, form.kind)
    assert answer["content-encoding"] == form.coding and answer["content-length"] is None
    reader = form(client)
    texts = []
    while not content(event := await reader.next()):
        pass  # the one that names the role
    texts.append(content(event))
    await asked.send(token("two", "onetwo") + LAST_CHUNK)
    last = None
    while (event := await reader.next()) is not None:
        last = event
        if isinstance(event, dict):
            texts.append(content(event))
    assert "".join(texts) == "onetwo" and last == "[DONE]"

    other = await remora.connect()
    plain = await other.exchange("POST", "/v1/chat/completions", "Content-Type: application/json",
                                 body=json.dumps(CHAT).encode())  # fmt: skip
    assert plain["content-type"] == "text/event-stream" and plain["content-encoding"] is None
    events = [one.removeprefix(b"data: ") for one in plain.body.split(b"\n\n") if one]
    assert events[-1] == b"[DONE]"
    assert "".join(content(json.loads(one)) for one in events[:-1]) == "onetwo"
    assert held.count == 1


@pytest.mark.parametrize("form", [Packed, Zipped])
async def test_a_stream_that_breaks_off(serve: Serve, held: Held, form: Form) -> None:
    """The last one tells of the error; the body and its coding end as they should."""
    remora = await serve([held], CHAIN)
    asking = asyncio.ensure_future(asked_by(remora, form))
    asked = await begun(held)
    client, _ = await asking
    asked.abort()
    reader, events = form(client), []
    while (event := await reader.next()) is not None:
        events.append(event)
    assert events[-1]["error"]["code"] == "upstream_closed"
    assert "[DONE]" not in events


@pytest.mark.parametrize("form", [Packed, Zipped])
async def test_a_refusal_in_every_form(serve: Serve, held: Held, form: Form) -> None:
    """What TGI refuses is told as OpenAI does, in the form that the client takes."""
    remora = await serve([held], whole(transcode={"dialect": "tgi"}, compress={"min_bytes": "1B"}))
    asking = asyncio.ensure_future(asked_by(remora, form))
    asked = await held.asked()
    await asked.answer(b'{"error":"too long","error_type":"validation"}',
                       b"Content-Type: application/json", status=b"422 No")  # fmt: skip
    client, answer = await asking
    assert answer.status == 400 and answer["content-encoding"] == form.coding
    body = await client.exactly(int(answer["content-length"] or 0))
    told = msgpack.unpackb(body) if form is Packed else json.loads(zlib.decompress(body, 31))
    assert told["error"]["message"] == "too long"


@pytest.mark.parametrize("form", [Packed, Zipped])
async def test_a_refusal_of_an_inner_layer(serve: Serve, held: Held, form: Form) -> None:
    """A full queue is told in the client's form and API."""
    remora = await serve(
        [held], whole(transcode={"dialect": "tgi"}, concurrency={"limit": 1, "queue": 0})
    )
    busy = await remora.connect()
    busy.ask("GET", "/busy")
    await held.asked()
    client, answer = await asked_by(remora, form)
    body = await client.exactly(int(answer["content-length"] or 0))
    told = msgpack.unpackb(body) if form is Packed else json.loads(body)
    assert answer.status == 503 and answer["x-remora-error"] == "queue_full"
    assert told["error"]["code"] == "queue_full"
    assert int(answer["retry-after"] or 0) >= 1
