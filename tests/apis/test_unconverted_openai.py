"""What of OpenAI's API is not converted, and which requests are twins."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange import Request

from .openai_shapes import API, CHAT, USAGE, asked, chat, chunk, delta, said, streamed, text_answer

CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def with_call(call: Any) -> dict[str, Any]:
    return chat({**said(None), "message": {"role": "assistant", "tool_calls": [call]}})


UNTOLD = {
    "no object": None,
    "a list": [chat(said())],
    "an error": {"error": {"message": "no"}},
    "another object": {**chat(said()), "object": "response"},
    "no choices": chat(),
    "no message": chat({"index": 0, "finish_reason": "stop"}),
    "no role": chat({"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}),
    "unfinished": chat(said(finish_reason=None)),
    "a choice missing": chat(said(index=1)),
    "a choice twice": chat(said(), said()),
    "no index": chat({**said(), "index": None}),
    "content in parts": chat({**said(), "message": {"role": "assistant", "content": [{"a": 1}]}}),
    "audio": chat({**said(), "message": {"role": "assistant", "audio": {"id": "a"}}}),
    "token ids": chat(said(token_ids=[1, 2])),
    "citations": chat(said(), citations=["a"]),
    "a custom tool": with_call({"id": "a", "type": "custom", "custom": {"name": "f"}}),
    "arguments as an object": with_call({**CALL, "function": {"name": "f", "arguments": {}}}),
    "a call without a name": with_call({**CALL, "function": {"arguments": "{}"}}),
    "odd logprobs": chat(said(logprobs={"content": 3})),
}


@pytest.mark.parametrize("why", UNTOLD)
def test_what_cannot_be_streamed_is_not(why: str) -> None:
    """An answer that is no completion, or has parts that no stream is known for, stays as it is."""
    assert streamed(UNTOLD[why]) is None


def test_usage_that_was_asked_for_must_be_there() -> None:
    """A client that asked for usage gets no stream without it, or without it in every event."""
    assert streamed(chat(said())) is not None
    assert streamed(chat(said()), usage=True) is None
    request = asked(CHAT, stream=True, stream_options={"continuous_usage_stats": True})
    assert API.to_stream(request, chat(said(), usage=USAGE)) is None


PLAIN = [chunk(delta(role="assistant", content="a")), chunk(delta(finish="stop"))]
BROKEN = {
    "nothing": [],
    "only its end": [b"[DONE]"],
    "cut off": PLAIN[:1],
    "an error in the middle": [PLAIN[0], b'{"error":{"message":"no"}}', PLAIN[1]],
    "an error in a chunk": [chunk(delta(content="a", finish="stop"), error={"code": 1})],
    "no JSON": [*PLAIN, b"{"],
    "another stream": [b'{"token":{"id":1,"text":"a"},"generated_text":"a"}'],
    "two kinds": [*PLAIN, orjson.dumps(text_answer())],
    "a choice missing": [chunk(delta(1, content="a", finish="stop"))],
    "one of two cut off": [*PLAIN, chunk(delta(1, content="b"))],
    "token ids": [chunk({**delta(content="a", finish="stop"), "token_ids": [5]})],
    "filter results": [*PLAIN, chunk(prompt_filter_results=[{"a": 1}])],
    "a call without an index": [chunk(delta(tool_calls=[CALL], finish="stop"))],
    "a call missing": [chunk(delta(tool_calls=[{**CALL, "index": 1}], finish="stop"))],
    "a call in no list": [chunk(delta(tool_calls={**CALL, "index": 0}, finish="stop"))],
    "a name in pieces": [
        chunk(delta(tool_calls=[{**CALL, "index": 0}])),
        chunk(delta(tool_calls=[{"index": 0, "function": {"name": "oo"}}], finish="stop")),
    ],
    "a call without a name": [
        chunk(delta(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}], finish="stop"))
    ],
}


@pytest.mark.parametrize("why", BROKEN)
def test_a_stream_that_is_not_whole_is_no_answer(why: str) -> None:
    """What is cut off, failed, or has parts that are not known makes no answer."""
    assert API.to_answer(asked(CHAT), PLAIN) == chat(said("a"))
    assert API.to_answer(asked(CHAT), BROKEN[why]) is None


def test_a_request_and_its_streaming_twin_share_a_form() -> None:
    """`stream` and `stream_options` make no difference, all else does."""
    plain = asked(CHAT + "?a=b", model="m", temperature=0)
    form = API.unstreamed(plain)
    assert form == (b"/v1/chat/completions?a=b", {"model": "m", "temperature": 0, "messages": []})
    for more in ({"stream": True}, {"stream": False}, {"stream": None}):
        options = {**more, "stream_options": {"include_usage": True}}
        assert API.unstreamed(asked(CHAT + "?a=b", model="m", temperature=0, **options)) == form
    for other in ({"model": "n"}, {"temperature": 1}, {"user": "u"}):
        body = {"model": "m", "temperature": 0, **other}
        assert API.unstreamed(asked(CHAT + "?a=b", **body)) != form


@pytest.mark.parametrize(
    "request_",
    [
        asked("/v1/embeddings"),
        asked("/v1/responses", stream=True),
        asked("/v1/messages", stream=True),
        asked(CHAT, stream=1),
        asked(CHAT, stream="true"),
        Request(b"POST", CHAT.encode(), [], b"[]"),
        Request(b"POST", CHAT.encode(), [], b""),
        Request(b"POST", CHAT.encode(), [], b'{"stream":true}'),
        Request(b"GET", CHAT.encode(), [], b'{"messages":[]}'),
    ],
    ids=str,
)
def test_what_does_not_convert_has_no_form(request_: Request) -> None:
    """Other endpoints, and what servers may read in two ways, have no form to share."""
    assert API.unstreamed(request_) is None


KEYS = ["object", "choices", "index", "message", "delta", "role", "content", "tool_calls", "text"]
KINDS = st.sampled_from(["chat.completion", "chat.completion.chunk", "text_completion", "stop"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 1) | KINDS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from([*KEYS, "finish_reason", "logprobs"]), inner, max_size=6)
    ),
    max_leaves=20,
)
TOPS = st.builds(lambda kind, made: {"object": kind, "choices": made}, KINDS, st.lists(JSON))


@given(JSON | TOPS)
def test_any_json_is_converted_or_not(made: Any) -> None:
    """Whatever JSON a server answers with, a conversion gives an answer or None, never an error."""
    streamed(made)
    API.to_answer(asked(CHAT), [orjson.dumps(made), orjson.dumps(made)])
