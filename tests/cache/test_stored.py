"""What is stored, and what is not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.cache.conftest import MakeRig
from tests.cache.rig import CACHE, QUESTION, Origin, hit, status, written
from tests.conftest import Serve, UpstreamMaker
from tests.road.scripted import Peer
from tests.road.wire import CHUNKED_HEAD, LAST_CHUNK, SSE_HEAD, Gone, Message, chunk, head, ok

JSON = "Content-Type: application/json"
CHAT = "/v1/chat/completions"
STREAM = {"model": "m", "temperature": 0, "stream": True, "messages": []}
WORD = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def sse(*events: bytes) -> bytes:
    return SSE_HEAD + b"".join(map(chunk, events)) + LAST_CHUNK


async def twice(rig: Any, body: Any = None, target: str = "/v1/embeddings") -> list[Message]:
    return [await rig.ask(body, target=target) for _ in range(2)]


async def test_the_same_question_is_asked_once(rig: MakeRig) -> None:
    """A second client gets what the first one's call brought, byte for byte."""
    one = await rig()
    first, second = await twice(one)
    assert one.origin.count == 1
    assert first.body == second.body == b'{"answer":1}'
    assert status(first)["fwd"] == "uri-miss"
    assert hit(second)
    assert second["content-type"] == "application/json"


async def test_another_spelling_is_the_same_question(rig: MakeRig) -> None:
    """White space and the order of members do not matter, and the upstream gets them as sent."""
    one = await rig()
    await one.ask(b'{"model":"m","input":["x", "y"]}')
    other = await one.ask(b'{ "input" : ["x","y"],\n "model":"m" }')
    assert hit(other)
    assert one.origin.seen[0].body == b'{"model":"m","input":["x", "y"]}'


async def test_the_upstream_gets_the_clients_own_bytes(rig: MakeRig) -> None:
    """Target, header names and body go on as they came, however odd."""
    one = await rig()
    body = b'{"model":"m",  "input":"\\u00e9", "zzz":[1, 2] }'
    await one.ask(body, "X-ODD-cAsE: 1", target="/v1/embeddings?b=%2e&a=1")
    (seen,) = one.origin.seen
    assert seen.body == body
    assert seen.target == b"/v1/embeddings?b=%2e&a=1"
    assert (b"X-ODD-cAsE", b"1") in seen.headers


@pytest.mark.parametrize(
    "change", [{"input": "other"}, {"encoding_format": "float"}, {"model": "n"}, {"unknown": 0}]
)
async def test_every_parameter_counts(rig: MakeRig, change: dict[str, Any]) -> None:
    """Another value, and a parameter nobody knows, make another question."""
    one = await rig()
    await one.ask()
    assert not hit(await one.ask({**QUESTION, **change}))


async def test_the_target_counts(rig: MakeRig) -> None:
    """A query string more is another question."""
    one = await rig()
    await one.ask()
    assert not hit(await one.ask(target="/v1/embeddings?x=1"))


@pytest.mark.parametrize(
    "body",
    [b'{"model":"m","model":"n","input":"x"}', b'{"input":"\\ud800"}', b'{"input":NaN}', b"junk",
     b'{"input":' + b"[" * 300 + b"]" * 300 + b"}"],
)  # fmt: skip
async def test_what_has_no_one_meaning_passes_uncached(rig: MakeRig, body: bytes) -> None:
    """It reaches the upstream as it is, each time, and is no error of remora's."""
    one = await rig(when="always")
    for turn in (1, 2):
        answer = await one.ask(body)
        assert answer.status == 200
        assert one.origin.count == turn
        assert one.origin.seen[-1].body == body


@pytest.mark.parametrize(
    "answer",
    [
        ok(b'{"error":{}}', JSON, status="500 Internal Server Error"),
        ok(b"{}", JSON, status="503 Service Unavailable"),
        ok(b"{}", JSON, status="400 Bad Request"),
        ok(b"{}", JSON, status="404 Not Found"),
        ok(b"{}", JSON, status="429 Too Many Requests"),
        ok(b"{}", JSON, status="201 Created"),
        ok(b"{}", JSON, "Set-Cookie: a=b"),
        ok(b"{}", JSON, "Vary: *"),
        head("HTTP/1.1 204 No Content"),
    ],
)
async def test_no_other_answer_than_a_plain_200_is_stored(rig: MakeRig, answer: bytes) -> None:
    """Errors, other statuses, and what sets a cookie are told to their own client alone."""
    one = await rig(answer)
    await twice(one)
    assert one.origin.count == 2


async def test_a_sampling_call_is_not_cached(rig: MakeRig) -> None:
    """Where the answer may differ each time, each time is asked; it passes untouched."""
    one = await rig()
    sampled = {"model": "m", "temperature": 0.7, "messages": []}
    first, _ = await twice(one, sampled, CHAT)
    assert one.origin.count == 2
    assert first["cache-status"] is None


