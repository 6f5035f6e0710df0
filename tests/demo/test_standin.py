"""The stand-in answers each route in the shape that the API's documentation gives."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from proxy.demo.child import settled
from proxy.demo.standin import StandIn, create_app

CHAT = {"messages": [{"role": "user", "content": "hi there"}]}


@pytest.fixture
async def client(aiohttp_client: Any) -> Any:
    """A client of a stand-in in this process, without delay."""
    return await aiohttp_client(create_app())


async def post(client: Any, path: str, body: object) -> tuple[int, Any]:
    async with client.post(path, json=body) as response:
        return response.status, await response.json()


async def events(client: Any, path: str, body: object) -> list[str]:
    async with client.post(path, json=body) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        text = await response.text()
    assert text.endswith("\n\n")
    return text[:-2].split("\n\n")


async def test_models(client: Any) -> None:
    """/v1/models is a list with one model, which can also be asked for by name."""
    async with client.get("/v1/models") as response:
        listed = (await response.json())["data"]
    async with client.get(f"/v1/models/{listed[0]['id']}") as response:
        assert await response.json() == listed[0]
    assert listed[0]["object"] == "model"


async def test_completion(client: Any) -> None:
    """A completion has one choice a prompt, and a usage that adds up over all of them."""
    body = {"model": "m", "prompt": ["one two", "three"], "max_tokens": 5}
    status, answer = await post(client, "/v1/completions", body)
    assert (status, answer["object"], answer["model"]) == (200, "text_completion", "m")
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert all(len(choice["text"].split()) == 5 for choice in answer["choices"])
    assert answer["choices"][0]["text"] != answer["choices"][1]["text"]
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 10, "total_tokens": 13}


async def test_the_same_prompt_gets_the_same_words(client: Any) -> None:
    """Two equal requests get equal answers, byte for byte."""
    body = {"prompt": "one", "max_tokens": 5}
    first = await post(client, "/v1/completions", body)
    assert first == await post(client, "/v1/completions", body)


async def test_chat(client: Any) -> None:
    """A chat answers with one message of the assistant's."""
    status, answer = await post(client, "/v1/chat/completions", {**CHAT, "max_tokens": 3})
    choice = answer["choices"][0]
    assert (status, answer["object"]) == (200, "chat.completion")
    assert choice["message"]["role"] == "assistant"
    assert len(choice["message"]["content"].split()) == 3
    assert choice["finish_reason"] == "length"


async def test_chat_stream(client: Any) -> None:
    """A streamed chat says in pieces what the whole one says, then the usage, then [DONE]."""
    body = {**CHAT, "max_tokens": 3}
    _, whole = await post(client, "/v1/chat/completions", body)
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, done = await events(client, "/v1/chat/completions", body)
    assert done == "data: [DONE]"
    parsed = [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]
    deltas = [chunk["choices"][0]["delta"] for chunk in parsed]
    assert deltas[0]["role"] == "assistant"
    text = "".join(delta.get("content", "") for delta in deltas)
    assert text == whole["choices"][0]["message"]["content"]
    assert parsed[-1]["choices"][0]["finish_reason"] == "length"
    assert json.loads(usage.removeprefix("data: "))["usage"] == whole["usage"]


async def test_completion_stream(client: Any) -> None:
    """A streamed completion says in pieces what the whole one says."""
    body = {"prompt": "one", "max_tokens": 4}
    _, whole = await post(client, "/v1/completions", body)
    *chunks, done = await events(client, "/v1/completions", {**body, "stream": True})
    pieces = [json.loads(chunk.removeprefix("data: "))["choices"][0]["text"] for chunk in chunks]
    assert "".join(pieces) == whole["choices"][0]["text"]
    assert done == "data: [DONE]"


async def test_embeddings(client: Any) -> None:
    """Embeddings keep the order of the inputs and depend on the text alone."""
    body = {"input": ["a", "b", "a"], "dimensions": 8}
    status, answer = await post(client, "/v1/embeddings", body)
    vectors = [item["embedding"] for item in answer["data"]]
    assert status == 200
    assert [len(vector) for vector in vectors] == [8, 8, 8]
    assert vectors[0] == vectors[2] != vectors[1]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {}),
        ("/v1/completions", {"prompt": 3}),
        ("/v1/completions", {"prompt": "a", "max_tokens": -1}),
        ("/v1/completions", [1]),
        ("/v1/chat/completions", {"messages": []}),
        ("/v1/chat/completions", {"messages": ["hi"]}),
        ("/v1/embeddings", {"input": None}),
    ],
)
async def test_openai_errors(client: Any, path: str, body: object) -> None:
    """A request that makes no sense gets 400 with OpenAI's error object."""
    status, answer = await post(client, path, body)
    assert status == 400
    assert set(answer["error"]) == {"message", "type", "param", "code"}


