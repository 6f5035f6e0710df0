"""OpenAI's completions from their streams and back, as openai's own client reads both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from .openai_shapes import (
    API,
    CHAT,
    TEXT,
    USAGE,
    asked,
    chat,
    chunk,
    chunks_of,
    delta,
    said,
    streamed,
    text_answer,
    whole,
)


class Replay:
    """Stands for remora: whatever is asked, it streams `events`."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.client = openai.OpenAI(
            base_url="http://remora.test/v1",
            api_key="none",
            max_retries=0,
            http_client=httpx2.Client(transport=httpx2.MockTransport(self._answer)),
        )

    def _answer(self, sent: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, content=b"".join(self.events))


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    replayed = Replay()
    with replayed.client:
        yield replayed


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.sampled_from("abc_-19"), min_size=1, max_size=8)
tool_calls = st.builds(
    lambda call_id, name, arguments: {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    },
    names,
    names,
    texts,
)
token_logprobs = st.builds(
    lambda token, logprob: {
        "token": token, "logprob": logprob, "bytes": list(token.encode()), "top_logprobs": [],
    },
    texts,
    st.floats(-9, 0),
)  # fmt: skip
logprobs = st.none() | st.builds(
    lambda content, refusal: {"content": content, "refusal": refusal},
    st.none() | st.lists(token_logprobs, min_size=1, max_size=3),
    st.none() | st.lists(token_logprobs, min_size=1, max_size=3),
)
messages = st.builds(
    lambda content, more, calls: {
        "role": "assistant",
        "content": content,
        **more,
        **({"tool_calls": calls} if calls else {}),
    },
    st.none() | texts,
    st.fixed_dictionaries({}, optional={"refusal": st.none() | texts, "reasoning_content": texts}),
    st.lists(tool_calls, max_size=3),
)
REASONS = ["stop", "length", "tool_calls", "content_filter"]
choices = st.lists(
    st.fixed_dictionaries(
        {"message": messages, "finish_reason": st.sampled_from(REASONS)},
        optional={"logprobs": logprobs, "stop_reason": st.none() | st.integers(0, 9) | texts},
    ),
    min_size=1,
    max_size=3,
).map(lambda made: [{"index": index, **choice} for index, choice in enumerate(made)])
answers = st.builds(
    lambda made, more: chat(*made, **more),
    choices,
    st.fixed_dictionaries(
        {"usage": st.just(USAGE)}, optional={"system_fingerprint": st.none() | texts}
    ),
)


@given(answers, st.booleans())
def test_a_chat_streamed_adds_up_to_itself(answer: dict[str, Any], usage: bool) -> None:
    """Any chat, streamed and put together again, is what it was; usage only where asked for."""
    assert ChatCompletion.model_validate(answer)
    events = streamed(answer, usage=usage)
    assert events is not None
    expected = answer if usage else {key: answer[key] for key in answer if key != "usage"}
    assert whole(events) == expected


@given(answers)
@settings(deadline=None)
def test_openais_client_reads_the_stream_as_the_chat(answer: dict[str, Any]) -> None:
    """Each event is a valid chunk, and openai's own accumulator gives the chat that was stored."""
    events = streamed(answer, usage=True)
    assert events is not None
    state = ChatCompletionStreamState()
    for event in chunks_of(events):
        state.handle_chunk(ChatCompletionChunk.model_validate(event))
    final = state.current_completion_snapshot
    assert final.usage is not None and final.usage.total_tokens == 7
    assert [choice.index for choice in final.choices] == list(range(len(answer["choices"])))
    for got, choice in zip(final.choices, answer["choices"], strict=True):
        message = choice["message"]
        assert got.finish_reason == choice["finish_reason"]
        assert (got.message.role, got.message.content) == ("assistant", message["content"])
        assert got.message.refusal == message.get("refusal")
        calls = [
            (call.id, call.type, call.function.name, call.function.arguments)
            for call in got.message.tool_calls or []
        ]
        assert calls == [
            (call["id"], "function", call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls", [])
        ]
        held = choice.get("logprobs") or {}
        read = got.logprobs.to_dict() if got.logprobs is not None else {}
        assert {key: value for key, value in read.items() if value is not None} == {
            key: value for key, value in held.items() if value is not None
        }


def test_openais_client_streams_a_converted_chat(replay: Replay) -> None:
    """The client, unchanged, iterates over the events to their end and gets text and usage."""
    replay.events = streamed(chat(said("hé\u2028llo"), usage=USAGE), usage=True) or []
    stream = replay.client.chat.completions.create(model="m", messages=[], stream=True)
    got = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in got if c.choices) == "hé\u2028llo"
    assert [c.choices[0].finish_reason for c in got if c.choices] == [None, None, "stop"]
    assert got[0].choices[0].delta.role == "assistant"
    assert got[-1].choices == [] and got[-1].usage is not None
    assert {chunk.id for chunk in got} == {"chatcmpl-1"}


