"""Streams as each API has them: who asked for one, which event ends it, what it took."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from middleware.core.sse import EventReader
from proxy.apis import by_name
from proxy.errors import UpstreamClosed
from proxy.exchange import Request

TOKEN = {"id": 1, "text": "a", "logprob": -0.5, "special": False}
MORE = {"index": 1, "token": TOKEN, "generated_text": None, "details": None}
LAST = {**MORE, "index": 2, "generated_text": "aa"}
TOLD = {"finish_reason": "length", "generated_tokens": 2, "seed": None, "input_length": 5}


def asked(target: str, body: Any) -> Request:
    return Request(b"POST", target.encode(), [], orjson.dumps(body))


@pytest.mark.parametrize(
    ("target", "body", "expected"),
    [
        ("/v1/chat/completions", {"stream": True}, True),
        ("/v1/chat/completions", {"stream": False}, False),
        ("/v1/chat/completions", {}, False),
        ("/v1/chat/completions", [], False),
        ("/generate_stream", {"inputs": "a"}, True),
        ("/generate", {"inputs": "a", "stream": True}, False),
        ("/", {"inputs": "a", "stream": True}, True),
        ("/", {"inputs": "a", "stream": False}, False),
        ("/v2/models/m/generate_stream", {}, True),
        ("/v2/models/m/generate", {"stream": True}, False),
        ("/embed", {"inputs": "a"}, False),
        ("/completion", {"prompt": "a", "stream": True}, True),
        ("/completion", {"prompt": "a"}, False),
    ],
)
def test_who_asked_for_a_stream(target: str, body: Any, expected: bool) -> None:
    """A stream is asked for by path or by `stream: true`, as the server reads it."""
    request = asked(target, body)
    assert request.api.streams(request) is expected


SAYS_IT = {"choices": [{"index": 0, "delta": {"content": '[DONE] "type":"message_stop" "error"'}}]}

ENDS: list[tuple[str, bytes | Any, bool]] = [
    ("openai", b"[DONE]", True),
    ("openai", SAYS_IT, False),
    ("openai", {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, False),
    ("openai", {"type": "response.completed", "response": {}}, True),
    ("openai", {"type": "response.incomplete", "response": {}}, True),
    ("openai", {"type": "response.output_text.delta", "delta": "response.completed"}, False),
    ("openai", {"type": "response.failed", "response": {}}, False),
    ("openai", {"type": "message_stop"}, True),
    ("openai", {"type": "message_delta", "delta": {"text": "message_stop"}}, False),
    ("openai", b"", False),
    ("tgi", MORE, False),
    ("tgi", LAST, True),
    ("tgi", {**LAST, "generated_text": ""}, True),
    ("tgi", {**LAST, "token": {**TOKEN, "text": '"generated_text":null'}}, True),
    ("tgi", b'{"token":{"id":1,"text":"a"}, "generated_text" : null}', False),
    ("tgi", b'{"generated_text', False),
    ("tgi", b"[DONE]", False),
    ("kserve", {"text_output": "a"}, False),
    ("kserve", b"[DONE]", False),
    ("tei", b"[DONE]", False),
    ("plain", b"[DONE]", False),
]


@pytest.mark.parametrize(("api", "event", "expected"), ENDS)
def test_which_event_is_the_last(api: str, event: Any, expected: bool) -> None:
    """The event that makes an answer whole is told from any other, also from one that quotes it."""
    data = event if isinstance(event, bytes) else orjson.dumps(event)
    assert by_name[api].ends_stream(data) is expected


@pytest.mark.parametrize("api", sorted(by_name))
def test_which_event_fails(api: str) -> None:
    """An error event fails a stream; one without an error, or with a null one, does not."""
    known = by_name[api]
    for event in (
        {"error": {"message": "no", "code": 500}},
        {"error": "no", "error_type": "generation"},
        {"error": ""},
    ):
        assert known.fails_stream(orjson.dumps(event)), event
    fine = [SAYS_IT, MORE, LAST, {"error": None, "choices": []}, {"text_output": "error"}]
    for data in [*map(orjson.dumps, fine), b"[DONE]", b"", b'{"error"', b'["error"]']:
        assert not known.fails_stream(data), data


@pytest.mark.parametrize("api", sorted(by_name))
def test_remoras_own_error_event_fails_a_stream(api: str) -> None:
    """The event that remora ends a broken stream with is seen as one, and as no end."""
    error = UpstreamClosed("it went away")
    (data,) = EventReader().feed(by_name[api].error_event(error))
    assert by_name[api].fails_stream(data)
    assert not by_name[api].ends_stream(data)


@pytest.mark.parametrize("kind", ["error", "response.failed"])
def test_the_responses_api_fails_by_type(kind: str) -> None:
    """The Responses API names its failures in `type`."""
    assert by_name["openai"].fails_stream(orjson.dumps({"type": kind, "message": "no"}))


OPENAI_USAGE = {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}


@pytest.mark.parametrize(
    ("api", "answer", "tokens"),
    [
        ("openai", OPENAI_USAGE, 7),
        ("openai", {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, 7),
        ("openai", {"usage": {"input_tokens": 3, "output_tokens": 4}}, 7),
        ("openai", {"type": "response.completed", "response": OPENAI_USAGE}, 7),
        ("openai", {"usage": None}, 0),
        ("openai", {"usage": {"total_tokens": True}}, 0),
        ("openai", {"usage": {"total_tokens": -3}}, 0),
        ("openai", [OPENAI_USAGE], 0),
        ("openai", None, 0),
        ("tgi", {"generated_text": "a", "details": {"generated_tokens": 4, "prefill": [1, 2]}}, 6),
        ("tgi", [{"generated_text": "a", "details": {"generated_tokens": 4, "prefill": []}}], 4),
        ("tgi", {**LAST, "details": TOLD}, 7),
        ("tgi", {"generated_text": "a"}, 0),
        ("tei", [[0.5]], 0),
        ("kserve", {"outputs": []}, 0),
        ("plain", OPENAI_USAGE, 0),
    ],
)
def test_tokens_of_an_answer(api: str, answer: Any, tokens: int) -> None:
    """Tokens are what the answer says that it took, prompt included; 0 where it says nothing."""
    assert by_name[api].usage(answer) == tokens


def test_tokens_of_a_stream() -> None:
    """A stream's tokens are those that it told last; null, or nothing, leaves what was told."""
    openai = [
        b"null",
        orjson.dumps({"usage": {"total_tokens": 5}}),
        orjson.dumps(OPENAI_USAGE),
        b'{"choices":[],"usage":null}',
        b"[DONE]",
    ]
    assert by_name["openai"].stream_usage(openai) == 7
    assert by_name["openai"].stream_usage([orjson.dumps(SAYS_IT), b"[DONE]"]) == 0
    tgi = list(map(orjson.dumps, (MORE, {**LAST, "details": TOLD})))
    assert by_name["tgi"].stream_usage(tgi) == 7
    assert by_name["tgi"].stream_usage([orjson.dumps(MORE), orjson.dumps(LAST)]) == 0
    assert by_name["kserve"].stream_usage(openai) == 0


