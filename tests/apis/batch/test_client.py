"""A real client reads what was put together. No network."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import orjson
import pytest

from proxy.exchange import Request, Response

VECTORS = {text: [float(ord(text)), 0.25, -1.5] for text in "abcdef"}


def embeddings(request: Request) -> Response:
    """Answers as vLLM does: numbers, or base64 of little-endian float32."""
    asked = orjson.loads(request.body)
    texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
    coded: Callable[[list[float]], Any] = list
    if asked.get("encoding_format") == "base64":
        coded = lambda vector: base64.b64encode(struct.pack("<3f", *vector)).decode()  # noqa: E731
    data = [
        {"object": "embedding", "index": place, "embedding": coded(VECTORS[text])}
        for place, text in enumerate(texts)
    ]
    used = {"prompt_tokens": 3 * len(texts), "total_tokens": 3 * len(texts)}
    body = {"object": "list", "data": data, "model": asked["model"], "usage": used}
    return Response(200, [(b"content-type", b"application/json")], orjson.dumps(body))


def merging(with_: str) -> httpx2.MockTransport:
    """Stands for remora and its server: each request shares its call with another client's."""

    def answer(sent: httpx2.Request) -> httpx2.Response:
        headers = [(name, value) for name, value in sent.headers.raw]
        mine = Request(b"POST", sent.url.raw_path, headers, sent.read())
        body = orjson.loads(mine.body) | {"input": with_}
        other = Request(b"POST", sent.url.raw_path, headers, orjson.dumps(body))
        parted, others = mine.api.parts(mine), other.api.parts(other)
        assert parted is not None and others is not None and parted.group == others.group
        items = [*others.items, *parted.items]
        call = others.call(items)
        shares = others.split(embeddings(Request(b"POST", b"/", [], call.body)), items)
        assert shares is not None
        got = parted.join(shares.rest, shares.answers[1:], 1)
        return httpx2.Response(got.status, headers=got.headers, content=got.body)

    return httpx2.MockTransport(answer)


@pytest.mark.parametrize("coding", ["float", "base64", None])
@pytest.mark.parametrize("texts", ["a", ["b"], ["c", "a", "c"]])
def test_openai_reads_its_own_embeddings(texts: str | list[str], coding: str | None) -> None:
    """In numbers and in base64, which the client asks for unless told otherwise."""
    client = openai.OpenAI(
        base_url="http://remora.test/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx2.Client(transport=merging("f")),
    )
    keys: Any = {} if coding is None else {"encoding_format": coding}
    got = client.embeddings.create(model="m", input=texts, **keys)
    client.close()
    vectors = [one.embedding for one in got.data]
    if coding == "base64":
        vectors = [list(struct.unpack("<3f", base64.b64decode(str(one)))) for one in vectors]
    assert vectors == [VECTORS[text] for text in texts]
    assert [one.index for one in got.data] == list(range(len(texts)))
    assert (got.usage.prompt_tokens, got.usage.total_tokens) == (3 * len(texts), 3 * len(texts))
