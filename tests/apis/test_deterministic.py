"""Which requests have one answer, however often they are asked."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.apis import by_name
from proxy.exchange import Request, Stream

CHAT = "/v1/chat/completions"
FUNCTION = {"type": "function", "function": {"name": "f"}}

YES: list[tuple[str, Any]] = [
    ("/v1/embeddings", {"model": "m", "input": "a"}),
    ("/embeddings", {"input": ["a"]}),
    ("/v1/rerank", {"query": "a", "documents": []}),
    ("/v2/rerank", {"query": "a", "documents": []}),
    ("/v1/score", {"text_1": "a", "text_2": "b"}),
    ("/v1/classify", {"input": "a"}),
    ("/v1/pooling", {"input": "a"}),
    ("/v1/moderations", {"input": "a"}),
    ("/v1/tokenize", {"prompt": "a"}),
    ("/tokenize", {"prompt": "a"}),
    ("/invocations", {"model": "m", "input": "a"}),
    ("/invocations", {"model": "m", "prompt": "a", "temperature": 0}),
    (CHAT, {"messages": [], "temperature": 0}),
    (CHAT, {"messages": [], "temperature": 0.0, "n": 3, "top_p": 0.5}),
    (CHAT, {"messages": [], "temperature": 0, "do_sample": False, "xtc_probability": 0}),
    (CHAT, {"messages": [], "temperature": 1.5, "seed": 0}),
    (CHAT, {"messages": [], "temperature": 0, "tools": [FUNCTION]}),
    ("/v1/completions", {"prompt": "a", "seed": 7, "stream": True}),
    ("/v1/responses", {"input": "a", "temperature": 0}),
    ("/v1/messages", {"messages": [], "temperature": 0}),
    ("/openai/deployments/x/chat/completions?api-version=1", {"messages": [], "temperature": 0}),
    ("/v1/models/iris:predict", {"instances": [[1]]}),
    ("/v1/models/iris:explain", {"instances": [[1]]}),
    ("/v2/models/resnet/infer", {"inputs": []}),
    ("/v2/models/resnet/versions/1/infer", {"inputs": [], "parameters": {"sequence_id": 0}}),
    ("/v2/models/llm/generate", {"text_input": "a", "temperature": 0}),
    ("/v2/models/llm/generate", {"text_input": "a", "parameters": {"temperature": 0}}),
    ("/v2/models/llm/generate_stream", {"text_input": "a", "random_seed": 1}),
    ("/generate", {"inputs": "a"}),
    ("/generate", {"inputs": "a", "parameters": None}),
    ("/generate", {"inputs": "a", "parameters": {"do_sample": False, "temperature": None}}),
    ("/generate", {"inputs": "a", "parameters": {"do_sample": True, "seed": 3}}),
    ("/generate_stream", {"inputs": "a", "parameters": {"max_new_tokens": 3}}),
    ("/chat_tokenize", {"messages": []}),
    ("/", {"inputs": "a", "parameters": {"repetition_penalty": 1.1}}),
    ("/", {"inputs": ["a"]}),
    ("/embed", {"inputs": "a"}),
    ("/embed_sparse", {"inputs": "a"}),
    ("/predict", {"inputs": "a"}),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}),
    ("/decode", {"ids": [1]}),
    ("/rerank", {"query": "a", "texts": []}),
]

NO: list[tuple[str, Any]] = [
    (CHAT, {"messages": []}),
    (CHAT, {"messages": [], "temperature": 0.1}),
    (CHAT, {"messages": [], "temperature": 1}),
    (CHAT, {"messages": [], "temperature": None}),
    (CHAT, {"messages": [], "temperature": False}),
    (CHAT, {"messages": [], "temperature": "0"}),
    (CHAT, {"messages": [], "temperature": -1}),
    (CHAT, {"messages": [], "seed": -1}),
    (CHAT, {"messages": [], "seed": 0xFFFFFFFF}),
    (CHAT, {"messages": [], "seed": None}),
    (CHAT, {"messages": [], "seed": True}),
    (CHAT, {"messages": [], "temperature": 0, "do_sample": True}),
    (CHAT, {"messages": [], "temperature": 0, "xtc_probability": 0.5}),
    (CHAT, {"messages": [], "temperature": 0, "dynatemp_range": 0.5}),
    (CHAT, {"messages": [], "temperature": 0, "mirostat": 2}),
    (CHAT, {"messages": [], "temperature": 0, "samplers": ["top_k"]}),
    (CHAT, {"messages": [], "temperature": 0, "store": True}),
    (CHAT, {"messages": [], "temperature": 0, "web_search_options": {"a": 1}}),
    (CHAT, {"messages": [], "temperature": 0, "tools": {"type": "function"}}),
    ("/v1/responses", {"input": "a", "temperature": 0, "tools": [{"type": "web_search"}]}),
    ("/v1/responses", {"input": "a", "temperature": 0, "conversation": "c"}),
    ("/v1/responses", {"input": "a", "temperature": 0, "background": True}),
    ("/v1/threads/t/messages", {"role": "user", "temperature": 0}),
    ("/v1/audio/speech", {"input": "a", "temperature": 0}),
    ("/v1/images/generations", {"prompt": "a", "seed": 1}),
    (CHAT, []),
    (CHAT, None),
    ("/v1/embeddings", []),
    ("/v2/models/resnet/infer", {"inputs": [], "parameters": {"sequence_id": 7}}),
    ("/v2/models/resnet/infer", {"input": []}),
    ("/v2/models/llm/generate", {"text_input": "a"}),
    ("/v2/models/llm/generate", {"text_input": "a", "temperature": 0, "sequence_id": 3}),
    ("/v2/repository/index", {"ready": True}),
    ("/v2/models/resnet/load", {"inputs": []}),
    ("/generate", {"inputs": "a", "parameters": {"do_sample": True}}),
    ("/generate", {"inputs": "a", "parameters": {"do_sample": False, "temperature": 0.7}}),
    ("/generate", {"inputs": "a", "parameters": {"top_k": 5}}),
    ("/generate", {"inputs": "a", "parameters": {"top_p": 0.9}}),
    ("/generate", {"inputs": "a", "parameters": {"typical_p": 0.9}}),
    ("/generate", {"inputs": "a", "parameters": [1]}),
    ("/generate", {"prompt": "a"}),
    ("/health", {"inputs": "a", "temperature": 0}),
    ("/completion", {"prompt": "a", "temperature": 0}),
]


def asked(target: str, body: Any, method: bytes = b"POST") -> Request:
    return Request(method, target.encode(), [], orjson.dumps(body))


@pytest.mark.parametrize(("target", "body"), YES)
def test_one_answer(target: str, body: Any) -> None:
    """What is computed, greedy or seeded has one answer."""
    request = asked(target, body)
    assert request.api.deterministic(request)


@pytest.mark.parametrize(("target", "body"), NO)
def test_any_answer(target: str, body: Any) -> None:
    """What is sampled, stands on the server's state, or is not understood, may be answered anew."""
    request = asked(target, body)
    assert not request.api.deterministic(request)