@pytest.mark.parametrize(
    ("target", "body", "name"),
    [
        ("/v1/chat/completions", {"model": "m", "messages": []}, "m"),
        ("/v1/chat/completions", {"model": "m" * 500}, "m" * 128),
        ("/v1/chat/completions", {"model": 3}, ""),
        ("/v1/chat/completions", [], ""),
        ("/openai/deployments/my%20gpt/chat/completions?a=b", {"messages": []}, "my gpt"),
        ("/v1/models/iris:predict", {"model": "other"}, "iris"),
        ("/v1/models/iris/versions/2:predict", {}, "iris"),
        ("/v2/models/res%2Fnet/versions/1/infer", {"inputs": []}, "res/net"),
        ("/v2/models/llm/generate", {}, "llm"),
        ("/v2/health/ready", {}, ""),
        ("/v2", {}, ""),
        ("/generate", {"inputs": "a"}, ""),
        ("/generate", {"inputs": "a", "parameters": {"adapter_id": "lora"}}, "lora"),
        ("/", {"inputs": "a", "model": "m"}, "m"),
        ("/embed", {"inputs": "a", "model": "m"}, "m"),
        ("/completion", {"prompt": "a", "model": "m"}, "m"),
        ("/completion", None, ""),
    ],
)
def test_the_models_name(target: str, body: Any, name: str) -> None:
    """The name is the body's or, where the API puts it there, the path's, cut to 128."""
    request = asked(target, body)
    assert request.api.model(request) == name
