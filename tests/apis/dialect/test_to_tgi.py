"""OpenAI's calls for a server that speaks TGI's API."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.apis.dialect import Untranslatable, translate
from proxy.apis.dialect.held import Held, first_stop
from proxy.apis.dialect.template import TEMPLATES
from proxy.apis.shape import Untold
from proxy.errors import UpstreamClosed
from proxy.exchange import Request

HI = [{"role": "user", "content": "hi"}]


def made(path: str, body: Any, template: str = "chatml") -> Any:
    request = Request(b"POST", path.encode(), [], orjson.dumps(body))
    return translate(request, "tgi", TEMPLATES[template], None)


def parameters(**body: Any) -> dict[str, Any]:
    called = made("/v1/completions", {"prompt": "p", **body}).call
    assert called.body["inputs"] == "p"
    asked: dict[str, Any] = called.body["parameters"]
    assert asked.pop("details") is True
    assert orjson.loads(orjson.dumps(asked)) == asked
    return asked


PARAMETERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"do_sample": True, "max_new_tokens": 16}),
    ({"temperature": 0}, {"max_new_tokens": 16}),
    ({"temperature": 0, "top_p": 0.5}, {"max_new_tokens": 16}),
    ({"temperature": 1, "top_p": 1}, {"do_sample": True, "max_new_tokens": 16}),
    (
        {"temperature": 0.5, "top_p": 0.9, "max_tokens": 7},
        {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "max_new_tokens": 7},
    ),
    (
        {"temperature": 0, "stop": "x", "seed": 3, "max_completion_tokens": 2},
        {"stop": ["x"], "seed": 3, "max_new_tokens": 2},
    ),
    ({"temperature": 0, "stop": ["x", "y"]}, {"stop": ["x", "y"], "max_new_tokens": 16}),
    ({"temperature": 0, "stop": []}, {"max_new_tokens": 16}),
    ({"temperature": 0, "logprobs": 3}, {"top_n_tokens": 3, "max_new_tokens": 16}),
    ({"temperature": 0, "logprobs": 0}, {"max_new_tokens": 16}),
    # For the server to refuse: a number is passed on as it is, however large.
    ({"temperature": 0, "logprobs": 1e300}, {"top_n_tokens": 1e300, "max_new_tokens": 16}),
    (
        {"temperature": 0, "top_k": 5, "typical_p": 0.5, "repetition_penalty": 1.2, "n": 1},
        {"repetition_penalty": 1.2, "max_new_tokens": 16},
    ),
    (
        {"top_k": 5, "typical_p": 0.5, "user": "u"},
        {"do_sample": True, "top_k": 5, "typical_p": 0.5, "max_new_tokens": 16},
    ),
]


@pytest.mark.parametrize(("body", "asked"), PARAMETERS)
def test_parameters_mean_the_same(body: dict[str, Any], asked: dict[str, Any]) -> None:
    """The two APIs have other defaults: what one leaves out the other must be told."""
    assert parameters(**body) == asked


def test_a_schema_is_a_grammar() -> None:
    """`response_format` with a JSON schema is what TGI calls a grammar."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    assert parameters(response_format=form)["grammar"] == {
        "type": "json", "value": {"type": "object"},
    }  # fmt: skip


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "`n` must be 1"),
    ({"best_of": 2}, "`best_of` must be 1"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"messages": HI}, "messages"),
    ({"echo": "yes"}, "`echo` must be true or false"),
    ({"stream": 1}, "`stream` must be true or false"),
    ({"stream_options": {"include_usage": 1}}, "include_usage"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"suffix": "x"}, "suffix"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"unheard_of": 1}, "unheard_of"),
    ({"prompt": ["a", "b"]}, "one string"),
    ({"prompt": [1, 2]}, "one string"),
    ({"temperature": "hot"}, "a number"),
    ({"seed": -1}, "seed"),
    ({"stop": 5}, "stop"),
    ({"echo": True, "logprobs": 0}, "`echo` with `logprobs`"),
]


@pytest.mark.parametrize(("body", "told"), REFUSED)
def test_what_cannot_be_said_is_refused(body: dict[str, Any], told: str) -> None:
    """By the name of the parameter: nothing that was asked for is dropped in silence."""
    with pytest.raises(Untranslatable, match=told):
        made("/v1/completions", {"prompt": "p", **body})


CHAT_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"top_logprobs": 2}, "`top_logprobs` needs `logprobs: true`"),
    ({"logprobs": 2}, "`logprobs` must be true or false"),
    ({"prompt": "p"}, "prompt"),
    ({"echo": True}, "echo"),
    ({"tools": [{}]}, "tools"),
    ({"tool_choice": "required"}, "`tool_choice` must be none or auto"),
    ({"function_call": {"name": "f"}}, "function_call"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"verbosity": "low"}, "verbosity"),
    ({"reasoning_effort": "none"}, "reasoning_effort"),
    ({"moderation": {"model": "x"}}, "moderation"),
]