async def test_tgi_generate(client: Any) -> None:
    """/generate answers an object, / a list with that object in it; details only when asked."""
    body = {"inputs": "a b", "parameters": {"max_new_tokens": 3, "top_p": None}}
    status, answer = await post(client, "/generate", body)
    assert (status, set(answer)) == (200, {"generated_text"})
    assert await post(client, "/", body) == (200, [answer])
    body["parameters"] |= {"details": True, "decoder_input_details": True, "seed": 7}  # type: ignore[operator]
    _, detailed = await post(client, "/generate", body)
    details = detailed["details"]
    assert detailed["generated_text"] == answer["generated_text"]
    assert (details["finish_reason"], details["generated_tokens"], details["seed"]) == (
        "length", 3, 7,
    )  # fmt: skip
    assert len(details["prefill"]) == 2
    assert set(details["tokens"][0]) == {"id", "text", "logprob", "special"}
    assert "".join(t["text"] for t in details["tokens"]) == answer["generated_text"]


@pytest.mark.parametrize(("path", "extra"), [("/generate_stream", {}), ("/", {"stream": True})])
async def test_tgi_stream(client: Any, path: str, extra: dict[str, bool]) -> None:
    """A stream is `data:{...}` events; the last alone carries the text and the details."""
    body = {"inputs": "a b", "parameters": {"max_new_tokens": 3}, **extra}
    lines = await events(client, path, body)
    parsed = [json.loads(line.removeprefix("data:")) for line in lines]
    assert [event["index"] for event in parsed] == [1, 2, 3]
    assert [event["generated_text"] is None for event in parsed] == [True, True, False]
    assert [event["details"] is None for event in parsed] == [True, True, False]
    assert "".join(e["token"]["text"] for e in parsed) == parsed[-1]["generated_text"]
    assert parsed[-1]["details"]["input_length"] == 2


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": ""},
        {"inputs": 3},
        {"parameters": {}},
        {"inputs": "a", "parameters": 3},
        {"inputs": "a", "parameters": {"temperature": 0}},
        {"inputs": "a", "parameters": {"top_p": 1.5}},
        {"inputs": "a", "parameters": {"max_new_tokens": 0}},
        {"inputs": "a", "parameters": {"max_new_tokens": "ten"}},
        {"inputs": "a", "parameters": {"max_new_tokens": 2_000_000}},
    ],
)
@pytest.mark.parametrize("path", ["/", "/generate", "/generate_stream"])
async def test_tgi_errors(client: Any, path: str, body: object) -> None:
    """A parameter out of range gets 422 with TGI's error object."""
    status, answer = await post(client, path, body)
    assert (status, answer["error_type"]) == (422, "validation")
    assert answer["error"]


async def test_info_and_health(client: Any) -> None:
    """/info names the model, /health is an empty 200."""
    async with client.get("/info") as response:
        assert (await response.json())["model_id"]
    async with client.get("/health") as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_a_client_that_leaves_is_counted(standin: StandIn) -> None:
    """Generation stops when its client leaves, streaming or not, and /stats counts both."""
    before = standin.stats()
    async with aiohttp.ClientSession() as session:
        body = {"prompt": "a", "max_tokens": 100_000}
        url = f"{standin.url}/v1/completions"
        response = await session.post(url, json={**body, "stream": True})
        await response.content.readline()
        call = asyncio.create_task(session.post(url, json=body))
        await standin.settled(2)
        response.close()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await standin.settled(0)
    after = standin.stats()
    assert after["requests"] - before["requests"] == 2
    assert after["cancelled"] - before["cancelled"] == 2
    assert 0 < after["tokens"] - before["tokens"] < 2000


async def test_a_client_that_leaves_before_the_first_token() -> None:
    """A generation whose first token is a minute away ends at once when its client leaves."""
    async with StandIn(delay=60) as server:
        async with aiohttp.ClientSession() as session:
            body = {"inputs": "a"}
            call = asyncio.create_task(session.post(f"{server.url}/", json=body))
            await server.settled(1)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        await settled(lambda: server.stats()["cancelled"], 1)
        assert server.busy() == 0
