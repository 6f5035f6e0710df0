"""Both forms of the same answer, from a real llama.cpp, are made from one another."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from middleware.core.sse import EventReader
from proxy.apis import by_name
from proxy.demo.llama import LlamaServer
from proxy.exchange import Request
from tests.demo.servers import model

__all__ = ["model"]

API = by_name["openai"]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SAID = {"messages": [{"role": "user", "content": "hi"}]}
CASES: list[tuple[str, dict[str, Any]]] = [
    (CHAT, SAID),
    (CHAT, {**SAID, "n": 2}),
    (CHAT, {**SAID, "logprobs": True, "top_logprobs": 2}),
    (TEXT, {"prompt": "hi"}),
    (TEXT, {"prompt": ["hi", "you", "there"]}),
    (TEXT, {"prompt": "hi", "logprobs": 2}),
]

# These differ from one call to the next.
OF_THE_CALL = ("id", "created", "timings")


@pytest.fixture(scope="module")
def server(model: Any) -> Iterator[LlamaServer]:
    with LlamaServer(model, parallel=4) as running:
        yield running


def ask(server: LlamaServer, path: str, body: dict[str, Any], **more: Any) -> tuple[Request, bytes]:
    """The request as remora would have it, and the server's answer to it."""
    raw = orjson.dumps({"model": "m", "temperature": 0, "max_tokens": 6, **body, **more})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("POST", path, raw, {"content-type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200
        return Request(b"POST", path.encode(), [], raw), answer.read()
    finally:
        connection.close()


def comparable(answer: Any, *but: str) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in (*OF_THE_CALL, *but)}


@pytest.mark.parametrize(("path", "body"), CASES)
def test_its_stream_adds_up_to_its_answer(
    server: LlamaServer, path: str, body: dict[str, Any]
) -> None:
    """A stream of llama.cpp is one answer to remora, field by field the one that it gives whole.

    Usage of several prompts is left out: llama.cpp tells that of one, in either form another's.
    """
    plain, whole = ask(server, path, body)
    asking, stream = ask(server, path, body, stream=True, stream_options={"include_usage": True})
    assert API.unstreamed(plain) == API.unstreamed(asking)
    events = EventReader().feed(stream)
    assert [API.ends_stream(data) for data in events] == [False] * (len(events) - 1) + [True]
    assert not any(map(API.fails_stream, events))
    got, expected = API.to_answer(plain, events), orjson.loads(whole)
    but = ("usage",) if isinstance(body.get("prompt"), list) else ()
    assert comparable(got, *but) == comparable(expected, *but)
    assert set(got) == set(expected)
    if not but:
        assert API.usage(expected) == API.stream_usage(events) > 6
    if path == CHAT:
        assert ChatCompletion.model_validate(got)


@pytest.mark.parametrize(("path", "body"), CASES)
@pytest.mark.parametrize("usage", [False, True])
def test_its_answer_streams_as_its_stream(
    server: LlamaServer, path: str, body: dict[str, Any], usage: bool
) -> None:
    """llama.cpp's answer, streamed by remora, has the fields of its own stream and adds up."""
    plain, whole = ask(server, path, body)
    asking, stream = ask(server, path, body, stream=True, stream_options={"include_usage": usage})
    answer = orjson.loads(whole)
    events = API.to_stream(asking, answer)
    assert events is not None
    data = EventReader().feed(b"".join(events))
    assert API.ends_stream(data[-1])
    got = API.to_answer(plain, data)
    assert got == {key: value for key, value in answer.items() if usage or key != "usage"}
    made, theirs = [
        [chunk for chunk in map(orjson.loads, each[:-1]) if chunk is not None]
        for each in (data, EventReader().feed(stream))
    ]
    assert set().union(*made) - {"usage"} == set().union(*theirs) - {"usage"}
    assert made[0]["object"] == theirs[0]["object"]
    assert ("usage" in made[-1]) is usage
    if path == CHAT:
        for chunk in made:
            assert ChatCompletionChunk.model_validate(chunk)


def test_an_error_in_its_stream_is_seen(server: LlamaServer) -> None:
    """llama.cpp's own error object, as an event, fails a stream and makes no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("POST", TEXT, b'{"prompt":3}', {"content-type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 400
        error = answer.read()
    finally:
        connection.close()
    request = Request(b"POST", TEXT.encode(), [], b'{"prompt":3}')
    assert API.fails_stream(error)
    assert API.to_answer(request, [error]) is None
    assert API.to_stream(request, orjson.loads(error)) is None