async def test_a_sampling_call_is_cached_where_the_file_says_so(rig: MakeRig) -> None:
    """`when: always` takes every call for one that gives the same answer again."""
    one = await rig(when="always")
    await twice(one, {"model": "m", "temperature": 0.7, "messages": []}, CHAT)
    assert one.origin.count == 1


@pytest.mark.parametrize(
    "body",
    [{"messages": [], "temperature": 0}, {"messages": [], "seed": 7, "temperature": 0.9}],
)
async def test_a_call_without_chance_is_cached(rig: MakeRig, body: dict[str, Any]) -> None:
    """Temperature 0, or a seed, makes a chat call one that gives the same answer again."""
    one = await rig()
    await twice(one, body, CHAT)
    assert one.origin.count == 1


async def test_a_whole_stream_is_stored(rig: MakeRig) -> None:
    """A stream that came to its terminal event is played back, event for event."""
    one = await rig(sse(WORD, WORD, DONE))
    first, second = await twice(one, STREAM, CHAT)
    assert one.origin.count == 1
    assert first.body == second.body == WORD + WORD + DONE
    assert second["content-type"] == "text/event-stream"
    assert second.chunked


@pytest.mark.parametrize(
    "events",
    [
        (WORD,),
        (),
        (WORD, b'data: {"error":{"message":"out of memory"}}\n\n', DONE),
        (WORD, b'data: {"error":{"message":"out of memory"}}\n\n'),
        (WORD, b"data: [DON"),
        (WORD, b": [DONE]\n\n"),
        (WORD, b"event: [DONE]\n\n"),
    ],
)
async def test_no_other_stream_is_stored(rig: MakeRig, events: tuple[bytes, ...]) -> None:
    """Without its terminal event, or with an error in it, a stream is no whole answer."""
    one = await rig(sse(*events))
    await twice(one, STREAM, CHAT)
    assert one.origin.count == 2


async def test_a_terminal_event_of_the_files_own_counts(rig: MakeRig) -> None:
    """`stream_ends` names the data of further terminal events; `close` takes any whole body."""
    one = await rig(sse(WORD, b"data: fin\n\n"), stream_ends=["fin"])
    await twice(one, STREAM, CHAT)
    assert one.origin.count == 1
    other = await rig(sse(WORD), stream_ends=["close"])
    await twice(other, STREAM, CHAT)
    assert other.origin.count == 1


@pytest.mark.parametrize("body", [STREAM, {"messages": [], "temperature": 0}])
@pytest.mark.parametrize(
    "start",
    [
        SSE_HEAD + chunk(WORD),
        SSE_HEAD + chunk(WORD) + chunk(DONE),
        CHUNKED_HEAD + chunk(b'{"a":1}'),
        head("HTTP/1.1 200 OK", "Content-Length: 9", JSON) + b'{"a":1}',
        head("HTTP/1.1 200 OK", JSON, "Connection: close") + b'{"a":1',
    ],
)
async def test_a_partial_answer_is_not_stored(rig: MakeRig, start: bytes, body: Any) -> None:
    """What broke off, however much had come, is told to nobody else."""

    async def breaks(peer: Peer, _: Message) -> None:
        peer.send(start)
        await peer.flush()
        peer.close()

    one = await rig(breaks)
    for turn in (1, 2):
        client = await one.client()
        client.ask("POST", CHAT, "Connection: close", body=written(body))
        await client.ended()
        assert one.origin.count == turn


async def test_an_answer_that_ends_with_its_connection_is_stored_if_it_is_whole(
    rig: MakeRig,
) -> None:
    """HTTP/1.0 servers frame nothing: an answer of theirs is kept where it is whole JSON."""

    async def closes(peer: Peer, _: Message) -> None:
        peer.send(head("HTTP/1.1 200 OK", JSON, "Connection: close") + b'{"a":1}')
        await peer.flush()
        peer.close()

    one = await rig(closes)
    assert (await one.ask()).body == b'{"a":1}'
    assert (await one.ask()).body == b'{"a":1}'
    assert one.origin.count == 1


async def test_a_large_answer_passes_whole_and_is_not_stored(rig: MakeRig) -> None:
    """Over `max_entry_bytes` an answer reaches its client, in one piece or in many."""
    big = b'"' + b"x" * 300_000 + b'"'

    async def in_pieces(peer: Peer, _: Message) -> None:
        peer.send(CHUNKED_HEAD)
        for at in range(0, len(big), 50_000):
            peer.send(chunk(big[at : at + 50_000]))
            await peer.flush()
        peer.send(LAST_CHUNK)

    one = await rig(ok(big, JSON), ok(big, JSON), in_pieces, in_pieces, max_entry_bytes=2000)
    for turn in range(1, 5):
        assert (await one.ask()).body == big
        assert one.origin.count == turn


