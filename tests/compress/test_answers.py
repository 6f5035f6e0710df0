"""Answers on their way to a client that takes them compressed."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from middleware.compress import Compress
from middleware.compress.config import CompressConfig
from middleware.compress.layer import AT_ONCE
from tests.compress.rig import COMPRESS, ENCODE, JSON, LONG, Incremental, Server, decode
from tests.conftest import Serve, UpstreamMaker
from tests.road.scripted import Peer
from tests.road.wire import Message, chunk, head, ok

CODINGS = ("gzip", "br", "zstd")


async def ask(
    serve: Serve, upstream: UpstreamMaker, answer: bytes, *fields: str, method: str = "GET",
    **keys: Any,
) -> Message:  # fmt: skip
    running = await serve(await upstream(Server(answer)), chain=[{COMPRESS: keys}])
    client = await running.connect()
    return await client.exchange(method, "/v1/models", *fields)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_comes_back_as_it_was(
    serve: Serve, upstream: UpstreamMaker, coding: str, streamed: bool
) -> None:
    """Whole or in pieces, shorter, and the same when it is read."""
    server = Server()
    if streamed:
        server.answer = head("HTTP/1.1 200 OK", JSON, "transfer-encoding: chunked")
        server.answer += b"".join(chunk(LONG[at : at + 999]) for at in range(0, len(LONG), 999))
        server.answer += chunk(b"")
    running = await serve(await upstream(server), chain=[{COMPRESS: {}}])
    client = await running.connect()
    answer = await client.exchange("GET", "/x", f"accept-encoding: {coding}")
    assert answer["content-encoding"] == coding
    assert answer["vary"] == "Accept-Encoding"
    assert decode(coding, answer.body) == LONG
    assert len(answer.body) < len(LONG) / 10
    assert server.asked[0]["accept-encoding"] is None
    layer = running.layer(Compress)
    assert layer._bytes[("/*", coding, "in")] == len(LONG)
    assert layer._bytes[("/*", coding, "out")] == len(answer.body)


async def test_a_large_answer_is_compressed_off_the_loop(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """A body over AT_ONCE goes to a thread and comes back whole."""
    long = orjson.dumps({"text": [str(number) for number in range(AT_ONCE // 4)]})
    assert len(long) > AT_ONCE
    answer = await ask(serve, upstream, ok(long, JSON), "accept-encoding: gzip")
    assert decode("gzip", answer.body) == long


PLAIN: list[tuple[bytes, tuple[str, ...]]] = [
    (ok(LONG, JSON), ()),
    (ok(LONG, JSON), ("accept-encoding: identity",)),
    (ok(LONG, JSON), ("accept-encoding: gzip;q=0, deflate",)),
    (ok(LONG, JSON), ("accept-encoding: gzip;q=0.5, identity",)),
    (ok(LONG[:1023], JSON), ("accept-encoding: gzip",)),
    (ok(LONG, "content-type: image/png"), ("accept-encoding: gzip",)),
    (ok(LONG, "content-type: application/octet-stream"), ("accept-encoding: gzip",)),
    (ok(LONG), ("accept-encoding: gzip",)),
    (ok(LONG, JSON, "cache-control: no-transform"), ("accept-encoding: gzip",)),
    (ok(LONG, JSON, "repr-digest: sha-256=:x:"), ("accept-encoding: gzip",)),
    (
        ok(LONG, JSON, "content-range: bytes 0-9/10", status="206 Partial Content"),
        ("accept-encoding: gzip",),
    ),
    (ok(LONG, JSON), ("accept-encoding: gzip", "cookie: session=1")),
    (ok(LONG, JSON), ("accept-encoding: gzip", "Authorization: Basic eDp5")),
    (ok(LONG, JSON), ("accept-encoding: gzip", "authorization: basic\teDp5")),
    (ok(LONG, JSON), ("accept-encoding: gzip", 'Authorization: Digest username="x"')),
    (ok(LONG, JSON), ("accept-encoding: gzip", "Authorization: Negotiate YII")),
    (ok(LONG, JSON), ("accept-encoding: gzip", "Authorization: NTLM TlR")),
    (ok(LONG, JSON, "set-cookie: session=1"), ("accept-encoding: gzip",)),
]


@pytest.mark.parametrize(("answer", "fields"), PLAIN)
async def test_what_goes_as_it_is(
    serve: Serve, upstream: UpstreamMaker, answer: bytes, fields: tuple[str, ...]
) -> None:
    """Not asked for, too short, no text, forbidden, or with what a browser sends unasked."""
    got = await ask(serve, upstream, answer, *fields)
    assert got["content-encoding"] is None
    assert got.body == answer.partition(b"\r\n\r\n")[2]
    assert got["content-length"] == str(len(got.body))


async def test_cookies_may_be_said_to_be_no_matter(serve: Serve, upstream: UpstreamMaker) -> None:
    """`cookies: true` compresses what would else go plain."""
    fields = ("accept-encoding: gzip", "cookie: session=1")
    got = await ask(serve, upstream, ok(LONG, JSON), *fields, cookies=True)
    assert got["content-encoding"] == "gzip"


async def test_an_answer_that_is_encoded_already_is_left(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """The server's own coding passes byte for byte, also where it is long enough for another."""
    encoded = ENCODE["gzip"](random.Random(1).randbytes(2 * len(LONG)))
    answer = ok(encoded, JSON, "content-encoding: gzip")
    got = await ask(serve, upstream, answer, "accept-encoding: br, gzip")
    assert (got["content-encoding"], got.body) == ("gzip", encoded)


