"""TGI's generations from their streams and back, as huggingface_hub reads both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import orjson
import pytest
from huggingface_hub import InferenceClient, TextGenerationOutput, close_session
from huggingface_hub.utils import _http as hf_http
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.sse import EventReader
from proxy.apis import by_name
from proxy.exchange import Request

API = by_name["tgi"]


def asked(path: str = "/generate", inputs: str = "hi", **parameters: Any) -> Request:
    body = {"inputs": inputs, "parameters": parameters}
    return Request(b"POST", path.encode(), [], orjson.dumps(body))


def data_of(events: list[bytes] | None) -> list[bytes]:
    assert events is not None
    return EventReader().feed(b"".join(events))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
tokens = st.fixed_dictionaries(
    {
        "id": st.integers(0, 99),
        "text": texts,
        "logprob": st.none() | st.floats(-9, 0),
        "special": st.booleans(),
    }
)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    made = draw(st.lists(tokens, min_size=1, max_size=4))
    details = {
        "finish_reason": draw(st.sampled_from(["length", "eos_token", "stop_sequence"])),
        "generated_tokens": len(made),
        "seed": draw(st.none() | st.integers(0, 9)),
        "prefill": [],
        "tokens": made,
    }
    if draw(st.booleans()):
        one = st.lists(tokens, min_size=1, max_size=2)
        details["top_tokens"] = [draw(one) for _ in made]
    return {"generated_text": draw(texts), "details": details}


@given(answers())
def test_details_streamed_add_up_to_themselves(answer: dict[str, Any]) -> None:
    """A generation with details, streamed and put together again, is what it was."""
    assert TextGenerationOutput.parse_obj_as_instance(answer)
    events = data_of(API.to_stream(asked("/generate_stream", details=True), answer))
    assert len(events) == len(answer["details"]["tokens"])
    assert [API.ends_stream(data) for data in events] == [False] * (len(events) - 1) + [True]
    assert API.to_answer(asked(details=True), events) == answer
    assert API.to_answer(asked("/", details=True), events) == [answer]


@given(texts)
def test_a_text_alone_is_one_event(text: str) -> None:
    """Without details the text comes in one event, the last, and is found there again."""
    answer = {"generated_text": text}
    for stored in (answer, [answer]):
        (data,) = data_of(API.to_stream(asked("/generate_stream"), stored))
        assert API.ends_stream(data)
        assert orjson.loads(data)["token"]["text"] == text
        assert API.to_answer(asked(), [data]) == answer


def test_the_prompt_is_no_token() -> None:
    """With `return_full_text` the prompt is in the whole text, but no client printed it."""
    request = asked("/generate_stream", "hi", return_full_text=True)
    (data,) = data_of(API.to_stream(request, {"generated_text": "hi there"}))
    event = orjson.loads(data)
    assert (event["token"]["text"], event["generated_text"]) == (" there", "hi there")


TOKEN = {"id": 1, "text": "a", "logprob": -0.5, "special": False}
LAST = {
    "index": 1,
    "token": TOKEN,
    "generated_text": "a",
    "details": {"finish_reason": "length", "generated_tokens": 1, "seed": None, "input_length": 2},
}
DETAILS = {"finish_reason": "length", "generated_tokens": 1, "seed": None, "prefill": []}


@pytest.mark.parametrize(
    ("answer", "parameters"),
    [
        (None, {}),
        ([], {}),
        ([{"generated_text": "a"}] * 2, {}),
        ({"error": "no"}, {}),
        ({"generated_text": None}, {}),
        ({"generated_text": "a"}, {"details": True}),
        ({"generated_text": "a", "details": DETAILS}, {"details": True}),
        ({"generated_text": "a", "details": {**DETAILS, "tokens": [3]}}, {"details": True}),
        (
            {"generated_text": "a", "details": {**DETAILS, "tokens": [TOKEN], "top_tokens": [1]}},
            {"details": True},
        ),
        ({"generated_text": "a"}, {"best_of": 2}),
        ({"generated_text": "a"}, {"decoder_input_details": True}),
    ],
)
def test_what_cannot_be_streamed_is_not(answer: Any, parameters: dict[str, Any]) -> None:
    """What has no tokens to show, or TGI would refuse to stream, is not streamed."""
    assert API.to_stream(asked("/generate_stream", **parameters), answer) is None


@pytest.mark.parametrize(
    ("events", "parameters"),
    [
        ([], {}),
        ([{**LAST, "generated_text": None}], {}),
        ([{"error": "no", "error_type": "generation"}], {}),
        ([{**LAST, "generated_text": None}, {"error": "no"}], {}),
        ([{**LAST, "details": None}], {"details": True}),
        ([{**LAST, "token": None}], {}),
        ([LAST], {"details": True, "decoder_input_details": True}),
        ([LAST], {"best_of": 3}),
        ([[LAST]], {}),
    ],
)
def test_a_stream_that_is_not_whole_is_no_answer(
    events: list[Any], parameters: dict[str, Any]
) -> None:
    """What is cut off, failed, or lacks what the client asked for makes no answer."""
    assert API.to_answer(asked(), [orjson.dumps(LAST)]) == {"generated_text": "a"}
    assert API.to_answer(asked(**parameters), list(map(orjson.dumps, events))) is None


def test_a_request_and_its_streaming_twin_share_a_form() -> None:
    """`/generate` and `/generate_stream` are one; at the root `stream` alone tells them apart."""
    form = (b"/generate?a=b", {"inputs": "hi", "parameters": {"seed": 1}})
    assert API.unstreamed(asked("/generate?a=b", seed=1)) == form
    assert API.unstreamed(asked("/generate_stream?a=b", seed=1)) == form
    root = {"inputs": "hi"}
    for more in ({}, {"stream": True}, {"stream": False}, {"stream": None}):
        request = Request(b"POST", b"/", [], orjson.dumps({**root, **more}))
        assert API.unstreamed(request) == (b"/", root)
    for path, raw in (
        (b"/", b'{"inputs":"hi","stream":1}'),
        (b"/chat_tokenize", b'{"inputs":"hi"}'),
        (b"/generate", b'{"prompt":"hi"}'),
        (b"/generate", b"[]"),
    ):
        assert API.unstreamed(Request(b"POST", path, [], raw)) is None


@pytest.fixture
def converted() -> Iterator[InferenceClient]:
    """The client; whatever it asks at `/` is answered from the other form of a stored answer."""
    stored = {
        "generated_text": "a remora rides",
        "details": {
            **DETAILS,
            "generated_tokens": 3,
            "tokens": [{**TOKEN, "text": text} for text in ("a", " remora", " rides")],
        },
    }

    def answer(sent: httpx2.Request) -> httpx2.Response:
        request = Request(b"POST", sent.url.raw_path, [], sent.read())
        events = API.to_stream(request, [stored])
        assert events is not None
        if API.streams(request):
            headers = {"content-type": "text/event-stream"}
            return httpx2.Response(200, headers=headers, content=b"".join(events))
        return httpx2.Response(200, json=API.to_answer(request, data_of(events)))

    close_session()
    hf_http.set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(answer)))
    yield InferenceClient("http://remora.test")
    hf_http.set_client_factory(hf_http.default_client_factory)
    close_session()


def test_huggingface_hub_reads_both_forms(converted: InferenceClient) -> None:
    """Its client, unchanged, prints the tokens of a converted stream and reads its details."""
    assert "".join(converted.text_generation("hi", stream=True)) == "a remora rides"
    assert converted.text_generation("hi") == "a remora rides"
    *_, last = converted.text_generation("hi", stream=True, details=True)
    assert (last.index, last.generated_text) == (3, "a remora rides")
    assert last.details is not None and last.details.generated_tokens == 3
    answer = converted.text_generation("hi", details=True)
    assert [token.text for token in answer.details.tokens] == ["a", " remora", " rides"]
