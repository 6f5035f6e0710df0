"""Tokens: what is reserved, and what is counted in the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from middleware.rate_limit.tokens import MAX_ANSWER
from proxy.errors import BodyTooLarge, ConnectFailed, ProxyError, UpstreamClosed
from proxy.exchange import Request, Response, Stream
from tests.contract.road import LAST_CHUNK, SSE_HEAD, ModelServer, chunk, client, post, remora
from tests.road.wire import until

from .stage import JSON, Stage, call, get, header
from .test_windows import kinds

PROMPT = 10
"""Tokens of `call`'s prompt."""
SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]
TEXT = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"total_tokens": 77}}\n\n'
DONE = b"data: [DONE]\n\n"


def answering(status: int = 200, body: bytes = b"{}", fields: Any = JSON) -> Any:
    async def upstream(request: Request) -> Response:
        return Response(status, list(fields), body)

    return upstream


def usage(tokens: int) -> bytes:
    return json.dumps({"usage": {"total_tokens": tokens}}).encode()


def stage_of(answer: Any, **keys: Any) -> Stage:
    return Stage(answer, **{"limits": "10000/hour", "cost": "tokens", **keys})


def left(stage: Stage) -> int:
    """What the client may still take."""
    (states,) = (states for _, states in stage.layer.memory._accounts.values())
    quota = stage.layer.everyone[0]
    now = int(stage.now * 1000)
    quota.windows[0].roll(states[0], now)
    return quota.windows[0].amount - quota.windows[0].used(states[0], now)


async def counted(stage: Stage, request: Request | None = None) -> int:
    """Tokens that one exchange is counted for in the end."""
    await stage.ask(request or call(max_tokens=100))
    return 10_000 - left(stage)


@pytest.mark.parametrize(
    ("request_", "reserved"),
    [
        (call(max_tokens=100), PROMPT + 100),
        (call(max_completion_tokens=50, n=3), PROMPT + 150),
        (call(), PROMPT + 1024),
        (call({"input": "x" * 400}, path=b"/v1/embeddings"), 100),
        (call({"inputs": "x" * 40, "parameters": {"max_new_tokens": 7}}, path=b"/generate"), 17),
        (call({"prompt": [1, 2, 3], "max_tokens": 4}, path=b"/v1/completions"), 7),
    ],
)  # fmt: skip
async def test_what_is_reserved(request_: Request, reserved: int) -> None:
    """The prompt by its bytes, and the bound of the answer, or `default_max_tokens`."""
    seen: list[int] = []

    async def upstream(request: Request) -> Response:
        seen.append(10_000 - left(stage))
        return Response(200, list(JSON), b"{}")

    stage = stage_of(upstream)
    await stage.ask(request_)
    assert seen == [reserved]
    assert stage.tokens("reserved") == reserved


async def test_what_costs_nothing_is_let_through() -> None:
    """A list of models uses no tokens, also where some are owed."""
    stage = stage_of(answering(body=usage(500)), limits="110/hour")
    await stage.ask(call(max_tokens=100))
    assert not await stage.passes(call(max_tokens=1))
    assert await stage.passes(get())


async def test_a_long_body_is_not_read() -> None:
    """Over `max_request_bytes` its length is the estimate, and it streams past."""
    stage = stage_of(answering(), max_request_bytes="1KiB", default_max_tokens=5)
    request = call()
    request.body = Stream()
    request.headers.append((b"content-length", b"4000"))
    await stage.ask(request)
    assert stage.tokens("reserved") == 1005
    assert isinstance(request.body, Stream) and not request.body.done
    with pytest.raises(BodyTooLarge):
        await stage.handle(hidden(1025))


def hidden(size: int) -> Request:
    """A call that does not say how long it is."""
    request = call()
    request.body = Stream()
    for piece in (b"x" * (size - 1), b"x"):
        request.body.feed(piece)
    request.body.end()
    return request


@pytest.mark.parametrize("keys", [{"cost": "tokens", "shadow": True}, {"key": "model"}], ids=str)
async def test_a_body_that_hides_its_length_is_refused_for_its_tokens_alone(
    keys: dict[str, Any],
) -> None:
    """Not in the shadow, which counts it by the length that is certain, and not for its model,
    which is as unknown as that of any long one: all of it goes on.
    """
    got: list[bytes] = []

    async def upstream(request: Request) -> Response:
        got.append(await request.read(10_000))
        return Response(400, [])

    bounds = {"max_request_bytes": "1KiB", "default_max_tokens": 5}
    stage = Stage(upstream, limits="10000/hour", **bounds, **keys)
    assert await stage.passes(hidden(1025))
    assert got == [b"x" * 1025]
    assert stage.tokens("reserved") == (257 + 5 if "cost" in keys else 0)


