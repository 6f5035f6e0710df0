"""Numbers told for a whole call, shared out."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.apis.batch.meter import apportion
from proxy.exchange import Request, Response


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**6), min_size=1, max_size=40))
def test_the_parts_add_up(total: int, weights: list[int]) -> None:
    """Exactly, and none is a whole number away from what its weight says."""
    parts = apportion(total, weights)
    assert sum(parts) == total
    weight = sum(weights)
    for part, one in zip(parts, weights, strict=True):
        fair = total * one / weight if weight else total / len(weights)
        assert abs(part - fair) < 1 + total * 1e-15


def test_weights_that_add_up_are_the_parts() -> None:
    """Where every weight is exact, so is every part."""
    assert apportion(9, [5, 1, 3]) == [5, 1, 3]


def test_the_largest_remainder_has_the_rest() -> None:
    """7 over 3, 3, 1 is 3, 3, 1; over 1, 1, 1 the first has one more; over nothing all alike."""
    assert apportion(7, [3, 3, 1]) == [3, 3, 1]
    assert apportion(7, [1, 1, 1]) == [3, 2, 2]
    assert apportion(10, [6, 6, 8]) == [3, 3, 4]
    assert apportion(3, [0, 0]) == [2, 1]


def usages(key: str, path: str, asked: list[Any], answer: Any) -> list[Any]:
    """What each of the items would be told, alone."""
    request = Request(b"POST", path.encode(), [], orjson.dumps({key: asked}))
    parted = request.api.parts(request)
    assert parted is not None
    shares = parted.split(Response(200, [], orjson.dumps(answer)), parted.items)
    assert shares is not None
    whole = parted.join(shares.rest, shares.answers).body
    assert json.loads(whole)["usage"] == answer["usage"], "together they are what the server said"
    return [
        json.loads(parted.join(shares.rest, [one]).body)["usage"] for one in shares.answers
    ]  # fmt: skip


def test_embeddings() -> None:
    """Token ids are counted; texts get their part of the sum by their length."""
    data = [{"index": place, "embedding": [1]} for place in range(3)]
    answer: dict[str, Any] = {"data": data, "usage": {"prompt_tokens": 6, "total_tokens": 6}}
    path = "/v1/embeddings"
    assert usages("input", path, [[1, 2, 3], [4], [5, 6]], answer) == [
        {"prompt_tokens": n, "total_tokens": n} for n in (3, 1, 2)
    ]
    answer["usage"] = {"prompt_tokens": 20, "total_tokens": 20}
    assert usages("input", path, ["a" * 24, "a" * 4, "a" * 12], answer) == [
        {"prompt_tokens": n, "total_tokens": n} for n in (12, 2, 6)
    ]


def choice(place: int, text: str, tokens: list[str] | None = None) -> dict[str, Any]:
    logprobs = None if tokens is None else {"tokens": tokens}
    return {"index": place, "text": text, "logprobs": logprobs}


def completed(prompts: list[Any], choices: list[Any], used: Any) -> list[Any]:
    answer = {"choices": choices, "usage": used}
    return usages("prompt", "/v1/completions", prompts, answer)


def test_completions() -> None:
    """By the texts' length, or exactly, where log probabilities tell the tokens; the total is the
    sum of both parts.
    """
    used = {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}
    choices = [choice(0, "a" * 8), choice(1, "a" * 4)]
    told = usages(
        "prompt", "/v1/completions", [[1, 2, 3], [4, 5]], {"choices": choices, "usage": used}
    )
    assert told == [
        {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9},
        {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
    ]
    choices = [choice(0, "a" * 8, ["a"]), choice(1, "a" * 4, ["a"] * 8)]
    told = usages(
        "prompt", "/v1/completions", [[1, 2, 3], [4, 5]], {"choices": choices, "usage": used}
    )
    assert told == [
        {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        {"prompt_tokens": 2, "completion_tokens": 8, "total_tokens": 10},
    ]


def test_details_follow_what_they_belong_to() -> None:
    """Cached tokens are shared as those of the prompt are, a total of another kind by both."""
    used = {
        "prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8, "billed": 16,
        "prompt_tokens_details": {"cached_tokens": 2, "audio": None},
    }  # fmt: skip
    choices = [choice(0, "a" * 12), choice(1, "a" * 4)]
    told = usages(
        "prompt", "/v1/completions", [[1, 2], [4, 5]], {"choices": choices, "usage": used}
    )
    assert [one["prompt_tokens_details"]["cached_tokens"] for one in told] == [1, 1]
    assert [one["billed"] for one in told] == [10, 6]
    assert [one["total_tokens"] for one in told] == [5, 3]


def test_no_usage() -> None:
    """A server that says nothing of tokens is not made to."""
    request = Request(b"POST", b"/v1/embeddings", [], b'{"input":["a","b"]}')
    parted = request.api.parts(request)
    assert parted is not None
    for usage in (b"", b',"usage":null'):
        raw = b'{"data":[{"index":0},{"index":1}]%b}' % usage
        shares = parted.split(Response(200, [], raw), parted.items)
        assert shares is not None and shares.answers[0].tokens == ()
        assert parted.join(shares.rest, shares.answers).body == raw


@pytest.mark.parametrize(
    ("path", "body", "answer", "characters"),
    [("/embed", {"inputs": ["añ", "b"]}, b"[[1],[2]]", [2, 1]),
     ("/embed", {"inputs": [[7, 8, 9], [1]]}, b"[[1],[2]]", [3, 1]),
     ("/predict", {"inputs": [["ab", "c"], ["d"]]}, b"[[{}],[{}]]", [3, 1]),
     ("/rerank", {"query": "qq", "texts": ["abc", ""]},
      b'[{"index":0,"score":1},{"index":1,"score":0}]', [5, 2])],
)  # fmt: skip
def test_characters(path: str, body: Any, answer: bytes, characters: list[int]) -> None:
    """TEI counts characters, not bytes; those of the query for every text; a token id as one."""
    headers = [(b"x-compute-characters", b"%d" % sum(characters)), (b"x-compute-tokens", b"7")]
    request = Request(b"POST", path.encode(), [], orjson.dumps(body))
    parted = request.api.parts(request)
    assert parted is not None
    shares = parted.split(Response(200, headers, answer), parted.items)
    assert shares is not None
    alone = [parted.join(shares.rest, [one]) for one in shares.answers]
    assert [int(one.header(b"x-compute-characters") or 0) for one in alone] == characters
    assert sum(int(one.header(b"x-compute-tokens") or 0) for one in alone) == 7
    assert parted.join(shares.rest, shares.answers).headers == headers


def test_answers_of_a_server_that_told_less() -> None:
    """An answer that was kept from before the server told tokens counts none."""
    request = Request(b"POST", b"/v1/embeddings", [], b'{"input":["a","b"]}')
    parted = request.api.parts(request)
    assert parted is not None
    raw = b'{"data":[{"index":0},{"index":1}],"usage":{"prompt_tokens":4}}'
    shares = parted.split(Response(200, [], raw), parted.items)
    assert shares is not None
    silent = shares.answers[1]._replace(tokens=())
    both = parted.join(shares.rest, [shares.answers[0], silent]).body
    assert json.loads(both)["usage"] == {"prompt_tokens": 2}
    alone = parted.join(shares.rest, [silent]).body
    assert json.loads(alone)["usage"] == {"prompt_tokens": 0}
