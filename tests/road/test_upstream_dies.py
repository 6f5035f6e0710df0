"""An upstream that fails in the middle: never a false 200, never a 502 behind a first byte."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from proxy.errors import UpstreamClosed
from tests.conftest import Serve, UpstreamMaker
from tests.road.layers import Witness
from tests.road.scripted import Peer, Script
from tests.road.wire import CHUNKED_HEAD, LAST_CHUNK, SSE_HEAD, Gone, chunk, head, ok

WITNESS = ["tests.road.layers:Witness"]
EVENT = b'data: {"choices": []}\n\n'


def dying(*pieces: bytes, reset: bool = False) -> Script:
    """Answers with these pieces, each once the client has read the one before, then dies."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            peer.send(piece)
            await read.wait()
            read.clear()
        if reset:
            peer.abort()

    read = asyncio.Event()
    script.read = read  # type: ignore[attr-defined]
    return script


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        ("/v1/completions", {"error": {"message": str, "type": str, "param": None, "code": str}}),
        ("/generate", {"error": str, "error_type": str, "code": str}),
        ("/v2/models/m/infer", {"error": str}),
    ],
)
async def test_before_the_head(
    serve: Serve, upstream: UpstreamMaker, target: str, shape: dict[str, Any]
) -> None:
    """An upstream that closes without an answer is 502, told as its API tells errors, and the
    client's connection is kept.
    """

    async def script(peer: Peer) -> None:
        await peer.request()

    client = await (await serve(await upstream(script))).connect()
    for _ in range(2):
        answer = await client.exchange("POST", target, body=b"{}")
        assert (answer.status, answer["x-remora-error"]) == (502, "upstream_closed")
        assert answer["content-type"] == "application/json"
        told = json.loads(answer.body)
        assert "closed the connection" in str(told["error"])
        for key, kind in shape.items():
            if isinstance(kind, dict):
                assert told[key].keys() == kind.keys()
            else:
                assert isinstance(told[key], kind)


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize(
    "pieces",
    [
        [chunk(EVENT)],
        [chunk(EVENT), chunk(EVENT[:-1]), chunk(EVENT[-1:])],
        [chunk(EVENT.replace(b"\n", b"\r\n"))],
        [chunk(EVENT[:-1]), chunk(b"\n")],
        [],
    ],
    ids=["an event", "an event in two", "CRLF", "its blank line apart", "no event yet"],
)
async def test_event_stream_at_a_boundary(
    serve: Serve, upstream: UpstreamMaker, pieces: list[bytes], reset: bool
) -> None:
    """A stream that breaks off between two events ends with an error event in the API's dialect,
    well framed; then the connection closes. The Outcome has the error, and nobody has cancelled.
    """
    script = dying(SSE_HEAD, *pieces, reset=reset)
    running = await serve(await upstream(script), chain=WITNESS)
    client = await running.connect()
    client.ask("POST", "/v1/completions", body=b'{"stream": true}')
    assert (await client.head()).status == 200
    script.read.set()  # type: ignore[attr-defined]
    for piece in pieces:
        assert chunk(await client.chunk()) == piece
        script.read.set()  # type: ignore[attr-defined]
    last = await client.chunk()
    assert last.startswith(b"data: ") and last.endswith(b"\n\n")
    assert json.loads(last[6:])["error"]["code"] == "upstream_closed"
    assert await client.chunk() == b""
    assert await client.ended() == b""
    (outcome,) = running.layer(Witness).outcomes
    assert isinstance(outcome.error, UpstreamClosed)
    assert (outcome.status, outcome.cancelled) == (200, False)


async def test_event_stream_in_tgi(serve: Serve, upstream: UpstreamMaker) -> None:
    """The error event speaks TGI where TGI is spoken."""
    script = dying(SSE_HEAD + chunk(b"data:{}\n\n"))
    client = await (await serve(await upstream(script))).connect()
    client.ask("POST", "/generate_stream", body=b"{}")
    await client.head()
    assert await client.chunk() == b"data:{}\n\n"
    script.read.set()  # type: ignore[attr-defined]
    assert json.loads((await client.chunk())[6:])["error_type"] == "incomplete_generation"
    assert await client.chunk() == b""


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize(
    "sent",
    [
        SSE_HEAD + chunk(EVENT + EVENT[:7]),
        SSE_HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n") + chunk(b"\n\n"),
        CHUNKED_HEAD,
        CHUNKED_HEAD + chunk(b"half\n\n"),
        head("HTTP/1.1 200 OK", "Content-Length: 100"),
        head("HTTP/1.1 200 OK", "Content-Length: 100") + b"half\n\n",
        head("HTTP/1.1 200 OK", "Content-Length: 100", "Content-Type: text/event-stream") + EVENT,
    ],
    ids=["amid an event", "compressed events", "chunked", "chunked half",
         "fixed", "fixed half", "fixed events"],
)  # fmt: skip
async def test_aborted(serve: Serve, upstream: UpstreamMaker, sent: bytes, reset: bool) -> None:
    """Any other answer that breaks off is cut: no last chunk, no full length, no error event."""
    script = dying(sent, reset=reset)
    running = await serve(await upstream(script), chain=WITNESS)
    client = await running.connect()
    client.ask("POST", "/v1/completions", body=b"{}")
    await client.head()
    script.read.set()  # type: ignore[attr-defined]
    body = await client.ended()
    assert not body.endswith(LAST_CHUNK)
    assert len(body) < 100
    assert b"upstream_closed" not in body
    (outcome,) = running.layer(Witness).outcomes
    assert isinstance(outcome.error, UpstreamClosed)
    assert not outcome.cancelled


async def test_until_close_and_reset(serve: Serve, upstream: UpstreamMaker) -> None:
    """A body that ends with the connection is whole when that is closed, and cut when reset."""
    script = dying(head("HTTP/1.1 200 OK") + b"half", reset=True)
    client = await (await serve(await upstream(script))).connect()
    client.ask()
    await client.head()
    assert await client.chunk() == b"half"
    script.read.set()  # type: ignore[attr-defined]
    with pytest.raises(Gone):
        await client.chunk()


async def test_bad_bytes_amid_an_answer(serve: Serve, upstream: UpstreamMaker) -> None:
    """A chunk size that is none ends the answer like a dead upstream, and its connection."""
    script = dying(CHUNKED_HEAD + chunk(b"fine"), b"zz\r\n")
    running = await serve(await upstream(script), chain=WITNESS)
    client = await running.connect()
    client.ask()
    await client.head()
    assert await client.chunk() == b"fine"
    script.read.set()  # type: ignore[attr-defined]
    assert await client.ended() == b""
    (outcome,) = running.layer(Witness).outcomes
    assert outcome.error is not None and outcome.error.code == "upstream_protocol_error"


async def test_the_next_client_is_served(serve: Serve, upstream: UpstreamMaker) -> None:
    """After every kind of death the next request is answered on a new connection."""
    deaths = [b"", b"HTTP/1.1 200", CHUNKED_HEAD, CHUNKED_HEAD + b"5\r\nhe", b"nonsense\r\n\r\n"]

    async def script(peer: Peer) -> None:
        while True:
            message = await peer.request()
            if message.target == b"/die":
                peer.send(deaths[peer.number])
                return
            peer.send(ok())

    server = await upstream(script)
    running = await serve(server)
    for number in range(len(deaths)):
        victim = await running.connect()
        victim.ask("GET", "/die")
        await victim.some()
        assert server.made == number + 1
        victim.abort()
    assert (await (await running.connect()).exchange()).body == b"ok"
