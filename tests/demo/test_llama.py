"""The real llama.cpp server on the demo's model, without remora."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from proxy.demo.child import ChildFailed
from proxy.demo.gguf import WORDS
from proxy.demo.llama import LlamaServer

ENDLESS = 1_000_000


async def test_says_words_and_the_same_ones_again(llama: LlamaServer) -> None:
    """At temperature 0 a prompt gets the same words each time, as many as were asked for."""
    texts = []
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            body = {"prompt": "hello", "max_tokens": 64, "temperature": 0}
            async with session.post(f"{llama.url}/v1/completions", json=body) as response:
                answer = await response.json()
            texts.append(answer["choices"][0]["text"])
            assert answer["usage"]["completion_tokens"] == 64
            assert answer["choices"][0]["finish_reason"] == "length"
    assert texts[0] == texts[1]
    assert set(texts[0].split()) <= set(WORDS)


async def test_hot_sampling_stays_utf8(llama: LlamaServer) -> None:
    """Even at temperature 5 with every sampler off the text is words, so valid UTF-8."""
    body = {"prompt": "ü", "max_tokens": 500, "temperature": 5, "top_k": 0, "top_p": 1, "min_p": 0}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{llama.url}/v1/completions", json=body) as response,
    ):
        answer = json.loads((await response.read()).decode())
    assert len(answer["choices"][0]["text"].split()) == 500
    assert set(answer["choices"][0]["text"].split()) <= set(WORDS)


async def test_chat_streams_events(llama: LlamaServer) -> None:
    """A streamed chat is one SSE event a word and ends with [DONE]."""
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "stream": True}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{llama.url}/v1/chat/completions", json=body) as response,
    ):
        assert response.content_type == "text/event-stream"
        events = (await response.text()).strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    pieces = [json.loads(event.removeprefix("data: "))["choices"] for event in events[:-1]]
    said = [choice[0]["delta"].get("content") for choice in pieces if choice]
    assert len([piece for piece in said if piece]) == 8


async def test_a_stream_left_stops(llama: LlamaServer) -> None:
    """A client that closes its stream frees the slot."""
    body = {"prompt": "a", "max_tokens": ENDLESS, "stream": True}
    async with aiohttp.ClientSession() as session:
        response = await session.post(f"{llama.url}/v1/completions", json=body)
        await response.content.readline()
        assert await asyncio.to_thread(llama.busy) == 1
        response.close()
    await llama.settled(0)


async def test_a_call_left_stops(llama: LlamaServer) -> None:
    """A client that closes a call that does not stream frees the slot."""
    body = {"prompt": "a", "max_tokens": ENDLESS}
    async with aiohttp.ClientSession() as session:
        call = asyncio.create_task(session.post(f"{llama.url}/v1/completions", json=body))
        await llama.settled(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await llama.settled(0, every=llama.ASK_EVERY)


def test_a_model_that_is_none(tmp_path: Path) -> None:
    """A file that is no GGUF is a ChildFailed, not a server that hangs."""
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"not a model")
    with pytest.raises(ChildFailed, match=r"llama\.cpp ended with status"):
        LlamaServer(path).start()
