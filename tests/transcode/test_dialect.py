"""Clients of one API, unchanged, on a server that speaks the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import openai
import orjson
import pytest
from aiohttp import web
from huggingface_hub import AsyncInferenceClient

from middleware.transcode.dialect import Dialect, template_of
from proxy.demo import openai_routes, tgi_routes
from proxy.demo.engine import Engine
from proxy.errors import UpstreamClosed
from proxy.exchange import Request, Response
from tests.conftest import Running, Serve, UpstreamMaker
from tests.road.scripted import Peer, answering
from tests.road.wire import chunk, head, ok

TRANSCODE = "middleware.transcode:Transcode"
HI: Any = [{"role": "user", "content": "hi"}]

Start = Callable[[Any], Awaitable[tuple[str, Engine]]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`await start(routes)`: a server with these routes alone, and what it did."""
    runners: list[web.AppRunner] = []

    async def start(routes: Any) -> tuple[str, Engine]:
        engine = Engine()
        app = web.Application()
        app.add_routes(routes.routes(engine))
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}", engine

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def through(serve: Serve, start: Start) -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    """`await through(routes, dialect, **keys)`: a remora before such a server."""

    async def through(routes: Any, dialect: str, **keys: Any) -> Running:
        url, _ = await start(routes)
        return await serve(url, chain=[{TRANSCODE: {"dialect": dialect, **keys}}])

    yield through


Through = Callable[..., Awaitable[Running]]


def refused(running: Running, code: str) -> float | None:
    labels = {"route": "/*", "code": code}
    registry = running.server.telemetry.registry
    return registry.get_sample_value("remora_transcode_refused_total", labels)


async def test_an_openai_client_on_a_server_that_speaks_tgi(through: Through) -> None:
    """Chat and completions, whole and streamed, the list of models, and the errors."""
    running = await through(tgi_routes, "tgi")
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="x", max_retries=0) as user:
        whole = await user.completions.create(model="m", prompt="hello", max_tokens=8)
        assert len(whole.choices[0].text.split()) == 8
        assert whole.choices[0].finish_reason == "length"
        assert whole.usage is not None and whole.usage.completion_tokens == 8
        pieces = [
            event.choices[0].text
            async for event in await user.completions.create(
                model="m", prompt="hello", max_tokens=8, stream=True
            )
        ]
        assert "".join(pieces) == whole.choices[0].text

        chat = await user.chat.completions.create(model="m", messages=HI, max_tokens=8)
        options: Any = {"include_usage": True}
        events = [
            event
            async for event in await user.chat.completions.create(
                model="m", messages=HI, max_tokens=8, stream=True, stream_options=options
            )
        ]
        said = [event.choices[0].delta.content or "" for event in events if event.choices]
        assert "".join(said) == chat.choices[0].message.content
        assert events[-1].usage is not None and events[-1].usage.completion_tokens == 8

        assert [model.id for model in (await user.models.list()).data] == ["remora-stand-in"]
        with pytest.raises(openai.BadRequestError, match="best_of"):
            await user.completions.create(model="m", prompt="x", best_of=2)
        with pytest.raises(openai.BadRequestError, match="max_new_tokens"):
            await user.completions.create(model="m", prompt="x", max_tokens=0)


async def test_a_tgi_client_on_a_server_that_speaks_openai(through: Through) -> None:
    """Whole, with details, and streamed; its answers are what TGI would have said."""
    running = await through(openai_routes, "openai", model="m")
    async with AsyncInferenceClient(model=running.url) as user:
        text = await user.text_generation("hello", max_new_tokens=8)
        assert len(text.split()) == 8
        told = await user.text_generation("hello", max_new_tokens=8, details=True)
        assert (told.generated_text, told.details.generated_tokens) == (text, 8)
        stream = await user.text_generation("hello", max_new_tokens=8, stream=True, details=True)
        events = [event async for event in stream]
        assert "".join(event.token.text for event in events if not event.token.special) == text
        assert events[-1].generated_text == text
        assert events[-1].details.finish_reason == "length"


