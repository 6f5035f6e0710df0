"""Model servers as pure functions: each item's answer stands on the item alone.

They write numbers with digits that no parser would give back, in one of two styles.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from proxy.apis.items import Answer, Parted
from proxy.exchange import Request, Response

Server = Callable[[Request, "Style"], Response]


class Raw(NamedTuple):
    """A number with its digits."""

    text: str


class Style(NamedTuple):
    """How a server writes JSON."""

    comma: str
    colon: str
    end: str = ""


COMPACT = Style(",", ":")
STYLES = [COMPACT, Style(", ", ": "), Style(" ,\r\n\t", " :\n", "\n")]


def write(value: Any, style: Style) -> str:
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        inner = style.comma.join(
            f"{json.dumps(key)}{style.colon}{write(one, style)}" for key, one in value.items()
        )
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{style.comma.join(write(one, style) for one in value)}]"
    return json.dumps(value, ensure_ascii=False)


def answer(value: Any, style: Style, headers: Sequence[tuple[bytes, bytes]] = ()) -> Response:
    kind = (b"Content-Type", b"application/json")
    return Response(200, [kind, *headers], (write(value, style) + style.end).encode(), b"OK")


def told(body: Any) -> Any:
    """What a body says, each number by its digits."""
    assert isinstance(body, bytes)
    return json.loads(body, parse_float=Raw, parse_int=Raw, parse_constant=Raw)


def seed(*of: Any) -> int:
    return int.from_bytes(hashlib.blake2b(repr(of).encode(), digest_size=8).digest(), "big")


def numbers(count: int, *of: Any) -> list[Raw]:
    return [
        Raw(f"{'-' if (one := seed(place, of)) & 1 else ''}0.{one % 10**9:09d}0")
        for place in range(count)
    ]


def tokens(item: Any) -> int:
    """As many as remora takes a text for: then every share of a sum is exact."""
    return len(item) if isinstance(item, list) else math.ceil(len(item.encode()) / 4)


def characters(item: Any) -> int:
    if isinstance(item, str):
        return len(item)
    return sum(map(characters, item)) if isinstance(item, list) else 1


def listed(value: Any) -> list[Any]:
    """Of a bare text, or of a bare list of token ids, a list with it."""
    bare = isinstance(value, str) or isinstance(value[0], int)
    return [value] if bare else value


# -- OpenAI


def embeddings(request: Request, style: Style) -> Response:
    asked = json.loads(request.body)
    items = listed(asked["input"])
    data = []
    for index, item in enumerate(items):
        vector: Any = numbers(4, item, asked.get("dimensions"))
        if asked.get("encoding_format") == "base64":
            vector = base64.b64encode(write(vector, style).encode()).decode()
        data.append({"object": "embedding", "embedding": vector, "index": index, "extra": "}],["})
    used = sum(map(tokens, items))
    usage = {"prompt_tokens": used, "total_tokens": used, "prompt_tokens_details": None}
    body = {"id": "e-1", "object": "list", "data": data, "model": "m\u00e9", "usage": usage}
    return answer(body, style, [(b"x-ratelimit", b"7"), (b"ETag", b'"x"')])


def completions(request: Request, style: Style) -> Response:
    asked = json.loads(request.body)
    prompts = listed(asked["prompt"])
    each = asked.get("n") or 1
    choices = []
    written = 0
    for place, prompt in enumerate(prompts):
        for one in range(each):
            words = [f'w"{seed(prompt, one, k) % 99}' for k in range(seed(prompt, one) % 4 + 1)]
            written += len(words)
            logprobs = {"tokens": words, "token_logprobs": numbers(len(words), prompt, one)}
            choices.append(
                {"index": place * each + one, "text": "".join(words), "logprobs": logprobs,
                 "finish_reason": "stop"}
            )  # fmt: skip
    read = sum(map(tokens, prompts))
    usage = {
        "prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written,
        "completion_tokens_details": {"reasoning_tokens": written, "note": None},
    }  # fmt: skip
    body = {"id": "cmpl-1", "object": "text_completion", "created": 5, "model": "m",
            "choices": choices, "usage": usage}  # fmt: skip
    return answer(body, style)


# -- TEI


def _metered(items: Sequence[Any], besides: int = 0) -> list[tuple[bytes, bytes]]:
    # Texts alone are told by tokens; of pairs remora would not know how the tokens are shared.
    count = sum(characters(item) + besides for item in items)
    headers = [(b"x-compute-characters", b"%d" % count), (b"x-compute-time", b"3")]
    if not besides:
        headers.append((b"X-Compute-Tokens", b"%d" % sum(map(tokens, items))))
    return headers


def embed(request: Request, style: Style) -> Response:
    items = listed(json.loads(request.body)["inputs"])
    return answer([numbers(3, item) for item in items], style, _metered(items))


def embed_sparse(request: Request, style: Style) -> Response:
    items = listed(json.loads(request.body)["inputs"])
    weights = [
        [{"index": place, "value": one} for place, one in enumerate(numbers(2, item))]
        for item in items
    ]
    return answer(weights, style, _metered(items))


def predict(request: Request, style: Style) -> Response:
    """A text, `[text]` and `[text, text]` are one sequence; a list of lists is a batch."""
    asked = json.loads(request.body)["inputs"]
    single = isinstance(asked, str) or isinstance(asked[0], str)
    batch = [[asked] if isinstance(asked, str) else asked] if single else asked
    labels = [
        [{"score": numbers(1, item, label)[0], "label": label} for label in "ab"] for item in batch
    ]
    headers = [(b"x-compute-characters", b"%d" % sum(map(characters, batch)))]
    return answer(labels[0] if single else labels, style, headers)


def rerank(request: Request, style: Style) -> Response:
    """Scores are few, so that some are equal."""
    asked = json.loads(request.body)
    ranks = []
    for index, text in enumerate(asked["texts"]):
        ranks.append({"index": index, "score": Raw(f"0.{seed(asked['query'], text) % 4}0")})
        if asked.get("return_text"):
            ranks[-1]["text"] = text
    ranks.sort(key=lambda rank: float(rank["score"].text))
    ranks.reverse()
    return answer(ranks, style, _metered(asked["texts"], len(asked["query"])))


# -- others


def instances(request: Request, style: Style) -> Response:
    asked = json.loads(request.body)["instances"]
    return answer(
        {"model": "m", "predictions": [{"y": numbers(1, one)} for one in asked], "n": None}, style
    )


def scalars(request: Request, style: Style) -> Response:
    asked = json.loads(request.body)["instances"]
    return answer({"predictions": [numbers(1, one)[0] for one in asked]}, style)


def generic(request: Request, style: Style) -> Response:
    asked = json.loads(request.body)["in"]["puts"]
    return answer({"out": [{"a/b": [numbers(1, one) for one in asked]}], "id": "same"}, style)


# -- what an aggregating layer does


def merged(
    parted: Sequence[Parted], server: Server, style: Style, sent: Request
) -> list[Response] | None:
    """Each request's own answer out of one call for all of their items."""
    assert len({one.group for one in parted}) == 1
    items = [item for one in parted for item in one.items]
    call = parted[-1].call(items)
    response = server(Request(sent.method, sent.target, call.headers, call.body), style)
    shares = parted[0].split(response, items)
    if shares is None:
        return None
    answers = iter(shares.answers)
    return [one.join(shares.rest, [next(answers) for _ in one.items]) for one in parted]


def kept_apart(answers: Sequence[Answer]) -> list[Answer]:
    """The same, as whoever stored them would have them back."""
    return [Answer(bytes(one.data), tuple(one.tokens)) for one in answers]