@pytest.mark.parametrize(("body", "told"), CHAT_REFUSED)
def test_what_a_chat_cannot_say_is_refused(body: dict[str, Any], told: str) -> None:
    """Also what asks for something while it is empty, and what only completions have."""
    with pytest.raises(Untranslatable, match=told):
        made("/v1/chat/completions", {"messages": HI, **body})


def test_what_is_taken_for_granted_may_be_said() -> None:
    """Clients write defaults out; and what is for the service alone changes nothing."""
    said: dict[str, Any] = {
        "n": 1, "modalities": ["text"], "tool_choice": "auto", "function_call": "none", "tools": [],
        "top_logprobs": 0, "logprobs": False, "echo": False, "stream": False, "store": True,
        "prompt_cache_retention": "24h", "user": "u", "presence_penalty": 0, "logit_bias": {},
    }  # fmt: skip
    plain = made("/v1/chat/completions", {"messages": HI})
    assert made("/v1/chat/completions", {"messages": HI, **said}).call == plain.call
    assert parameters(best_of=1) == parameters()


@pytest.mark.parametrize("name", ["n", "logit_bias", "presence_penalty", "tools", "suffix"])
def test_null_asks_for_nothing(name: str) -> None:
    """Clients send null for what they leave out."""
    assert made("/v1/completions", {"prompt": "p", name: None}) is not None


