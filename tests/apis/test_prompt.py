"""What a request gives a model to read, and how long its answer may be."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.apis import recognise
from proxy.apis.prompt import MAX_DEPTH, prompt_of
from proxy.exchange import Request


def asked(path: str, body: Any) -> Request:
    return Request(b"POST", path.encode(), [], orjson.dumps(body))


PROMPTS = [
    ("/v1/completions", {"prompt": "abcdefgh"}, "abcdefgh", 2),
    ("/v1/completions", {"prompt": ["ab", "cd"]}, "ab\ncd", 1),
    ("/v1/completions", {"prompt": [5, 6, 7]}, "5\n6\n7", 3),
    ("/v1/completions", {"prompt": [5, True, "ab", 6]}, "5\nab\n6", 3),
    ("/v1/completions", {"prompt": [[5, 6], [7]]}, "5\n6\n7", 3),
    ("/v1/embeddings", {"input": ["één"]}, "één", 2),
    (
        "/v1/chat/completions",
        {"messages": [{"content": "hello", "role": "user"}]},
        "user\nhello",
        3,
    ),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        "user\nhi",
        2,
    ),
    ("/v1/rerank", {"query": "q", "documents": ["a", "b"]}, "q\na\nb", 1),
    ("/generate", {"inputs": "abcd"}, "abcd", 1),
    ("/embed", {"inputs": ["ab", "cd"]}, "ab\ncd", 1),
    ("/rerank", {"query": "q", "texts": ["t"]}, "q\nt", 1),
    ("/v2/models/m/generate", {"text_input": "abcd"}, "abcd", 1),
    ("/v2/models/m/infer", {"inputs": [{"data": [1, 2]}]}, "", 0),
    ("/completion", {"prompt": "abcd"}, "abcd", 1),
]


@pytest.mark.parametrize(("path", "body", "text", "tokens"), PROMPTS)
def test_a_prompt_is_told_of_every_api(path: str, body: Any, text: str, tokens: int) -> None:
    """Text comes in the order a model reads it; four bytes are a token, and an id is one."""
    request = asked(path, body)
    assert request.api.prompt(request) == (text, tokens)


MOST = [
    ("/v1/completions", {"max_tokens": 7}, 7),
    ("/v1/completions", {"max_tokens": 7, "n": 3}, 21),
    ("/v1/completions", {"max_tokens": 7, "n": 2, "best_of": 4}, 28),
    ("/v1/completions", {"max_tokens": 7, "n": 2, "prompt": ["a", "b", "c"]}, 42),
    ("/v1/completions", {"max_tokens": 7, "prompt": [[1, 2], [3]]}, 14),
    ("/v1/completions", {"max_tokens": 7, "prompt": [1, 2, 3]}, 7),
    ("/v1/completions", {"max_tokens": True}, None),
    ("/v1/completions", {"max_tokens": 7.0}, 7),
    ("/v1/completions", {"max_tokens": "7"}, 7),
    ("/v1/completions", {"max_tokens": "9" * 5000}, None),
    ("/v1/completions", {"max_tokens": -1}, None),
    ("/v1/chat/completions", {"max_completion_tokens": 5, "max_tokens": 9}, 9),
    ("/v1/chat/completions", {"max_completion_tokens": 5, "max_tokens": None}, 5),
    ("/v1/chat/completions", {}, None),
    ("/v1/responses", {"max_output_tokens": 5}, 5),
    ("/v1/embeddings", {"input": "a", "max_tokens": 9}, 0),
    ("/generate", {"inputs": "a", "parameters": {"max_new_tokens": 4, "best_of": 2}}, 8),
    ("/generate", {"inputs": "a"}, None),
    ("/embed", {"inputs": "a"}, 0),
    ("/v2/models/m/infer", {"inputs": []}, 0),
    ("/v2/models/m/generate", {"text_input": "a", "parameters": {"max_tokens": 3}}, 3),
    ("/completion", {"n_predict": -1}, None),
]


@pytest.mark.parametrize(("path", "body", "most"), MOST)
def test_the_bound_on_an_answer_counts_every_choice(path: str, body: Any, most: int | None) -> None:
    """What the client allows, times the choices it asks for; 0 where nothing is written."""
    request = asked(path, body)
    assert recognise(request).max_tokens(request) == most


def test_depth_is_bounded() -> None:
    """Text below MAX_DEPTH is left out, and no depth fails."""
    value: Any = "deep"
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    assert prompt_of(value).text == ""
    assert prompt_of(value[0]).text == "deep"