async def test_the_head_tells_of_other_bytes(serve: Serve, upstream: UpstreamMaker) -> None:
    """A strong etag is weakened, ranges are not offered, Vary keeps what it had."""
    answer = ok(LONG, JSON, 'etag: "a"', "accept-ranges: bytes", "vary: Origin")
    got = await ask(serve, upstream, answer, "accept-encoding: gzip")
    assert (got["etag"], got["accept-ranges"]) == ('W/"a"', None)
    assert [value for name, value in got.headers if name.lower() == b"vary"] == [
        b"Origin", b"Accept-Encoding",
    ]  # fmt: skip


@pytest.mark.parametrize("whole", [True, False])
async def test_no_trailers_of_bytes_that_are_gone(
    serve: Serve, upstream: UpstreamMaker, whole: bool
) -> None:
    """They may sign them (RFC 9530): they come with the answer in clear alone."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(head("HTTP/1.1 200 OK", JSON, "transfer-encoding: chunked") + chunk(LONG))
            if not whole:
                await go_on.wait()
            peer.send(b"0\r\ncontent-digest: x\r\n\r\n")

    running = await serve(await upstream(script), chain=[{COMPRESS: {}}])
    client = await running.connect()
    for coding, trailers in (("gzip", []), ("identity", [(b"content-digest", b"x")])):
        client.ask("GET", "/v1/x", f"accept-encoding: {coding}")
        got = await client.head()
        go_on.set()
        assert decode(got["content-encoding"], await client.chunks()) == LONG
        assert client.trailers == trailers


async def test_a_head_request_has_no_body(serve: Serve, upstream: UpstreamMaker) -> None:
    """Its head is that of a GET, without a length: nobody has compressed it. In clear the length
    is the server's.
    """
    for length in ("content-length: 9999", "x-no: length"):
        script = head("HTTP/1.1 200 OK", JSON, 'etag: "a"', "accept-ranges: bytes", length)
        got = await ask(serve, upstream, script, "accept-encoding: gzip", method="HEAD")
        assert (got.body, got["content-encoding"], got["vary"]) == (b"", "gzip", "Accept-Encoding")
        assert (got["etag"], got["content-length"], got["accept-ranges"]) == ('W/"a"', None, None)
    script = head("HTTP/1.1 200 OK", JSON, 'etag: "a"', "content-length: 9999")
    for fields in ((), ("accept-encoding: gzip", "cookie: a=b")):
        got = await ask(serve, upstream, script, *fields, method="HEAD")
        assert (got["etag"], got["content-length"], got["content-encoding"]) == (
            '"a"',
            "9999",
            None,
        )
    script = head("HTTP/1.1 200 OK", JSON, "content-length: 1023")
    got = await ask(serve, upstream, script, "accept-encoding: gzip", method="HEAD")
    assert (got["content-length"], got["content-encoding"]) == ("1023", None)


@pytest.mark.parametrize("length", [False, True])
@pytest.mark.parametrize("coding", CODINGS)
async def test_each_event_is_here_when_it_was_sent(
    serve: Serve, upstream: UpstreamMaker, coding: str, length: bool
) -> None:
    """The head is held back by nothing, and no event waits for the next one; nor where the server
    knows how long its stream is.
    """
    go_on = asyncio.Event()
    framed = "content-length: 2000" if length else "transfer-encoding: chunked"

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(head("HTTP/1.1 200 OK", "content-type: text/event-stream", framed))
        for number in range(3):
            await go_on.wait()
            go_on.clear()
            event = b"data: %d\n\n" % number
            peer.send(event if length else chunk(event))
        await go_on.wait()
        peer.send(b"\n" * (2000 - 27) if length else chunk(b""))

    running = await serve(await upstream(script), chain=[{COMPRESS: {}}])
    client = await running.connect()
    client.ask("GET", "/v1/x", f"accept-encoding: {coding}")
    got = await client.head()
    assert got["content-encoding"] == coding
    read = Incremental(coding)
    for number in range(3):
        go_on.set()
        assert read.feed(await client.chunk()) == b"data: %d\n\n" % number
    go_on.set()
    assert read.feed(await client.chunks()).strip() == b""


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_stream_that_fails_says_so_in_its_coding(
    serve: Serve, upstream: UpstreamMaker, coding: str
) -> None:
    """The error event is compressed like the others, and the body is whole."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(head("HTTP/1.1 200 OK", "content-type: text/event-stream",
                       "transfer-encoding: chunked") + chunk(b"data: 1\n\n"))  # fmt: skip
        await peer.flush()
        peer.abort()

    running = await serve(await upstream(script), chain=[{COMPRESS: {}}])
    client = await running.connect()
    answer = await client.exchange("GET", "/v1/x", f"accept-encoding: {coding}")
    events = decode(coding, answer.body).split(b"\n\n")
    assert events[0] == b"data: 1"
    assert b"upstream_closed" in events[1]