CHATS = {
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
    "<|im_start|>assistant\n",
    "llama3": "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "[INST] S\n\nhi [/INST]",
    "zephyr": "<|system|>\nS</s>\n<|user|>\nhi</s>\n<|assistant|>\n",
    "plain": "system: S\nuser: hi\nassistant:",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_is_a_prompt(name: str) -> None:
    """In the words that the model's kind was trained on."""
    messages = [{"role": "developer", "content": "S"}, *HI]
    called = made("/v1/chat/completions", {"messages": messages}, name).call
    assert called.body["inputs"] == CHATS[name]
    assert called.body["parameters"] == {
        "details": True, "do_sample": True, "max_new_tokens": None,
    }  # fmt: skip


def test_what_the_system_says_joins_what_the_user_says_next() -> None:
    """Where the format has no place for it, as Mistral's; with nobody to follow it is refused."""

    def inputs(*roles: str) -> Any:
        messages = [{"role": role, "content": role[0]} for role in roles]
        return made("/v1/chat/completions", {"messages": messages}, "mistral").call.body["inputs"]

    assert inputs("user", "assistant", "user") == "[INST] u [/INST] a</s>[INST] u [/INST]"
    assert inputs("system", "system", "user", "assistant", "system", "user") == (
        "[INST] s\n\ns\n\nu [/INST] a</s>[INST] s\n\nu [/INST]"
    )
    with pytest.raises(Untranslatable, match="followed"):
        inputs("user", "system")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\x1f\x8b"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """By what it should be."""
    request = Request(b"POST", b"/v1/completions", [], body)
    with pytest.raises(Untranslatable, match="JSON object"):
        translate(request, "tgi", TEMPLATES["chatml"], None)


def test_braces_in_a_message_are_text() -> None:
    """What a client writes is put in once and read by nobody."""
    messages = [{"role": "user", "content": "{content} {role} {0}"}]
    called = made("/v1/chat/completions", {"messages": messages}, "plain").call
    assert called.body["inputs"] == "user: {content} {role} {0}\nassistant:"


@pytest.mark.parametrize(
    "messages",
    [
        None, [], "hi", [5], [{"role": "tool", "content": "x"}], [{"role": "user"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
        [{"role": "assistant", "content": "", "tool_calls": [{}]}],
        [{"role": "assistant", "content": "", "function_call": {"name": "f"}}],
    ],
)  # fmt: skip
def test_a_chat_that_is_no_text_is_refused(messages: Any) -> None:
    """Pictures, tools and what is no list of messages."""
    with pytest.raises(Untranslatable):
        made("/v1/chat/completions", {"messages": messages})


TOKENS = [
    {"id": 1, "text": " a", "logprob": -0.5, "special": False},
    {"id": 2, "text": " b", "logprob": -0.25, "special": False},
]


def whole(reason: str, text: str = " a b", **more: Any) -> dict[str, Any]:
    details = {"finish_reason": reason, "generated_tokens": 2, "seed": None, "prefill": []}
    return {"generated_text": text, "details": {**details, "tokens": TOKENS, **more}}


def test_a_completion() -> None:
    """Text, reason and usage; the prompt's tokens are the server's where it counts them."""
    spoken = made("/v1/completions", {"prompt": "p" * 40, "model": "m"})
    told = spoken.answer(whole("length"))
    assert told["choices"] == [
        {"index": 0, "text": " a b", "logprobs": None, "finish_reason": "length"}
    ]
    assert told["usage"] == {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    assert (told["object"], told["model"]) == ("text_completion", "m")
    counted = spoken.answer(whole("eos_token", prefill=[{}] * 3))
    assert counted["usage"]["prompt_tokens"] == 3
    assert counted["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("reason", ["stop_sequence", "length"])
@pytest.mark.parametrize("end", ["", ".", "\n", ".. and on"])
def test_what_stopped_it_is_not_in_the_text(reason: str, end: str) -> None:
    """TGI leaves the stop sequence in, and what its last token has behind it; in the middle of a
    token it does not see one. OpenAI's text has none in any case.
    """
    spoken = made("/v1/completions", {"prompt": "p", "stop": ["b", " b"]})
    (choice,) = spoken.answer(whole(reason, " a b" + end))["choices"]
    assert (choice["text"], choice["finish_reason"]) == (" a", "stop")
    spoken = made("/v1/completions", {"prompt": "p", "stop": ["c"]})
    assert spoken.answer(whole("length"))["choices"][0]["finish_reason"] == "length"


def test_echo() -> None:
    """The prompt stands before the text, whole and streamed."""
    spoken = made("/v1/completions", {"prompt": "pp", "echo": True, "stream": True})
    (choice,) = spoken.answer(whole("length"))["choices"]
    assert choice["text"] == "pp a b"
    events = stream(spoken, TOKENS, "length")
    assert [event["choices"][0]["text"] for event in events] == ["pp", " a", " b", ""]


def test_logprobs() -> None:
    """Each token with the likelier ones and its place in the text, whole and streamed alike."""
    spoken = made("/v1/completions", {"prompt": "pp", "logprobs": 1, "stream": True})
    (choice,) = spoken.answer(whole("length", top_tokens=[[TOKENS[1]], []]))["choices"]
    assert choice["logprobs"] == {
        "tokens": [" a", " b"],
        "token_logprobs": [-0.5, -0.25],
        "top_logprobs": [{" b": -0.25}, {}],
        "text_offset": [0, 2],
    }
    parts = [event["choices"][0]["logprobs"] for event in stream(spoken, TOKENS, "length")]
    assert [part["text_offset"] for part in parts[:-1]] == [[0], [2]]
    assert [part["tokens"] for part in parts[:-1]] == [[" a"], [" b"]]


def test_a_chat_answer() -> None:
    """A message, with the logprobs that chat has."""
    body = {"messages": HI, "logprobs": True, "top_logprobs": 1}
    (choice,) = made("/v1/chat/completions", body).answer(whole("eos_token"))["choices"]
    assert choice["message"] == {"role": "assistant", "content": " a b", "refusal": None}
    first = choice["logprobs"]["content"][0]
    assert (first["token"], first["bytes"], first["top_logprobs"]) == (" a", [32, 97], [])


@pytest.mark.parametrize("answer", [None, [], {}, {"generated_text": "x"}, whole("length", None)])  # type: ignore[arg-type]
def test_another_shape_is_untold(answer: Any) -> None:
    """Nothing is made up of it."""
    with pytest.raises(Untold):
        made("/v1/completions", {"prompt": "p"}).answer(answer)


def stream(spoken: Any, tokens: list[dict[str, Any]], reason: str) -> list[Any]:
    """The data of the events that a client gets of these tokens, the last with the details."""
    turner = spoken.events()
    out = b""
    for place, token in enumerate(tokens, 1):
        last = place == len(tokens)
        details = {"finish_reason": reason, "generated_tokens": len(tokens), "input_length": 5}
        event = {"index": place, "token": token, "generated_text": "x" if last else None,
                 "details": details if last else None}  # fmt: skip
        out += turner.feed(orjson.dumps(event))
    out += turner.end()
    datas = [one.removeprefix(b"data: ") for one in out.split(b"\n\n")[:-1]]
    assert datas.pop() == b"[DONE]"
    return [orjson.loads(data) for data in datas]


def test_a_streamed_chat() -> None:
    """A role first, a piece a token, a reason, the usage where it was asked for, `[DONE]`."""
    body = {"messages": HI, "stream": True, "stream_options": {"include_usage": True}}
    spoken = made("/v1/chat/completions", body)
    assert (spoken.call.target, spoken.call.streams) == (b"/generate_stream", True)
    special = {"id": 3, "text": "</s>", "logprob": 0, "special": True}
    events = stream(spoken, [*TOKENS, special], "eos_token")
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    assert deltas == [
        {"role": "assistant", "content": ""}, {"content": " a"}, {"content": " b"}, {},
    ]  # fmt: skip
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["usage"]["total_tokens"] == 8
    assert len({event["id"] for event in events}) == 1


@given(
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=8),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    st.booleans(),
)
def test_a_stream_adds_up_to_the_whole_answer(
    texts: list[str], stops: list[str], logprobs: bool
) -> None:
    """However tokens cut the text, the pieces are the whole answer's: the text before the first
    stop sequence, the reason, and each token's probability.
    """
    body = {"prompt": "p", "stop": stops, "logprobs": 0 if logprobs else None}
    tokens = [{"id": 0, "text": text, "logprob": -1, "special": False} for text in texts]
    tokens.append({"id": 2, "text": "</s>", "logprob": -2, "special": True})
    events = stream(made("/v1/completions", {**body, "stream": True}), tokens, "eos_token")
    answer = whole("eos_token", "".join(texts), tokens=tokens)
    (choice,) = made("/v1/completions", body).answer(answer)["choices"]
    parts = [event["choices"][0] for event in events]
    pieces = "".join(part["text"] for part in parts)
    assert (pieces, parts[-1]["finish_reason"]) == (choice["text"], choice["finish_reason"])
    assert not any(stop in pieces for stop in stops)
    told = [part["logprobs"] for part in parts if part["logprobs"]]
    if logprobs:
        for name in ("tokens", "token_logprobs", "text_offset"):
            assert [one for part in told for one in part[name]] == choice["logprobs"][name]
    else:
        assert told == []


def test_text_leaves_as_soon_as_it_can() -> None:
    """Only what may be the beginning of a stop sequence waits for the next token."""
    held = Held(["\n\n", "END"])
    assert [held.feed(text) for text in ("a\n", "b", "E", "NE", "ND")] == ["a", "\nb", "", "EN", ""]
    assert (held.stopped, held.feed("more"), held.end()) == (True, "", "")
    held = Held(["END"])
    assert (held.feed("E"), held.end(), held.stopped) == ("", "E", False)
    assert first_stop("abc", ["c", "bc", "x"]) == 1


def test_a_stream_that_breaks_is_told() -> None:
    """An error of the server is OpenAI's error event, and then nothing; an early end is none."""
    turner = made("/v1/completions", {"prompt": "p", "stream": True}).events()
    out = turner.feed(b'{"error": "out of memory", "error_type": "generation"}')
    assert orjson.loads(out[6:])["error"]["message"] == "out of memory"
    assert turner.feed(orjson.dumps({"token": TOKENS[0]})) + turner.end() == b""
    turner = made("/v1/completions", {"prompt": "p", "stream": True}).events()
    turner.feed(orjson.dumps({"token": TOKENS[0]}))
    with pytest.raises(UpstreamClosed):
        turner.end()


ERRORS = [
    (422, {"error": "bad", "error_type": "validation"}, 400, "invalid_request_error", "validation"),
    (424, {"error": "x", "error_type": "generation"}, 500, "server_error", "generation"),
    (429, {"error": "x", "error_type": "overloaded"}, 429, "rate_limit_error", "overloaded"),
    (503, None, 503, "server_error", None),
]


@pytest.mark.parametrize(("status", "answer", "told", "kind", "code"), ERRORS)
def test_errors(status: int, answer: Any, told: int, kind: str, code: str | None) -> None:
    """With the status that makes the client raise what it should."""
    got, body = made("/v1/completions", {"prompt": "p"}).error(status, answer)
    assert (got, body["error"]["type"], body["error"]["code"]) == (told, kind, code)
    assert body["error"]["message"]


def test_an_error_that_says_nothing_is_told_by_its_own_status() -> None:
    """By the server's, which its log has, and not by the one that the client gets."""
    got, body = made("/v1/completions", {"prompt": "p"}).error(422, None)
    assert (got, body["error"]["message"]) == (400, "the server answered 422")


def test_models() -> None:
    """The list has the one that /info names."""
    request = Request(b"GET", b"/v1/models", [])
    spoken = translate(request, "tgi", TEMPLATES["plain"], None)
    assert spoken is not None
    assert spoken.call[:2] == (b"GET", b"/info")
    assert spoken.answer({"model_id": "m"})["data"][0]["id"] == "m"


def test_other_calls_are_left() -> None:
    """Embeddings, and TGI's own, pass as they are."""
    for path in ("/v1/embeddings", "/generate", "/v1/models"):
        assert made(path, {"inputs": "x"}) is None