@pytest.mark.parametrize(("said", "used"), [(usage(77), 77), (b"RIFF" * 1000, 0)])
async def test_a_call_that_cannot_be_estimated_is_settled_all_the_same(
    said: bytes, used: int
) -> None:
    """Audio is no text: one token is reserved, and what the answer tells is what it cost."""

    def recording() -> Request:
        fields = [(b"content-type", b"multipart/form-data; boundary=x")]
        return Request(b"POST", b"/v1/audio/transcriptions", fields, b"--x")

    stage = stage_of(answering(body=said))
    assert await counted(stage, recording()) == used
    assert stage.tokens("reserved") == 1
    owing = stage_of(answering(body=usage(200)), limits="100/hour")
    assert await owing.passes(recording())
    assert not await owing.passes(recording()), "what is owed is paid first"


@pytest.mark.parametrize(
    ("answer", "used"),
    [
        (answering(body=usage(77)), 77),
        (answering(body=usage(500)), 500),
        (answering(status=400, body=usage(77)), 0),
        (answering(status=500), 0),
        (answering(body=b"x" * 40, fields=[]), PROMPT + 10),
        (answering(body=b"x" * 4000, fields=[]), PROMPT + 100),
        (answering(body=b'{"usage": null}'), PROMPT + 4),
        (answering(body=b" " * MAX_ANSWER + usage(77)), PROMPT + 100),
    ],
)  # fmt: skip
async def test_what_an_answer_says_it_used(answer: Any, used: int) -> None:
    """Less or more than was reserved; where it does not say, four bytes are a token, up to what
    was reserved; a failed call has used nothing.
    """
    stage = stage_of(answer)
    assert await counted(stage) == used
    assert stage.tokens("used") == used


async def test_an_embedding_that_does_not_tell() -> None:
    """Has no tokens of its own: the prompt alone counts, however long its answer."""
    stage = stage_of(answering(body=b"[" + b"0.1, " * 1000 + b"1]"))
    assert await counted(stage, call({"input": "x" * 400}, path=b"/v1/embeddings")) == 100


@pytest.mark.parametrize(
    ("failure", "used"),
    [(ConnectFailed("no"), 0), (UpstreamClosed("no"), 0), (ValueError("a bug"), 0)],
)
async def test_a_call_that_failed_gives_all_back(failure: Exception, used: int) -> None:
    """Whatever it failed with, before there was an answer."""

    async def upstream(request: Request) -> Response:
        raise failure

    stage = stage_of(upstream)
    request = call(max_tokens=100)
    try:
        await stage.handle(request)
    except ProxyError:
        pass
    except ValueError:
        pass
    request.finish()
    assert 10_000 - left(stage) == used


async def streamed(pieces: list[bytes], whole: bool = True, **keys: Any) -> Stage:
    """A stage whose upstream streams these pieces; what the client got is checked."""
    body = Stream()

    async def upstream(request: Request) -> Response:
        return Response(200, list(keys.pop("fields", SSE)), body)

    stage = stage_of(upstream)
    request = call(max_tokens=100, stream=True)
    response = await stage.handle(request)
    assert left(stage) == 10_000 - PROMPT - 100, "it is reserved until the end"
    (meter,) = response.filters
    assert [meter.feed(piece) for piece in pieces] == pieces
    if whole:
        assert meter.end() == b""
    else:
        request.outcome.error = UpstreamClosed("broke off")
    request.finish()
    return stage


@pytest.mark.parametrize(
    ("pieces", "whole", "used"),
    [
        ([TEXT * 3, USAGE, DONE], True, 77),
        ([TEXT * 3, DONE], True, PROMPT + 3),
        ([TEXT * 3], True, PROMPT + 3),
        ([TEXT * 3], False, PROMPT + 3),
        ([TEXT, USAGE, TEXT * 3], False, 77),
        ([TEXT, USAGE, TEXT * 4], False, PROMPT + 6),
        ([], False, PROMPT),
        ([TEXT * 200, DONE], True, PROMPT + 200),
        ([b"x" * 400], True, PROMPT + 100),
    ],
)  # fmt: skip
async def test_a_stream(pieces: list[bytes], whole: bool, used: int) -> None:
    """What its usage says; without one each event is a token; cut short, what was seen of it."""
    stage = await streamed(pieces, whole)
    assert 10_000 - left(stage) == used


async def test_a_stream_cut_anywhere() -> None:
    """Wherever its bytes are cut, the same is counted."""
    text = TEXT * 2 + USAGE.replace(b"\n\n", b"\r\n\r\n") + DONE
    for at in range(len(text)):
        assert left(await streamed([text[:at], text[at:]])) == 10_000 - 77


async def test_an_event_beyond_its_bound() -> None:
    """Is passed on; what was reserved bounds what its bytes are taken for."""
    stage = await streamed([TEXT, b"data: " + b"x" * 2_000_000])
    assert 10_000 - left(stage) == PROMPT + 1
    stage = await streamed([b"data: " + b"x" * 2_000_000])
    assert 10_000 - left(stage) == PROMPT + 100