async def test_other_calls_pass_untouched(through: Through) -> None:
    """What the server knows by itself reaches it byte for byte."""
    running = await through(tgi_routes, "tgi")
    client = await running.connect()
    body = b'{ "inputs": "x", "parameters": {"max_new_tokens": 1} }'
    answer = await client.exchange("POST", "/generate", body=body)
    assert "generated_text" in orjson.loads(answer.body)
    assert (await client.exchange("GET", "/info")).status == 200


async def test_a_stream_that_dies_is_told_in_the_clients_words(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """The server breaks off, or ends too early: an error event of the client's API, no [DONE]."""

    seen = asyncio.Event()

    async def script(peer: Peer) -> None:
        asked = await peer.request()
        assert asked.target == b"/generate_stream"
        token = {"id": 1, "text": " a", "logprob": 0, "special": False}
        event = orjson.dumps({"index": 1, "token": token, "generated_text": None})
        peer.send(
            head("HTTP/1.1 200 OK", "content-type: text/event-stream", "transfer-encoding: chunked")
            + chunk(b"data:" + event + b"\n\n")
        )
        await seen.wait()
        if peer.number:
            peer.send(chunk(b""))
        else:
            peer.abort()

    running = await serve(await upstream(script), chain=[{TRANSCODE: {"dialect": "tgi"}}])
    body = orjson.dumps({"prompt": "p", "stream": True})
    for _ in range(2):
        client = await running.connect()
        seen.clear()
        client.ask("POST", "/v1/completions", body=body)
        await client.head()
        first = orjson.loads((await client.chunk()).removeprefix(b"data: "))
        assert first["choices"][0]["text"] == " a"
        seen.set()
        (last,) = (await client.chunks()).split(b"\n\n")[:-1]
        assert orjson.loads(last.removeprefix(b"data: "))["error"]["code"] == "upstream_closed"


@pytest.mark.parametrize(
    "answer",
    [
        ok(b'{"unheard": 1}', "content-type: application/json"),
        ok(b"no json", "content-type: application/json"),
        ok(b"x", "content-type: application/json", "content-encoding: gzip"),
    ],
)
async def test_an_answer_of_no_known_shape_is_a_502(
    serve: Serve, upstream: UpstreamMaker, answer: bytes
) -> None:
    """Nothing is made up of it."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer)

    running = await serve(await upstream(script), chain=[{TRANSCODE: {"dialect": "tgi"}}])
    client = await running.connect()
    got = await client.exchange("POST", "/v1/completions", body=b'{"prompt": "p"}')
    assert (got.status, got["x-remora-error"]) == (502, "upstream_untranslatable")


async def test_a_stream_that_is_none_is_a_502(serve: Serve, upstream: UpstreamMaker) -> None:
    """A client that waits for events would take a document for an empty stream."""
    told = orjson.dumps({"choices": [{"text": "a", "finish_reason": "stop"}]})
    script = answering(ok(told, "content-type: application/json"))
    running = await serve(await upstream(script), chain=[{TRANSCODE: {"dialect": "openai"}}])
    client = await running.connect()
    for target, status in (("/generate", 200), ("/generate_stream", 502)):
        got = await client.exchange("POST", target, body=b'{"inputs": "p"}')
        assert got.status == status
    assert got["x-remora-error"] == "upstream_untranslatable"
    assert refused(running, "upstream_untranslatable") == 1


async def test_what_is_refused_is_counted(serve: Serve, upstream: UpstreamMaker) -> None:
    """By its code; the server hears nothing of it."""
    server = await upstream(answering(b""))
    keys = {"dialect": "tgi", "max_body": 100}
    running = await serve(server, chain=[{TRANSCODE: keys}])
    asked = ((b'{"prompt": "p", "suffix": "x"}', 400), (b" " * 101, 413))
    for body, status in asked:
        client = await running.connect()
        assert (await client.exchange("POST", "/v1/completions", body=body)).status == status
    got = await (await running.connect()).exchange(
        "POST", "/v1/completions", "content-encoding: gzip", body=b"zip"
    )
    assert (got.status, got["accept-encoding"]) == (415, "identity")
    for code in ("unsupported_parameter", "body_too_large", "unsupported_media_type"):
        assert refused(running, code) == 1
    assert server.made == 0


async def test_whoever_failed_is_known() -> None:
    """The endpoint is the log's also where no answer came of it."""

    async def fails(request: Request) -> Response:
        request.endpoint = "http://one"
        raise UpstreamClosed("it closed")

    request = Request(b"POST", b"/v1/completions", [], b'{"prompt": "p"}')
    with pytest.raises(UpstreamClosed):
        await Dialect("tgi", template_of("plain"), None, 1000, print, fails).handle(request)
    assert request.endpoint == "http://one"


async def test_conditions_and_ranges_are_not_passed_on(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """They are about bytes that this client never gets."""

    async def script(peer: Peer) -> None:
        asked = await peer.request()
        assert set(asked.names) == {"host", "x-kept", "content-length"}
        peer.send(ok(b'{"model_id": "m"}', "content-type: application/json", "last-modified: x"))

    running = await serve(await upstream(script), chain=[{TRANSCODE: {"dialect": "tgi"}}])
    client = await running.connect()
    fields = ('if-none-match: "x"', "if-modified-since: x", "range: bytes=0-1", "x-kept: y")
    got = await client.exchange("GET", "/v1/models", *fields)
    assert (got.status, got["last-modified"]) == (200, None)
    assert orjson.loads(got.body)["data"][0]["id"] == "m"


async def test_an_error_page_of_the_server_keeps_its_status(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """A 503 that is no JSON is a 503 in OpenAI's words, with its Retry-After."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(ok(b"<html>", "retry-after: 3", status="503 Service Unavailable"))

    running = await serve(await upstream(script), chain=[{TRANSCODE: {"dialect": "tgi"}}])
    client = await running.connect()
    got = await client.exchange("POST", "/v1/completions", body=b'{"prompt": "p"}')
    assert (got.status, got["retry-after"]) == (503, "3")
    assert orjson.loads(got.body)["error"]["type"] == "server_error"


async def test_no_field_of_the_bytes_that_are_gone(serve: Serve, upstream: UpstreamMaker) -> None:
    """Neither digests nor tags nor trailers, which may sign them; the rest comes through."""

    async def script(peer: Peer) -> None:
        await peer.request()
        told = orjson.dumps({"generated_text": "a", "details": {"finish_reason": "length"}})
        fields = ("digest: x", "content-md5: x", "repr-digest: x", 'etag: "x"', "accept-ranges: a")
        peer.send(
            head("HTTP/1.1 200 OK", "transfer-encoding: chunked", "x-kept: y", *fields)
            + chunk(told) + b"0\r\nx-signed: z\r\n\r\n"
        )  # fmt: skip

    running = await serve(await upstream(script), chain=[{TRANSCODE: {"dialect": "tgi"}}])
    client = await running.connect()
    got = await client.exchange("POST", "/v1/completions", body=b'{"prompt": "p"}')
    assert orjson.loads(got.body)["choices"][0]["text"] == "a"
    assert sorted(got.names) == ["content-length", "content-type", "x-kept"]
    assert got.trailers == []


async def test_messagepack_and_the_dialect_go_together(through: Through) -> None:
    """A client may speak another form and another API at once."""
    import msgpack

    running = await through(tgi_routes, "tgi", template={
        "user": "U: {content}\n", "assistant": "A: {content}\n", "ask": "A:",
    })  # fmt: skip
    client = await running.connect()
    body = msgpack.packb({"messages": HI, "max_tokens": 3})
    fields = ("content-type: application/msgpack", "accept: application/msgpack")
    got = await client.exchange("POST", "/v1/chat/completions", *fields, body=body)
    assert got.status == 200
    assert len(msgpack.unpackb(got.body)["choices"][0]["message"]["content"].split()) == 3
