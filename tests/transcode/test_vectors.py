"""Vectors as binary, and as base64: what real clients read of them."""

from __future__ import annotations

import base64
import re
import struct
from pathlib import Path
from typing import Any

import msgpack
import numpy
import openai
import orjson
import pytest

from tests.road.scripted import Peer
from tests.road.wire import Message, ok
from tests.transcode.conftest import MakeRig
from tests.transcode.rig import JSON, MSGPACK, said

DOC = Path(__file__).parents[2] / "docs" / "transcode.md"

VECTORS = numpy.random.default_rng(5).normal(0, 0.05, (32, 384)).astype("<f4")
"""As an encoder of 384 dimensions gives them for a batch of 32."""

OPENAI = {
    "object": "list",
    "data": [
        {"object": "embedding", "index": n, "embedding": row.tolist()}
        for n, row in enumerate(VECTORS)
    ],
    "model": "m",
    "usage": {"prompt_tokens": 5, "total_tokens": 5},
}


def recipes() -> list[str]:
    """The Python clients of the page."""
    return re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)


def read(recipe: str, body: bytes) -> Any:
    names: dict[str, Any] = {"body": body}
    exec(recipe, names)
    return names["answer"]


@pytest.mark.parametrize("recipe", [0, 1], ids=["numpy", "plain"])
async def test_the_pages_recipes_read_it(recipe: int, rig: MakeRig) -> None:
    """TEI's matrix, OpenAI's rows and KServe's outputs, exact in 32 bits."""
    kserve = {"outputs": [{"name": "o", "shape": [32, 384], "data": VECTORS.ravel().tolist()}]}
    answers = [
        said(VECTORS.tolist()), said(OPENAI), said(kserve), said({"predictions": VECTORS.tolist()}),
    ]  # fmt: skip
    one = await rig(*answers, embeddings="float32")
    code = recipes()[recipe]
    tei = read(code, (await one.pack({}, target="/embed")).body)
    assert numpy.array_equal(tei, VECTORS)
    rows = read(code, (await one.pack({})).body)
    assert rows["usage"] == OPENAI["usage"]
    assert numpy.array_equal([item["embedding"] for item in rows["data"]], VECTORS)
    flat = read(code, (await one.pack({}, target="/v2/models/m/infer")).body)
    assert flat["outputs"][0]["shape"] == [32, 384]
    assert numpy.array_equal(flat["outputs"][0]["data"], VECTORS.ravel())
    predictions = read(code, (await one.pack({}, target="/v1/models/m:predict")).body)
    assert numpy.array_equal(predictions["predictions"], VECTORS)


@pytest.mark.parametrize("recipe", [0, 1], ids=["numpy", "plain"])
async def test_float16(recipe: int, rig: MakeRig) -> None:
    """Half of the bytes, rounded to nearest as numpy does."""
    one = await rig(said(VECTORS.tolist()), embeddings="float16")
    body = (await one.pack({}, target="/embed")).body
    assert numpy.array_equal(read(recipes()[recipe], body), VECTORS.astype("<f2"))
    assert len(body) < 24_700


async def test_the_size_of_an_answer(rig: MakeRig) -> None:
    """49 KB where JSON takes 150 KB and more; off, numbers take 9 bytes each."""
    assert len(orjson.dumps(OPENAI)) > 150_000
    one = await rig(said(VECTORS.tolist()), said(OPENAI), embeddings="float32")
    assert 49_152 < len((await one.pack({}, target="/embed")).body) < 49_200
    assert 49_152 < len((await one.pack({})).body) < 51_500
    off = await rig(said(OPENAI))
    answer = await off.pack({})
    assert msgpack.unpackb(answer.body) == OPENAI and len(answer.body) > 110_000


async def test_a_json_client_gets_lists(rig: MakeRig) -> None:
    """Its bytes are the server's own."""
    one = await rig(said(OPENAI), embeddings="float32")
    assert (await one.json({})).body == orjson.dumps(OPENAI)


