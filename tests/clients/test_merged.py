"""Real clients whose requests are computed together, before an encoder that really computes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar

import numpy as np
import openai
import pytest
from huggingface_hub import InferenceClient

from proxy.demo.child import Child, free_port
from proxy.demo.encoder import TOLERANCE
from proxy.demo.encoder_server import EncoderServer

CLIENTS = 8
FILE = """\
listen: 127.0.0.1:{port}
admin: off
drain: {{quiet: 0s, timeout: 1s}}
upstreams: {{default: {{endpoints: [{url}]}}}}
chain: [aggregate]
routes:
  - match: {{path: /v1/*}}
    api: openai
  - match: {{path: /*}}
    api: tei
"""
T = TypeVar("T")


@pytest.fixture(scope="module")
def encoder() -> Iterator[EncoderServer]:
    with EncoderServer() as server:
        yield server


@pytest.fixture(scope="module")
def through(encoder: EncoderServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    file: Path = tmp_path_factory.mktemp("remora") / "remora.yaml"
    file.write_text(FILE.format(port=port, url=encoder.url))
    argv = [sys.executable, "-m", "proxy", "serve", "-c", str(file)]
    with Child("remora", argv, port, grace=0.2) as server:
        yield server.url


def at_once(ask: Callable[[int], T], encoder: EncoderServer) -> list[T]:
    """What each of CLIENTS is told, all of them asking at the same time; again, where the machine
    had them ask one after the other.
    """
    for _ in range(20):
        ready = Barrier(CLIENTS)

        def work(number: int, ready: Barrier = ready) -> T:
            ready.wait(30)
            return ask(number)

        before = encoder.stats()
        with ThreadPoolExecutor(CLIENTS) as pool:
            told = list(pool.map(work, range(CLIENTS)))
        after = encoder.stats()
        if after["calls"] - before["calls"] < CLIENTS:
            return told
    pytest.fail("none of their requests shared a call")


def furthest(one: Any, other: Any) -> float:
    """The largest difference between two numbers in the same place; both have the same shape."""
    assert np.shape(one) == np.shape(other)
    return float(np.abs(np.asarray(one) - np.asarray(other)).max())


def texts_of(number: int) -> list[str]:
    return [f"client {number} asks", f"and asks again, at more length: {number}"]


def connect(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30)


def vectors(client: openai.OpenAI, texts: Sequence[str]) -> list[list[float]]:
    """The client asks for base64, and decodes it."""
    answer = client.embeddings.create(model="m", input=list(texts))
    assert [one.index for one in answer.data] == list(range(len(texts)))
    return [one.embedding for one in answer.data]


def test_openai_embeddings(encoder: EncoderServer, through: str) -> None:
    """Each of several openai clients gets the vectors of its own texts, in their order."""
    with connect(through) as client, connect(encoder.url) as direct:
        told = at_once(lambda number: vectors(client, texts_of(number)), encoder)
        for number, got in enumerate(told):
            assert furthest(got, vectors(direct, texts_of(number))) < TOLERANCE


def test_one_openai_client_that_asks_for_nonsense(encoder: EncoderServer, through: str) -> None:
    """Its error is raised by it alone, as the class that the server's own answer raises."""

    def ask(number: int) -> Any:
        try:
            return vectors(client, [""] if number == 3 else texts_of(number))
        except openai.UnprocessableEntityError as error:
            return error

    with connect(through) as client:
        told = at_once(ask, encoder)
    assert [isinstance(one, Exception) for one in told] == [one == 3 for one in range(CLIENTS)]
    assert "text 0 is empty" in str(told[3])


def test_huggingface_embeddings(encoder: EncoderServer, through: str) -> None:
    """`feature_extraction` posts a text to `/`: each client gets the vector of its own."""
    with InferenceClient(through, timeout=30) as client:
        told = at_once(lambda number: client.feature_extraction(texts_of(number)[0]), encoder)
    with InferenceClient(encoder.url, timeout=30) as direct:
        for number, got in enumerate(told):
            wanted = direct.feature_extraction(texts_of(number)[0])
            assert furthest(got, wanted) < TOLERANCE