@pytest.mark.parametrize(("target", "body"), YES)
def test_only_what_is_posted_in_json_and_read(target: str, body: Any) -> None:
    """Another method, a body that is no JSON, or one nobody has read, is not understood."""
    api = asked(target, body).api
    assert not api.deterministic(asked(target, body, b"PUT"))
    for raw in (b"", b"{", Stream()):
        assert not api.deterministic(Request(b"POST", target.encode(), [], raw))


def test_an_infer_request_with_binary_tensors() -> None:
    """The JSON before the tensors is what counts, as far as its header says that it goes."""
    head = b'{"inputs":[{"name":"a","parameters":{"binary_data_size":2}}]}'
    in_sequence = head[:-1] + b',"parameters":{"sequence_id":5}}'
    for size, body, expected in (
        (b"%d" % len(head), head + b"\xff\x00", True),
        (b"%d" % len(in_sequence), in_sequence + b"\xff\x00", False),
        (b"%d" % (len(head) + 1), head + b"\xff\x00", False),
        (b"-3", head, False),
        (b"9" * 5000, head, False),
    ):
        headers = [(b"Inference-Header-Content-Length", size)]
        request = Request(b"POST", b"/v2/models/m/infer", headers, body)
        assert request.api.deterministic(request) is expected, (size, body)


KEYS = ["inputs", "parameters", "temperature", "seed", "tools", "stream", "messages", "model"]
LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-1, 1) | st.text(max_size=3)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=8,
)
TARGETS = sorted({target for target, _ in YES + NO})


@given(st.sampled_from(TARGETS), JSON)
def test_any_json_can_be_asked_about(target: str, body: Any) -> None:
    """Whatever JSON a body is, every API has an answer to every question about the request."""
    request = asked(target, body)
    for api in by_name.values():
        assert isinstance(api.deterministic(request), bool)
        assert isinstance(api.streams(request), bool)
        assert len(api.model(request)) <= 128
        api.unstreamed(request)
        api.to_stream(request, body)
        api.to_answer(request, [orjson.dumps(body)])
        assert api.usage(body) >= 0