@pytest.mark.parametrize("code", ["<f2", "<f4", "<f8"])
async def test_arrays_in_a_request_become_lists(code: str, rig: MakeRig) -> None:
    """A JSON server gets what a JSON client would have sent."""
    array = VECTORS[:2, :20].astype(code)
    letter = {"<f2": b"e", "<f4": b"f", "<f8": b"d"}[code]
    payload = letter + b"\x02" + struct.pack("<2I", *array.shape) + array.tobytes()
    one = await rig(said({}))
    answer = await one.pack({"instances": msgpack.ExtType(65, payload)})
    assert answer.status == 200
    assert orjson.loads(one.server.last.body) == {"instances": array.tolist()}


# -- base64, which openai's client asks for unless it is told otherwise


def floats_only(peer: Peer, message: Message) -> bytes:
    """A server that knows no encoding but `float`."""
    if orjson.loads(message.body).get("encoding_format") not in (None, "float"):
        return said({"error": {"message": "float only"}}, status="422 Unprocessable")
    return said(OPENAI)


async def test_the_openai_client_of_a_server_without_base64(rig: MakeRig) -> None:
    """Unchanged, it gets the vectors; told to ask for floats, the same ones."""
    one = await rig(floats_only, make_base64=True)
    async with openai.AsyncOpenAI(
        base_url=f"{one.running.url}/v1", api_key="none", max_retries=0, timeout=20
    ) as client:
        for asked in ({}, {"encoding_format": "base64"}, {"encoding_format": "float"}):
            answer = await client.embeddings.create(model="m", input=["a"] * 32, **asked)  # type: ignore[arg-type]
            found = [item.embedding for item in answer.data]
            if asked.get("encoding_format") == "base64":
                found = [list(struct.unpack("<384f", base64.b64decode(row))) for row in found]  # type: ignore[arg-type]
            assert numpy.array_equal(found, VECTORS)
            assert answer.usage.total_tokens == 5
    formats = [orjson.loads(seen.body).get("encoding_format") for seen in one.server.seen]
    assert formats == [None, None, "float"]


async def test_without_the_key_the_server_is_asked_for_base64(rig: MakeRig) -> None:
    """Nothing is changed on the way."""
    one = await rig(floats_only)
    body = b'{"encoding_format": "base64"}'
    assert (await one.ask(body, f"Content-Type: {JSON}")).status == 422
    assert one.server.last.body == body


async def test_base64_by_the_byte(rig: MakeRig) -> None:
    """Of little-endian float32, integers among them too; the rest of the answer as it was, and a
    vector that is base64 already.
    """
    answer = {"data": [{"embedding": [0.5, 1, -2.0], "index": 0}, {"embedding": "AAAA"}], "id": 7}
    one = await rig(said(answer), make_base64=True)
    for target in ("/v1/embeddings", "/openai/deployments/d/embeddings"):
        asked = {"input": "a", "encoding_format": "base64"}
        got = await one.json(asked, "Accept-Encoding: gzip", target=target)
        packed = base64.b64encode(struct.pack("<3f", 0.5, 1, -2)).decode()
        assert orjson.loads(got.body) == {
            "data": [{"embedding": packed, "index": 0}, {"embedding": "AAAA"}], "id": 7,
        }  # fmt: skip
        assert orjson.loads(one.server.last.body) == {"input": "a"}
        assert one.server.last["accept-encoding"] is None


async def test_one_entry_in_whatever_way_vectors_are_written(rig: MakeRig) -> None:
    """A cache inside answers with what another client's call brought: numbers, base64, binary."""
    one = await rig(
        said(OPENAI), make_base64=True, embeddings="float32", inside=[{"cache": {"items": False}}]
    )
    asked = {"model": "m", "input": ["a"] * 32}
    assert orjson.loads((await one.json(asked)).body) == OPENAI
    got = orjson.loads((await one.json({**asked, "encoding_format": "base64"})).body)
    assert base64.b64decode(got["data"][3]["embedding"]) == VECTORS[3].tobytes()
    row = msgpack.unpackb((await one.pack(asked)).body)["data"][3]["embedding"]
    assert row.data.endswith(VECTORS[3].tobytes())
    assert len(one.server.seen) == 1


