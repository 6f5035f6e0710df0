"""A client that leaves stops the server beside remora: llama.cpp is generating no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from proxy.demo.child import settled
from proxy.demo.llama import LlamaServer
from proxy.demo.standin import StandIn

Remora = Callable[[str], str]
ENDLESS: dict[str, Any] = {"model": "m", "prompt": "a", "max_tokens": 1_000_000}


def connect(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30)


@pytest.fixture
async def client(llama: LlamaServer, remora: Remora) -> AsyncIterator[openai.AsyncOpenAI]:
    """The client, through remora, to an idle llama.cpp."""
    async with connect(remora(llama.url)) as connected:
        yield connected


async def leave(call: asyncio.Task[Any]) -> None:
    """Cancel a call: the client closes its connection."""
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_in_mid_stream(llama: LlamaServer, client: openai.AsyncOpenAI) -> None:
    """A stream closed after 20 events frees llama.cpp's slot."""
    stream = await client.completions.create(**ENDLESS, stream=True)
    async with stream:
        for _ in range(20):
            await anext(stream)
        assert await asyncio.to_thread(llama.busy) == 1
    await llama.settled(0)


async def test_without_streaming(llama: LlamaServer, client: openai.AsyncOpenAI) -> None:
    """A call that does not stream, left while the server is at it, frees the slot."""
    call = asyncio.create_task(client.completions.create(**ENDLESS))
    await llama.settled(1)
    await leave(call)
    await llama.settled(0, every=llama.ASK_EVERY)


async def test_one_of_several(llama: LlamaServer, client: openai.AsyncOpenAI) -> None:
    """Of three streams the one that is closed stops, the others go on."""
    streams = [await client.completions.create(**ENDLESS, stream=True) for _ in range(3)]
    for stream in streams:
        await anext(stream)
    await llama.settled(3)
    await streams[1].close()
    await llama.settled(2)
    for stream in (streams[0], streams[2]):
        await anext(stream)
        await stream.close()
    await llama.settled(0)


async def test_before_the_first_byte(model: Path, remora: Remora) -> None:
    """A streamed call that waits for a slot, its head not sent, is given up.

    Its slot is held by a call that does not stream: each event of a stream would put off the
    second after which llama.cpp looks for clients that left.
    """
    async with (
        LlamaServer(model, parallel=1) as server,
        connect(server.url) as direct,
        connect(remora(server.url)) as client,
    ):
        holder = asyncio.create_task(direct.completions.create(**ENDLESS))
        await server.settled(1)
        waiting = asyncio.create_task(client.completions.create(**ENDLESS, stream=True))

        def deferred() -> float:
            return server.metric("requests_deferred")

        await settled(deferred, 1)
        assert not waiting.done()
        await leave(waiting)
        await settled(deferred, 0, every=server.ASK_EVERY)
        assert not holder.done()
        await leave(holder)
        await server.settled(0, every=server.ASK_EVERY)


async def test_the_first_byte_is_a_minute_away(remora: Remora) -> None:
    """A server that has said nothing yet is told that its client left."""
    async with StandIn(delay=60) as server, connect(remora(server.url)) as client:
        call = asyncio.create_task(client.completions.create(**ENDLESS))
        await server.settled(1)
        await leave(call)
        await server.settled(0)
        assert server.stats()["cancelled"] == 1


async def test_the_first_event_is_a_minute_away(remora: Remora) -> None:
    """A stream's head reaches the client before its first event, and leaving then stops it."""
    async with StandIn(delay=60) as server, connect(remora(server.url)) as client:
        stream = await asyncio.wait_for(client.completions.create(**ENDLESS, stream=True), 5)
        await server.settled(1)
        await stream.close()
        await server.settled(0)
        assert server.stats()["cancelled"] == 1