async def test_json_that_comes_in_pieces() -> None:
    """A body that is no event stream is put together and asked for its usage."""
    stage = await streamed([usage(77)[:9], usage(77)[9:]], fields=JSON)
    assert 10_000 - left(stage) == 77
    stage = await streamed([b" " * MAX_ANSWER, usage(77)], fields=JSON)
    assert 10_000 - left(stage) == PROMPT + 100


async def test_a_client_that_left_before_the_answer() -> None:
    """The prompt counts: the model may have read it."""

    async def upstream(request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    stage = stage_of(upstream)
    request = call(max_tokens=100)
    asking = asyncio.ensure_future(stage.handle(request))
    await until(lambda: stage.asked == 1)
    asking.cancel()
    await asyncio.wait([asking])
    request.outcome.cancelled = True
    request.finish()
    assert 10_000 - left(stage) == PROMPT


@kinds
@pytest.mark.parametrize(("real", "excess"), [(40, 0), (100, 0), (170, 60)])
async def test_the_overshoot_is_what_was_underestimated(kind: str, real: int, excess: int) -> None:
    """60 calls at once on 1100 tokens, each estimated at 110: 10 of them pass. What they use is
    over the limit by no more than what each used beyond its estimate; so much is owed.
    """
    go = asyncio.Event()

    async def upstream(request: Request) -> Response:
        await go.wait()
        return Response(200, list(JSON), usage(real))

    stage = stage_of(upstream, limits="1100/hour", strategy=kind)
    asking = [asyncio.ensure_future(stage.passes(call(max_tokens=100))) for _ in range(60)]
    await until(lambda: stage.asked == 10)
    go.set()
    assert sum(await asyncio.gather(*asking)) == 10
    assert stage.tokens("used") == 10 * real <= 1100 + 10 * excess
    assert left(stage) == 1100 - 10 * real
    again = sum(await asyncio.gather(*[stage.passes(call(max_tokens=100)) for _ in range(60)]))
    assert (again > 0) == (real == 40)
    assert stage.tokens("used") <= 1100 + 10 * excess


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer().listening() as server:
        yield server


CHAIN = [{"rate_limit": {"limits": "1000/hour", "cost": "tokens"}}]
ASKING = json.dumps({"messages": [{"role": "user", "content": "x" * 36}], "max_tokens": 490})


async def test_a_stream_over_sockets_and_a_client_that_leaves(model: ModelServer) -> None:
    """Each event passes at once; what the client saw before it left is what it pays."""
    async with remora(model.url, CHAIN) as server, client(server) as other:
        async with client(server) as user:
            await user.send(post("/v1/chat/completions", ASKING.encode()))
            asked = await model.asked()
            await asked.send(SSE_HEAD)
            for _ in range(5):
                await asked.send(chunk(TEXT))
            head = await user.until(b"\r\n\r\n")
            assert b"x-ratelimit-remaining-tokens: 500\r\n" in head
            got = b""
            while len(got) < 5 * len(TEXT):
                got += await user.read_chunk()
            assert got == 5 * TEXT
        await asked.closed()
        await other.send(post("/v1/chat/completions", ASKING.encode()))
        asked = await model.asked()
        await asked.answer(usage(40), b"Content-Type: application/json")
        head, _ = await other.read_answer()
        assert b"x-ratelimit-remaining-tokens: 485\r\n" in head
        await other.send(post("/v1/chat/completions", ASKING.encode()))
        asked = await model.asked()
        await asked.send(SSE_HEAD + chunk(TEXT * 3) + chunk(USAGE + DONE) + LAST_CHUNK)
        head, _ = await other.read_answer()
        assert b"x-ratelimit-remaining-tokens: 445\r\n" in head


async def test_an_upstream_that_dies_in_a_stream(model: ModelServer) -> None:
    """What came before counts; a connection that broke before the head costs nothing."""
    async with remora(model.url, CHAIN) as server, client(server) as user:
        await user.send(post("/v1/chat/completions", ASKING.encode()))
        asked = await model.asked()
        await asked.send(SSE_HEAD + chunk(TEXT * 2))
        await user.until(b"\n\n")
        asked.abort()
        await user.rest()
        async with client(server) as next_one:
            await next_one.send(post("/v1/chat/completions", ASKING.encode()))
            (await model.asked()).abort()
            head, _ = await next_one.read_answer()
            assert b" 502 " in head
            await next_one.send(post("/v1/chat/completions", ASKING.encode()))
            await (await model.asked()).answer(b"{}")
            head, _ = await next_one.read_answer()
            assert b"x-ratelimit-remaining-tokens: 488\r\n" in head


async def test_what_is_told_is_what_is_reserved() -> None:
    """The head leaves before anybody knows what the answer costs."""
    stage = stage_of(answering(body=usage(20)))
    answer = await stage.ask(call(max_tokens=90))
    assert header(answer, b"x-ratelimit-remaining-tokens") == "9900"
    answer = await stage.ask(call(max_tokens=90))
    assert header(answer, b"x-ratelimit-remaining-tokens") == "9880"
