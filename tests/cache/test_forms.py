"""A stream from a stored answer, an answer from a stored stream, and how streams replay."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from middleware.cache import Cache
from tests.conftest import Serve, UpstreamMaker
from tests.road.scripted import Peer, Script
from tests.road.wire import Client, Message, until

CACHE = "middleware.cache:Cache"

QUESTION: dict[str, Any] = {
    "model": "m", "temperature": 0, "messages": [{"role": "user", "content": "hi"}],
}  # fmt: skip
ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "two words"},
         "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}  # fmt: skip
CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({**CHUNK, "choices": [choice]}) + b"\n\n"


EVENTS = [
    event({"role": "assistant", "content": ""}), event({"content": "two"}),
    event({"content": " words"}), event({}, "stop"), b"data: [DONE]\n\n",
]  # fmt: skip


def model(seen: list[Message], events: list[bytes] = EVENTS) -> Script:
    """An upstream that answers as it is asked: a stream, or JSON."""

    async def script(peer: Peer) -> None:
        while True:
            message = await peer.request()
            seen.append(message)
            if orjson.loads(message.body).get("stream"):
                peer.send(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                    b"transfer-encoding: chunked\r\n\r\n"
                )
                for one in events:
                    peer.send(b"%x\r\n%b\r\n" % (len(one), one))
                peer.send(b"0\r\n\r\n")
            else:
                body = orjson.dumps(ANSWER)
                peer.send(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n%b" % (len(body), body)
                )

    return script


def send(client: Client, **more: Any) -> None:
    body = orjson.dumps({**QUESTION, **more})
    client.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


async def ask(client: Client, **more: Any) -> Message:
    send(client, **more)
    return await client.answer()


def chain(**keys: Any) -> list[dict[str, Any]]:
    return [{CACHE: keys}]


async def test_a_streaming_client_is_answered_from_a_stored_answer(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """Under `convert` a stored JSON answer becomes the events a streaming client waits for."""
    seen: list[Message] = []
    running = await serve(await upstream(model(seen)), chain=chain(convert=True))
    client = await running.connect()
    await ask(client)
    streamed = await ask(client, stream=True)
    assert len(seen) == 1
    assert streamed["content-type"] == "text/event-stream"
    data = [line[6:] for line in streamed.body.split(b"\n") if line.startswith(b"data: ")]
    assert data[-1] == b"[DONE]"
    text = "".join(
        choice["delta"].get("content") or ""
        for one in data[:-1] for choice in orjson.loads(one)["choices"]
    )  # fmt: skip
    assert text == "two words"


async def test_an_answer_comes_from_a_stored_stream(serve: Serve, upstream: UpstreamMaker) -> None:
    """Under `convert` a stored stream becomes the JSON answer that another client waits for."""
    seen: list[Message] = []
    running = await serve(await upstream(model(seen)), chain=chain(convert=True))
    client = await running.connect()
    await ask(client, stream=True)
    whole = orjson.loads((await ask(client)).body)
    assert len(seen) == 1
    assert whole["choices"][0]["message"]["content"] == "two words"
    assert whole["choices"][0]["finish_reason"] == "stop"


async def test_the_forms_are_apart_by_default(serve: Serve, upstream: UpstreamMaker) -> None:
    """Without `convert` a stream and an answer to the same question are two entries."""
    seen: list[Message] = []
    running = await serve(await upstream(model(seen)), chain=chain())
    client = await running.connect()
    for more in ({}, {"stream": True}, {}, {"stream": True}):
        await ask(client, **more)
    assert len(seen) == 2


async def test_a_stored_stream_is_the_same_bytes(serve: Serve, upstream: UpstreamMaker) -> None:
    """A stream played back at once is byte for byte what the upstream sent."""
    seen: list[Message] = []
    running = await serve(await upstream(model(seen)), chain=chain())
    client = await running.connect()
    first = await ask(client, stream=True)
    second = await ask(client, stream=True)
    assert len(seen) == 1
    assert first.body == second.body == b"".join(EVENTS)


async def test_a_paced_replay_comes_in_the_pieces_it_came_in(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """Under `replay: paced` each recorded piece is a chunk of its own, and none is lost."""
    seen: list[Message] = []
    running = await serve(await upstream(model(seen)), chain=chain(replay="paced"))
    client = await running.connect()
    await ask(client, stream=True)
    send(client, stream=True)
    await client.head()
    pieces = []
    while piece := await client.chunk():
        pieces.append(piece)
    assert len(seen) == 1
    assert pieces == EVENTS


async def test_a_stream_without_its_end_is_not_stored(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """A stream that its API would have ended with an event is not stored without that event."""
    seen: list[Message] = []
    running = await serve(await upstream(model(seen, EVENTS[:-1])), chain=chain())
    client = await running.connect()
    for _ in range(2):
        await ask(client, stream=True)
    assert len(seen) == 2


@pytest.mark.parametrize("ends", [["close"], [EVENTS[3][6:-2].decode()]])
async def test_another_end_of_a_stream_can_be_named(
    serve: Serve, upstream: UpstreamMaker, ends: list[str]
) -> None:
    """`stream_ends` names what ends a stream of a server whose streams end in another way."""
    seen: list[Message] = []
    running = await serve(await upstream(model(seen, EVENTS[:-1])), chain=chain(stream_ends=ends))
    client = await running.connect()
    for _ in range(2):
        await ask(client, stream=True)
    assert len(seen) == 1


async def test_a_hit_late_in_its_life_sees_to_the_next_one(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """Under `refresh_ahead` a hit in the last part of an answer's life refreshes it meanwhile."""
    seen: list[Message] = []
    running = await serve(await upstream(model(seen)), chain=chain(ttl=100, refresh_ahead=0.2))
    cache = running.layer(Cache)
    now = cache.now()
    cache.now = lambda: now
    client = await running.connect()
    await ask(client)
    now += 79
    await ask(client)
    assert len(seen) == 1
    now += 2
    assert "hit" in ((await ask(client))["cache-status"] or "")
    await until(lambda: len(seen) == 2)
    now += 60
    assert "hit" in ((await ask(client))["cache-status"] or "")
    assert len(seen) == 2