def test_openais_client_streams_a_converted_completion(replay: Replay) -> None:
    """The same for the older completions, several choices at once."""
    made = [{"index": n, "text": text, "finish_reason": "length"} for n, text in enumerate("ab")]
    replay.events = streamed(text_answer(*made, usage=USAGE), TEXT) or []
    got = list(replay.client.completions.create(model="m", prompt="x", stream=True))
    assert [(c.choices[0].index, c.choices[0].text) for c in got] == [
        (0, "a"), (0, ""), (1, "b"), (1, ""),
    ]  # fmt: skip
    assert all(chunk.usage is None for chunk in got)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"text": texts, "finish_reason": st.sampled_from(["stop", "length"])},
            optional={
                "logprobs": st.none()
                | st.fixed_dictionaries(
                    {
                        "tokens": st.lists(texts, max_size=3),
                        "token_logprobs": st.lists(st.floats(-9, 0), max_size=3),
                        "top_logprobs": st.none(),
                        "text_offset": st.lists(st.integers(0, 9), max_size=3),
                    }
                )
            },
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)
def test_a_completion_streamed_adds_up_to_itself(made: list[dict[str, Any]], usage: bool) -> None:
    """Any completion, streamed and put together again, is what it was."""
    indexed = [{"index": index, **choice} for index, choice in enumerate(made)]
    answer = text_answer(*indexed, usage=USAGE)
    events = streamed(answer, TEXT, usage)
    assert events is not None
    for event in chunks_of(events):
        for choice in event["choices"]:
            # openai's model has no null here, though its stream does.
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        assert Completion.model_validate(event)
    got = whole(events, TEXT)
    assert got == (answer if usage else {key: answer[key] for key in answer if key != "usage"})
    assert Completion.model_validate(got)


def test_tool_calls_are_merged_by_index() -> None:
    """Arguments that come in pieces, of two calls at once, end up in their own call."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    events = [
        chunk(delta(role="assistant", content=None)),
        chunk(delta(tool_calls=[{**call, "index": 0}])),
        chunk(delta(tool_calls=[{"index": 0, "function": {"arguments": '{"x"'}}])),
        chunk(
            delta(
                tool_calls=[
                    {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}},
                    {**call, "index": 0, "function": {"name": "f", "arguments": ":1}"}},
                ]
            )
        ),
        chunk(delta(tool_calls=[{"index": 1, "function": {"arguments": "}"}}])),
        chunk(delta(finish="tool_calls")),
        chunk(usage=USAGE),
        b"[DONE]",
    ]
    answer = API.to_answer(asked(CHAT), events)
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    assert answer["usage"] == USAGE
    assert ChatCompletion.model_validate(answer)


def test_a_role_in_every_event_is_one_role() -> None:
    """TGI and others repeat the role; it is not glued together, and padding is left out."""
    events = [
        chunk(delta(role="assistant", content="a"), obfuscation="xxxx"),
        chunk(delta(role="assistant", content="b")),
        chunk(delta(role="assistant", content="", finish="stop"), obfuscation="x"),
    ]
    assert API.to_answer(asked(CHAT), events) == chat(said("ab"))


def test_choices_that_come_mixed_are_put_in_order() -> None:
    """The events of several choices may alternate, the higher first; `data: null` is nothing."""
    events = [
        b"null",
        chunk(delta(1, role="assistant"), delta(0, role="assistant")),
        chunk(delta(1, content="b")),
        chunk(delta(0, content="a")),
        chunk(delta(1, content="b", finish="stop")),
        chunk(delta(0, finish="stop")),
    ]
    assert API.to_answer(asked(CHAT), events) == chat(said("a", 0), said("bb", 1))


def test_what_a_server_adds_is_carried_along() -> None:
    """vLLM's own fields, null for the most part, are in both forms; its empty lists in neither."""
    message = {
        "role": "assistant", "content": "hi", "refusal": None, "annotations": None, "audio": None,
        "function_call": None, "reasoning_content": "hm",
    }  # fmt: skip
    choice = {
        "index": 0, "message": message, "logprobs": None, "finish_reason": "stop",
        "stop_reason": 128009, "token_ids": None,
    }  # fmt: skip
    answer = chat(choice, service_tier=None, prompt_logprobs=None, kv_transfer_params=None)
    events = streamed({**answer, "choices": [{**choice, "message": {**message, "tool_calls": []}}]})
    assert events is not None
    assert whole(events) == answer
    deltas = [each["choices"][0]["delta"] for each in chunks_of(events)]
    assert deltas[1:] == [{"reasoning_content": "hm"}, {"content": "hi"}, {}]
