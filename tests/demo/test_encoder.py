"""The demo's encoder computes what it says, on the routes that it says, one call at a time."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proxy.demo.encoder import MAX_TOKENS, TOLERANCE, WIDTH, BadText, Encoder
from proxy.demo.encoder_routes import MAX_BATCH, Desk, create_app
from tests.road.wire import until

ROOT = Path(__file__).parents[2]
TEXTS = ["a shark", "one fish, two fish; and a third that follows", "", "the tide turns"]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture
async def client(encoder: Encoder, aiohttp_client: Any) -> Any:
    return await aiohttp_client(create_app(encoder))


async def post(client: Any, path: str, body: object) -> tuple[int, Any]:
    async with client.post(path, json=body) as response:
        return response.status, await response.json()


def test_a_vector_depends_on_its_text_alone(encoder: Encoder) -> None:
    """Alone or among longer and shorter ones, a text has one vector, of length 1, and its own."""
    texts = [text for text in TEXTS if text]
    together = encoder.embed(encoder.read(texts))
    alone = np.concatenate([encoder.embed(encoder.read([text])) for text in texts])
    assert together.shape == (len(texts), WIDTH)
    assert together.dtype == np.float32
    assert np.abs(together - alone).max() < TOLERANCE
    assert np.allclose((together * together).sum(1), 1)
    assert min(np.abs(together[0] - other).max() for other in together[1:]) > 0.01


def test_the_weights_are_the_same_each_time(encoder: Encoder) -> None:
    """Two encoders of one seed give the same bits, one of another seed other vectors."""
    rows = encoder.read(["a shark"])
    assert (Encoder().embed(rows) == encoder.embed(rows)).all()
    assert np.abs(Encoder(1).embed(rows) - encoder.embed(rows)).max() > 0.01


def test_where_words_stand_makes_a_difference(encoder: Encoder) -> None:
    """The same words in another order are another text; capitals are not."""
    one, other, capitals = encoder.embed(encoder.read(["one fish", "fish one", "One FISH"]))
    assert np.abs(one - other).max() > 0.01
    assert np.abs(one - capitals).max() < TOLERANCE


def test_a_text_that_cannot_be_encoded(encoder: Encoder) -> None:
    """No words, or one too many, is a BadText that names the text; the most there may be is not."""
    with pytest.raises(BadText, match="text 2 is empty"):
        encoder.read(TEXTS)
    longest = ["fish " * (MAX_TOKENS - 2)]
    assert len(encoder.read(longest)[0]) == MAX_TOKENS
    with pytest.raises(BadText, match=f"text 0 has {MAX_TOKENS + 1} tokens"):
        encoder.read([longest[0] + "fish"])


@pytest.mark.parametrize("path", ["/embed", "/"])
async def test_tei_embed(client: Any, encoder: Encoder, path: str) -> None:
    """It takes a text or a list, and answers a list of vectors either way."""
    wanted = encoder.embed(encoder.read(["a shark", "the tide"]))
    status, vectors = await post(client, path, {"inputs": ["a shark", "the tide"]})
    assert status == 200
    assert np.abs(np.array(vectors) - wanted).max() < TOLERANCE
    status, vectors = await post(client, path, {"inputs": "a shark"})
    assert status == 200
    assert np.abs(np.array(vectors) - wanted[:1]).max() < TOLERANCE


async def test_openai_embeddings(client: Any) -> None:
    """/v1/embeddings gives each vector its index, as numbers or as base64, and counts tokens."""
    body = {"model": "m", "input": ["a shark", "the tide turns"]}
    status, answer = await post(client, "/v1/embeddings", body)
    assert (status, answer["object"], answer["model"]) == (200, "list", "m")
    assert [one["index"] for one in answer["data"]] == [0, 1]
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    _, coded = await post(client, "/v1/embeddings", {**body, "encoding_format": "base64"})
    for numbers, packed in zip(answer["data"], coded["data"], strict=True):
        unpacked = np.frombuffer(base64.b64decode(packed["embedding"]), "<f4")
        assert np.abs(unpacked - np.array(numbers["embedding"])).max() < TOLERANCE


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (TEXTS, "text 2 is empty"),
        ("", "text 0 is empty"),
        (["fish " * MAX_TOKENS], "tokens"),
        (["fish"] * (MAX_BATCH + 1), f"{MAX_BATCH} are the most"),
        ([], "list of strings"),
        (None, "list of strings"),
        (["fish", 3], "list of strings"),
    ],
)
async def test_what_is_bad_refuses_the_whole_call(client: Any, inputs: Any, message: str) -> None:
    """422 with TEI's error object on /embed and OpenAI's on /v1/embeddings, and no vectors."""
    status, answer = await post(client, "/embed", {"inputs": inputs})
    assert (status, answer["error_type"]) == (422, "Validation")
    assert message in answer["error"]
    status, answer = await post(client, "/v1/embeddings", {"input": inputs})
    assert status == 422
    assert message in answer["error"]["message"]
    _, stats = await _get(client, "/stats")
    assert stats == {"calls": 0, "texts": 0}


async def test_health(client: Any) -> None:
    """/health is an empty 200."""
    async with client.get("/health") as response:
        assert (response.status, await response.read()) == (200, b"")


async def _get(client: Any, path: str) -> tuple[int, Any]:
    async with client.get(path) as response:
        return response.status, await response.json()


class Slow:
    """A model that computes when it is told to."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.computing = 0
        self.go = threading.Semaphore(0)

    def read(self, texts: Sequence[str]) -> list[list[int]]:
        raise NotImplementedError

    def embed(self, rows: Sequence[Sequence[int]]) -> Any:
        self.computing += 1
        assert self.computing == 1, "two calls are computed at once"
        self.began.append(rows[0][0])
        assert self.go.acquire(timeout=10)
        self.computing -= 1
        return np.zeros((len(rows), 2), np.float32)


async def test_one_call_at_a_time_in_order() -> None:
    """A call waits for those before it; one whose client has left is passed over."""
    model = Slow()
    desk = Desk(model)
    calls = [asyncio.ensure_future(desk.embed([[number]])) for number in range(3)]
    try:
        await until(lambda: model.began == [0])
        calls[1].cancel()
        await asyncio.wait(calls[1:2])
        model.go.release()
        await calls[0]
        await until(lambda: model.began == [0, 2])
        assert desk.stats() == {"calls": 2, "texts": 2}
    finally:
        model.go.release(3)
    await calls[2]
    assert model.began == [0, 2]


def test_threads_are_set_before_numpy_is_loaded() -> None:
    """The module of the child process does not load numpy by itself: its threads come first."""
    script = "import sys, proxy.demo.encoder_server as s; print('numpy' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=20
    )
    assert run.stdout == "False\n", run.stderr
