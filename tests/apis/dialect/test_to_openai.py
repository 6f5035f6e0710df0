"""TGI's calls for a server that speaks OpenAI's API."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.apis.dialect import Untranslatable, translate
from proxy.apis.dialect.template import TEMPLATES
from proxy.apis.dialect.to_openai import MAX_TEXT
from proxy.apis.shape import Untold
from proxy.errors import UpstreamClosed, UpstreamError
from proxy.exchange import Request


def made(path: str, body: Any, model: str | None = None) -> Any:
    request = Request(b"POST", path.encode(), [], orjson.dumps(body))
    return translate(request, "openai", TEMPLATES["plain"], model)


PARAMETERS: list[tuple[dict[str, Any] | None, dict[str, Any]]] = [
    (None, {"max_tokens": 100, "temperature": 0}),
    ({"do_sample": True}, {"max_tokens": 100, "temperature": 1}),
    ({"top_p": 0.9}, {"max_tokens": 100, "temperature": 1, "top_p": 0.9}),
    (
        {"temperature": 0.5, "max_new_tokens": 7, "top_k": 4},
        {"max_tokens": 7, "temperature": 0.5, "top_k": 4},
    ),
    (
        {"stop": ["x"], "seed": 3, "best_of": 1, "grammar": None, "watermark": False},
        {"max_tokens": 100, "temperature": 0, "stop": ["x"], "seed": 3},
    ),
    ({"max_new_tokens": 0}, {"max_tokens": 0, "temperature": 0}),  # for the server to refuse
    ({"max_new_tokens": None}, {"max_tokens": 100, "temperature": 0}),
    ({"truncate": 9}, {"max_tokens": 100, "temperature": 0, "truncate_prompt_tokens": 9}),
]


@pytest.mark.parametrize(("asked", "told"), PARAMETERS)
def test_parameters_mean_the_same(asked: dict[str, Any] | None, told: dict[str, Any]) -> None:
    """TGI is greedy and writes 100 tokens unless told; OpenAI's samples and writes 16."""
    call = made("/generate", {"inputs": "p", "parameters": asked}).call
    assert call.target == b"/v1/completions"
    assert call.body == {"prompt": "p", **told}


def test_the_model_is_the_files_unless_the_client_names_one() -> None:
    """TGI's clients rarely do, and an OpenAI server may want it."""
    assert made("/generate", {"inputs": "p"}, "m").call.body["model"] == "m"
    assert made("/", {"inputs": "p", "model": "n"}, "m").call.body["model"] == "n"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"inputs": 5}, "inputs"),
        ({}, "inputs"),
        ([], "inputs"),
        ({"inputs": "p", "parameters": {"details": 1}}, "`details` must be true or false"),
        ({"inputs": "p", "parameters": {"return_full_text": "yes"}}, "return_full_text"),
        ({"inputs": "p", "parameters": []}, "an object"),
        ({"inputs": "p", "parameters": {"grammar": {"type": "json"}}}, "grammar"),
        ({"inputs": "p", "parameters": {"watermark": True}}, "watermark"),
        ({"inputs": "p", "parameters": {"best_of": 2}}, "best_of"),
        ({"inputs": "p", "parameters": {"decoder_input_details": True}}, "decoder_input_details"),
        ({"inputs": "p", "parameters": {"unheard_of": 1}}, "unheard_of"),
    ],
)
def test_what_cannot_be_said_is_refused(body: Any, told: str) -> None:
    """By the name of the parameter."""
    with pytest.raises(Untranslatable, match=told):
        made("/generate", body)


def test_a_flag_is_no_number() -> None:
    """At the root, where the body says whether it streams."""
    with pytest.raises(Untranslatable, match="stream"):
        made("/", {"inputs": "p", "stream": 1})
    assert not made("/generate", {"inputs": "p", "stream": True}).call.streams


def test_other_calls_are_left() -> None:
    """An embedding client's root, and OpenAI's own calls."""
    for path, body in (
        ("/", {"inputs": ["a"]}), ("/v1/completions", {"prompt": "p"}), ("/embed", {"inputs": "a"}),
        ("/", {"query": "q", "texts": []}),
    ):  # fmt: skip
        assert made(path, body) is None