async def test_a_large_request_passes_and_is_not_looked_up(rig: MakeRig) -> None:
    """Over `max_request_bytes` a request is none of the cache's business."""
    one = await rig(max_request_bytes=100)
    await twice(one, {"input": "x" * 100})
    assert one.origin.count == 2


async def test_a_compressed_request_passes(rig: MakeRig) -> None:
    """What cannot be read cannot be compared."""
    one = await rig()
    for _ in range(2):
        await one.ask(None, "Content-Encoding: gzip")
    assert one.origin.count == 2


async def test_a_compressed_answer_goes_to_those_who_can_read_it(rig: MakeRig) -> None:
    """An encoded answer serves a client of the same Accept-Encoding, and asks anew for another."""

    def answer(_: Peer, message: Message) -> bytes:
        if "gzip" in (message["accept-encoding"] or ""):
            return ok(b"\x1f\x8b...", JSON, "Content-Encoding: gzip")
        return ok(b"{}", JSON)

    one = await rig(answer)
    packed = await one.ask(None, "Accept-Encoding: gzip")
    assert packed["content-encoding"] == "gzip"
    assert (await one.ask(None, "Accept-Encoding: gzip")).body == packed.body
    assert one.origin.count == 1
    plain = await one.ask()
    assert plain["content-encoding"] is None and plain.body == b"{}"


async def test_trailers_are_kept(rig: MakeRig) -> None:
    """Trailers of a stored answer come again."""
    last = b"0\r\nX-Sum: 7\r\n\r\n"
    one = await rig(CHUNKED_HEAD + chunk(b"{}") + last)
    first, second = await twice(one)
    assert first.trailers == second.trailers == [(b"X-Sum", b"7")]
    assert one.origin.count == 1


async def test_an_answer_is_of_its_routes_upstream(serve: Serve, upstream: UpstreamMaker) -> None:
    """Two routes that one chain serves never answer with each other's."""
    a, b = Origin(ok(b'"a"')), Origin(ok(b'"b"'))
    first, second = await upstream(a), await upstream(b)
    running = await serve(
        first,
        upstreams={"default": {"endpoints": [first.url]}, "other": {"endpoints": [second.url]}},
        chain=[{CACHE: {}}],
        routes=[
            {"match": {"path": "/v1/embeddings", "host": "b.test"}, "upstream": "other"},
            {"match": {"path": "/v1/embeddings"}, "upstream": "default"},
        ],
    )
    bodies = []
    for host in ("a.test", "b.test"):
        client = await running.connect()
        client.send(
            f"POST /v1/embeddings HTTP/1.1\r\nHost: {host}\r\nContent-Length: 13\r\n\r\n"
            '{"input":"x"}'.encode()
        )
        bodies.append((await client.answer()).body)
    assert bodies == [b'"a"', b'"b"']


async def test_an_ended_answer_is_stored_though_its_client_has_gone(rig: MakeRig) -> None:
    """A client that leaves with its answer's last byte on the way costs nobody the answer."""
    gone = asyncio.Event()

    async def waits(peer: Peer, _: Message) -> None:
        peer.send(CHUNKED_HEAD + chunk(b"{"))
        await gone.wait()
        peer.send(chunk(b"}") + LAST_CHUNK)

    one = await rig(waits)
    staying, leaving = await one.client(), await one.client()
    for client in (staying, leaving):
        client.ask("POST", "/v1/embeddings", body=written(QUESTION))
        await client.head()
    leaving.abort()
    gone.set()
    assert await staying.chunks() == b"{}"
    assert (await one.ask()).body == b"{}"
    assert one.origin.count == 1
    with pytest.raises(Gone):
        await leaving.exactly(1000)


async def test_what_tells_of_one_call_is_not_given_again(rig: MakeRig) -> None:
    """Its id, how much its client might still ask, and what other layers did, is in no stored
    answer.
    """
    own = ("RateLimit: x", "RateLimit-Policy: y", "X-RateLimit-Remaining-Requests: 3",
           "x-remora-attempts: 2", "X-Request-ID: of the first")  # fmt: skip
    one = await rig(ok(b"{}", "X-Kept: z", *own, "Content-Type: application/json"))
    first = await one.ask()
    again = await one.ask()
    assert set(first.names) - set(again.names) == {
        "ratelimit", "ratelimit-policy", "x-ratelimit-remaining-requests", "x-remora-attempts",
        "x-request-id",
    }  # fmt: skip
    assert again["x-kept"] == "z"