async def test_a_json_stream_that_fails_is_cut(serve: Serve, upstream: UpstreamMaker) -> None:
    """No end is made up: the client sees that the answer is not whole."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(head("HTTP/1.1 200 OK", JSON, "transfer-encoding: chunked") + chunk(b'{"a":'))
        await peer.flush()
        peer.abort()

    running = await serve(await upstream(script), chain=[{COMPRESS: {}}])
    client = await running.connect()
    client.ask("GET", "/x", "accept-encoding: gzip")
    await client.head()
    assert not (await client.ended()).endswith(b"0\r\n\r\n")


async def test_the_cache_holds_one_form(serve: Serve, upstream: UpstreamMaker) -> None:
    """A client that takes gzip, one that takes br and one that takes neither share an answer."""
    server = Server()
    cache = {"middleware.cache:Cache": {"ttl": 60}}
    running = await serve(await upstream(server), chain=[{COMPRESS: {}}, cache])
    body = orjson.dumps({"prompt": "x", "temperature": 0})
    for coding in ("gzip", "br", "identity"):
        client = await running.connect()
        fields = (f"accept-encoding: {coding}", JSON)
        got = await client.exchange("POST", "/v1/completions", *fields, body=body)
        assert decode(got["content-encoding"], got.body) == LONG
    assert len(server.asked) == 1


async def test_not_modified_has_the_etag_of_what_was_compressed(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """A 304 tells the tag of the 200: weak for a client that gets a coding, else as it is, as for
    one that has the strong tag, say of a picture. It varies in any case (RFC 9110 section 15.4.5).
    """
    answer = head("HTTP/1.1 304 Not Modified", 'etag: "a"')
    for condition in ('if-none-match: "b", W/"a"', "if-modified-since: x"):
        got = await ask(serve, upstream, answer, "accept-encoding: gzip", condition)
        assert (got.status, got["etag"], got["vary"]) == (304, 'W/"a"', "Accept-Encoding")
    for fields in ((), ("accept-encoding: gzip", "cookie: a=b"), ("accept-encoding: gzip",)):
        got = await ask(serve, upstream, answer, 'if-none-match: "a"', *fields)
        assert (got.status, got["etag"], got["vary"]) == (304, '"a"', "Accept-Encoding")


@pytest.mark.parametrize(
    ("keys", "why"),
    [({"algorithms": ["br", "gzip", "br"]}, "twice"), ({"algorithms": []}, "nothing is left")],
)
def test_a_file_that_makes_no_sense_is_refused(keys: dict[str, Any], why: str) -> None:
    """With what is wrong; without algorithms there are still requests to expand."""
    with pytest.raises(ValidationError, match=why):
        CompressConfig.model_validate(keys)
    assert CompressConfig(algorithms=[], requests="decompress")
