"""The merging act: clients that ask an encoder for a text each, without `aggregate` and with it."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import aiohttp
import orjson

from .child import Child
from .encoder_server import EncoderServer, why_not
from .gguf import WORDS
from .printer import DemoFailed, Printer

CLIENTS = 32
SECONDS = 1.5
WORDS_EACH = 4
TOKENS = WORDS_EACH + 2
CHECKED = 24
TOLERANCE = 1e-5
"""Between a text's numbers from a batch and alone; `encoder.py` says why."""
SEED = 5


class Run(NamedTuple):
    """seconds: of each answer that came within SECONDS. vectors: by text. calls, texts: that the
    encoder computed until the last answer.
    """

    seconds: list[float]
    vectors: dict[str, list[float]]
    calls: int
    texts: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / SECONDS

    def percentile(self, percent: int) -> float:
        """Milliseconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000

    def line(self) -> str:
        return (
            f"{self.rate:6,.0f} texts/s, p50 {self.percentile(50):4.0f} ms, "
            f"p99 {self.percentile(99):4.0f} ms, {self.texts / self.calls:4.1f} texts a call"
        )


def workload() -> Iterator[str]:
    """Texts of TOKENS tokens, none of them twice."""
    draw = random.Random(SEED)
    for number in itertools.count():
        yield " ".join([str(number), *draw.choices(WORDS, k=WORDS_EACH - 1)])


async def compare(
    out: Printer, stack: AsyncExitStack, in_front_of: Callable[[Child], Child]
) -> None:
    """The workload for SECONDS each way. in_front_of: a remora with `aggregate`, not started.

    Raises DemoFailed where a vector differs, a request fails or nothing was merged.
    """
    reason = why_not()
    if reason is not None:
        out.line(f"left out: {reason}; `make demo` installs it")
        return
    server = await stack.enter_async_context(EncoderServer())
    out.line("an encoder in numpy with the shape of all-MiniLM-L6-v2, random weights, one core:")
    out.line(f"{server.url}, pid {server.pid}, ready in {server.ready_after:.2f} s")
    remora = await stack.enter_async_context(in_front_of(server))
    out.line(f"{CLIENTS} clients, each with one request at a time for one text of {TOKENS} tokens, "
             f"{SECONDS:g} s:")  # fmt: skip
    texts = workload()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as client:
        for url in (server.url, remora.url):
            await _embed(client, url, next(texts))  # opens the first connections
        direct = await _ask(client, server, server.url, texts)
        out.line(f"direct          {direct.line()}")
        merged = await _ask(client, server, remora.url, texts)
        out.line(f"with aggregate  {merged.line()}")
        if merged.calls >= merged.texts:
            raise DemoFailed(f"{merged.calls} calls for {merged.texts} texts: none were merged")
        out.line(f"throughput x {merged.rate / direct.rate:.1f}, client included; saved is what a "
                 "call costs besides its texts,")  # fmt: skip
        out.line("of longer texts a smaller share")
        some = random.Random(SEED).sample(
            list(merged.vectors.items()), min(CHECKED, len(merged.vectors))
        )
        furthest = 0.0
        for text, vector in some:
            alone = await _embed(client, server.url, text)
            furthest = max(furthest, *map(_apart, alone, vector))
    if furthest > TOLERANCE:
        raise DemoFailed(f"a number from a batch is {furthest:.1e} from the one computed alone")
    out.line(f"{len(some)} of these texts computed alone: no number differs by more than "
             f"{furthest:.0e}")  # fmt: skip


def _apart(one: float, other: float) -> float:
    return abs(one - other)


async def _embed(client: aiohttp.ClientSession, url: str, text: str) -> list[float]:
    """The vector of a text. Raises DemoFailed on anything but a 200."""
    async with client.post(f"{url}/embed", data=orjson.dumps({"inputs": text})) as answer:
        body = await answer.read()
        if answer.status != 200:
            raise DemoFailed(f"{url}/embed answered {answer.status}: {body[:200]!r}")
    vectors: Any = orjson.loads(body)
    vector: list[float] = vectors[0]
    return vector


async def _ask(
    client: aiohttp.ClientSession, server: EncoderServer, url: str, texts: Iterator[str]
) -> Run:
    before = await asyncio.to_thread(server.stats)
    seconds: list[float] = []
    vectors: dict[str, list[float]] = {}
    end = time.perf_counter() + SECONDS

    async def work() -> None:
        began = time.perf_counter()
        while began < end:
            text = next(texts)
            vector = await _embed(client, url, text)
            now = time.perf_counter()
            if now <= end:
                seconds.append(now - began)
                vectors[text] = vector
            began = now

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(work())
    after = await asyncio.to_thread(server.stats)
    if not seconds:
        raise DemoFailed(f"{url} answered nothing in {SECONDS:g} s")
    calls, computed = after["calls"] - before["calls"], after["texts"] - before["texts"]
    return Run(seconds, vectors, calls, computed)
