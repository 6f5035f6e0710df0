"""HTTP through the whole chain: what is not a model's is passed as it is."""

from __future__ import annotations

import asyncio

import pytest
import websockets

from middleware.concurrency import Concurrency
from tests.chain.asking import JSON, about, auth, bearer, is_about
from tests.chain.conftest import Held, MakeModel, Serve
from tests.chain.model import page
from tests.chain.rig import Running, whole
from tests.road.wire import Client, head, ok, soon, until

ANNA = bearer("anna")


async def connected(remora: Running) -> Client:
    return await remora.connect()


def permits(remora: Running) -> int:
    (one,) = remora.layer(Concurrency).permits.values()
    return int(one.in_flight)


def chain(**keys: dict[str, object]) -> list[dict[str, object]]:
    return whole(auth=auth(anna={})["auth"], **keys)


async def test_trailers_of_a_request(serve: Serve, model: MakeModel) -> None:
    """They reach the server."""
    server = await model()
    remora = await serve([server], chain())
    client = await connected(remora)
    client.send(head("POST /sum HTTP/1.1", "Host: a", ANNA, "Transfer-Encoding: chunked",
                     "Trailer: x-sum") + b"3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n")  # fmt: skip
    assert (await client.answer()).status == 200
    (asked,) = server.asked
    assert (asked.body, asked.trailers) == (b"abc", [(b"x-sum", b"6")])


async def test_trailers_of_an_answer(serve: Serve, held: Held) -> None:
    """They reach the client."""
    remora = await serve([held], chain())
    client = await connected(remora)
    client.ask("GET", "/sum", ANNA, "TE: trailers")
    await (await held.asked()).send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                    b"2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n")  # fmt: skip
    answer = await client.answer()
    assert answer.body == b"ok" and answer.trailers == [(b"x-sum", b"7")]


async def test_head(serve: Serve, model: MakeModel) -> None:
    """The head of what GET would bring, and nothing behind it."""
    remora = await serve([await model()], chain())
    client = await connected(remora)
    answer = await client.exchange("HEAD", "/p", ANNA, "Accept-Encoding: gzip")
    assert answer.status == 200 and answer.body == b""
    again = await client.exchange("GET", "/p", ANNA)
    assert again.body == page("GET", "/p", b"")


async def test_not_modified(serve: Serve, held: Held) -> None:
    """A server's 304 to a page goes through; the cache's own to a call of a model is weak where
    the answer would have been converted.
    """
    remora = await serve([held], chain())
    client = await connected(remora)
    client.ask("GET", "/p", ANNA, 'If-None-Match: "v1"')
    asked = await held.asked()
    assert asked.header(b"if-none-match") == b'"v1"'
    await asked.send(b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\n\r\n')
    assert (await client.answer("HEAD")).status == 304
    fields = (JSON, ANNA, "Accept: application/msgpack")
    client.ask("POST", "/v1/embeddings", *fields, body=about("a"))
    await (await held.asked()).answer(b'{"data":[]}', JSON.encode())
    assert (await client.answer()).status == 200
    tag = (await client.exchange("POST", "/v1/embeddings", *fields, body=about("a")))["etag"]
    assert tag is not None and tag.startswith("W/")
    client.ask("POST", "/v1/embeddings", *fields, f"If-None-Match: {tag}", body=about("a"))
    assert (await client.answer("HEAD")).status == 304
    assert (await client.exchange("GET", "/nowhere")).status == 401
    assert held.count == 2


async def test_a_websocket(serve: Serve, model: MakeModel) -> None:
    """Messages both ways, one permit while it is open, none behind it."""

    async def echo(socket: websockets.ServerConnection) -> None:
        async for message in socket:
            await socket.send(message[::-1])

    async with websockets.serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        one = await model()
        await one.stop()
        one.url = f"http://127.0.0.1:{port}"
        remora = await serve([one], chain())
        host, to = remora.address
        fields = {"Authorization": ANNA.partition(": ")[2]}
        async with websockets.connect(f"ws://{host}:{to}/w", additional_headers=fields) as socket:
            for text in ("abc", "x" * 100_000):
                await socket.send(text)
                assert await soon(socket.recv()) == text[::-1]
            assert permits(remora) == 1
        await until(lambda: permits(remora) == 0)
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(f"ws://{host}:{to}/w")


async def test_another_protocol(serve: Serve, model: MakeModel) -> None:
    """Bytes both ways behind an upgrade to whatever; the server's end is the client's."""
    server = await model()
    remora = await serve([server], chain())
    client = await connected(remora)
    client.send(head("POST /t HTTP/1.1", "Host: a", ANNA, "Connection: upgrade", "Upgrade: shout",
                     "Accept-Encoding: gzip", "Accept: application/msgpack"))  # fmt: skip
    answer = await client.head()
    assert (answer.status, answer["upgrade"]) == (101, "shout")
    client.send(b"hello")
    assert await client.exactly(5) == b"HELLO"
    assert permits(remora) == 1
    await server.stop()
    assert await client.ended() == b""
    await until(lambda: permits(remora) == 0)


@pytest.mark.parametrize("target", ["/v1/embeddings", "/files/1"])
async def test_continue(serve: Serve, model: MakeModel, target: str) -> None:
    """A client that waits for it is told to go on, once, whether its body is read or streams."""
    server = await model()
    remora = await serve([server], chain())
    client = await connected(remora)
    body = about("a", "b")
    client.send(head(f"POST {target} HTTP/1.1", "Host: a", ANNA, JSON, "Expect: 100-continue",
                     f"Content-Length: {len(body)}"))  # fmt: skip
    assert (await client.head()).status == 100
    client.send(body)
    answer = await client.answer()
    assert server.asked[0].body == body
    if target == "/files/1":
        assert answer.body == page("POST", target, body)
    else:
        assert is_about(answer, "a", "b")


async def test_no_continue_for_a_stranger(serve: Serve, model: MakeModel) -> None:
    """Whoever is refused is not asked for his body."""
    remora = await serve([await model()], chain())
    client = await connected(remora)
    client.send(head("POST /v1/embeddings HTTP/1.1", "Host: a", "Expect: 100-continue",
                     "Content-Length: 10"))  # fmt: skip
    assert (await client.head()).status == 401


async def test_a_large_body_streams(serve: Serve, held: Held) -> None:
    """What no layer reads is not kept: the server gets the beginning before the client sends the
    rest.
    """
    remora = await serve([held], chain())
    client = await connected(remora)
    size = 20 * 1024 * 1024
    client.send(head("PUT /blob HTTP/1.1", "Host: a", ANNA, f"Content-Length: {size}") + b"begin")
    reader = asyncio.ensure_future(held.asked())
    await until(lambda: held._connections)
    assert permits(remora) == 1
    client.send(bytes(size - 5))
    asked = await soon(reader)
    assert len(asked.body) == size and asked.body.startswith(b"begin")
    await asked.send(ok(b"done"))
    assert (await client.answer()).body == b"done"


async def test_http_1_0(serve: Serve, model: MakeModel) -> None:
    """A client of HTTP/1.0 gets batches, hits and pages without chunks."""
    remora = await serve([await model()], chain())
    for _ in range(2):
        client = await connected(remora)
        fields = (JSON, ANNA, "Accept-Encoding: gzip")
        body = about("a", "b")
        answer = await client.exchange("POST", "/v1/embeddings", *fields, body=body, version="1.0")
        assert answer.status == 200 and answer["transfer-encoding"] is None
    client = await connected(remora)
    answer = await client.exchange("GET", "/p", ANNA, version="1.0")
    assert answer.body == page("GET", "/p", b"")