def whole(**more: Any) -> dict[str, Any]:
    choice = {"index": 0, "text": " a b", "finish_reason": "length", **more}
    return {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


def test_an_answer() -> None:
    """An object at /generate and a list of one at the root; details where they were asked for."""
    assert made("/generate", {"inputs": "p"}).answer(whole()) == {"generated_text": " a b"}
    assert made("/", {"inputs": "p"}).answer(whole()) == [{"generated_text": " a b"}]
    asked = {"details": True, "return_full_text": True, "seed": 4}
    told = made("/generate", {"inputs": "p", "parameters": asked}).answer(whole())
    assert told == {
        "generated_text": "p a b",
        "details": {
            "finish_reason": "length", "generated_tokens": 2, "seed": 4, "prefill": [],
            "tokens": [],
        },
    }  # fmt: skip


def test_tokens_that_nobody_counted() -> None:
    """Of a server that tells no usage they are estimated: 4 bytes each."""
    spoken = made("/generate", {"inputs": "p", "parameters": {"details": True}})
    for uncounted in ({}, {"usage": None}, {"usage": {}}):
        told = spoken.answer({"choices": [{"text": "ab" * 6}], **uncounted})
        assert told["details"]["generated_tokens"] == 3


def test_what_stopped_it_is_in_the_text() -> None:
    """Where the server tells which: TGI leaves it there."""
    spoken = made("/generate", {"inputs": "p", "parameters": {"details": True, "stop": ["\n"]}})
    told = spoken.answer(whole(finish_reason="stop", stop_reason="\n"))
    assert told["generated_text"] == " a b\n"
    assert told["details"]["finish_reason"] == "stop_sequence"
    told = spoken.answer(whole(finish_reason="stop", stop_reason=None))
    assert told["details"]["finish_reason"] == "eos_token"


@pytest.mark.parametrize("answer", [None, {}, {"choices": []}, {"choices": [{"text": 5}]}])
def test_another_shape_is_untold(answer: Any) -> None:
    """Nothing is made up of it."""
    with pytest.raises(Untold):
        made("/generate", {"inputs": "p"}).answer(answer)


def chunks(*texts: str, reason: str | None = "length") -> list[bytes]:
    events: list[Any] = [{"choices": [{"index": 0, "text": text}]} for text in texts]
    if reason is not None:
        events.append({"choices": [{"index": 0, "text": "", "finish_reason": reason}]})
        events.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    return [orjson.dumps(event) for event in events]


@pytest.mark.parametrize("done", [True, False])
def test_a_stream(done: bool) -> None:
    """Each token at once, then a special one with the whole text; also without `[DONE]`."""
    spoken = made("/generate_stream", {"inputs": "p", "parameters": {"details": True}})
    assert spoken.call.body["stream_options"] == {"include_usage": True}
    turner = spoken.events()
    out = [turner.feed(data) for data in (b"null", *chunks(" a", " b"))]
    out.append(turner.feed(b"[DONE]") if done else turner.end())
    assert turner.end() == b""
    events = [orjson.loads(one[6:]) for one in out if one]
    assert [event["token"]["text"] for event in events] == [" a", " b", ""]
    assert [event["token"]["special"] for event in events] == [False, False, True]
    assert [event["generated_text"] for event in events] == [None, None, " a b"]
    assert events[-1]["details"] == {
        "finish_reason": "length", "generated_tokens": 2, "seed": None, "input_length": 3,
    }  # fmt: skip


def test_a_stream_of_endless_text() -> None:
    """MAX_TEXT passes; one byte more ends the stream, for its text has to be kept."""
    turner = made("/generate_stream", {"inputs": "p"}).events()
    for data in chunks(*["é" * (MAX_TEXT // 32)] * 16, reason=None):
        assert turner.feed(data)
    (one_more,) = chunks("x", reason=None)
    with pytest.raises(UpstreamError, match="too long"):
        turner.feed(one_more)


def test_a_stream_that_breaks_is_told() -> None:
    """An error of the server is TGI's error event; an early end is none."""
    turner = made("/generate_stream", {"inputs": "p"}).events()
    out = turner.feed(b'{"error": {"message": "out of memory", "code": 500}}')
    assert orjson.loads(out[6:]) == {"error": "out of memory", "error_type": "generation"}
    assert turner.end() == b""
    turner = made("/generate_stream", {"inputs": "p"}).events()
    for data in chunks(" a", reason=None):
        turner.feed(data)
    with pytest.raises(UpstreamClosed):
        turner.end()


@pytest.mark.parametrize(
    ("status", "answer", "told"),
    [
        (400, {"error": {"message": "bad"}}, (422, "bad", "validation")),
        (400, {"object": "error", "message": "old"}, (422, "old", "validation")),
        (429, {"error": {"message": "x"}}, (429, "x", "overloaded")),
        (500, None, (500, "the server answered 500", "generation")),
        (401, {"error": {"message": "no key"}}, (401, "no key", "authentication")),
        (503, {}, (503, "the server answered 503", "overloaded")),
    ],
)
def test_errors(status: int, answer: Any, told: tuple[int, str, str]) -> None:
    """OpenAI's, vLLM's older ones, and what is no JSON."""
    got, body = made("/generate", {"inputs": "p"}).error(status, answer)
    assert (got, body["error"], body["error_type"]) == told