async def test_base64_for_a_msgpack_client(rig: MakeRig) -> None:
    """Who asks for base64 gets it, in MessagePack."""
    one = await rig(said(OPENAI), make_base64=True, embeddings="float32")
    got = await one.pack({"input": "a", "encoding_format": "base64"})
    row = msgpack.unpackb(got.body)["data"][3]["embedding"]
    assert base64.b64decode(row) == VECTORS[3].tobytes()


@pytest.mark.parametrize(
    ("body", "target"),
    [
        (b'{"input": "base64"}', "/v1/embeddings"),
        (b'{ "encoding_format": "float"}', "/v1/embeddings"),
        (b'{ "encoding_format": "base64"}', "/v1/other"),
        (b"[1]", "/v1/embeddings"),
    ],
)
async def test_what_does_not_ask_for_base64_passes(body: bytes, target: str, rig: MakeRig) -> None:
    """No byte of it or of its answer is changed."""
    raw = b'{"data": [{"embedding": [0.5]}]}'
    one = await rig(ok(raw, f"Content-Type: {JSON}"), make_base64=True)
    answer = await one.ask(body, f"Content-Type: {JSON}", target=target)
    assert (answer.body, one.server.last.body) == (raw, body)
    assert "vary" not in answer.names


async def test_base64_that_cannot_be(rig: MakeRig) -> None:
    """A vector that is none is a 502, a body that no document is a 400; an error of the server
    stays its own.
    """
    asked = {"encoding_format": "base64"}
    one = await rig(
        said({"data": [{"embedding": [0.5, None]}]}),
        said({"data": [{"embedding": [1e39]}]}),
        said({"error": 1}, status="500 Oops"),
        make_base64=True,
    )
    for _ in range(2):
        assert (await one.json(asked)).status == 502
    answer = await one.json(asked)
    assert (answer.status, answer.body) == (500, b'{"error":1}')
    answer = await one.ask(b'{"encoding_format": "base64"', f"Content-Type: {JSON}")
    assert answer.status == 400


@pytest.mark.parametrize("answer", [[], {}, {"data": 1}, {"data": [1, {"embedding": 2}]}])
async def test_an_answer_of_another_shape(answer: Any, rig: MakeRig) -> None:
    """It has no vectors to write, and passes by value."""
    one = await rig(said(answer), make_base64=True)
    got = await one.json({"encoding_format": "base64"})
    assert orjson.loads(got.body) == answer


async def test_a_compressed_body_may_ask_for_anything(rig: MakeRig) -> None:
    """It cannot be read here, and passes to the server that can."""
    one = await rig(said({}), make_base64=True)
    fields = (f"Content-Type: {JSON}", "Content-Encoding: gzip")
    assert (await one.ask(b"zip of base64", *fields)).status == 200
    assert one.server.last.body == b"zip of base64"


async def test_true_is_no_number(rig: MakeRig) -> None:
    """A list that holds it stays one."""
    one = await rig(said([0.5, True, *[0.5] * 20]), embeddings="float32")
    assert msgpack.unpackb((await one.pack({})).body) == [0.5, True, *[0.5] * 20]


async def test_lists_in_msgpack_stay_lists(rig: MakeRig) -> None:
    """A server may answer in it unasked. Also where that is written anew, for base64, only JSON is
    packed.
    """
    answer = {"data": [{"embedding": [0.5]}], "other": [0.5, True, *[0.5] * 20]}
    one = await rig(said(answer, of=MSGPACK), make_base64=True, embeddings="float32")
    got = msgpack.unpackb((await one.pack({"encoding_format": "base64"})).body)
    assert got["other"] == answer["other"]
    assert base64.b64decode(got["data"][0]["embedding"]) == struct.pack("<f", 0.5)
    assert one.server.last.body == b"{}"
