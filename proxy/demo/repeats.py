"""The cache's act: a workload that repeats itself, without the cache and with it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from .printer import DemoFailed, Printer

REQUESTS = 300
QUESTIONS = 60
# llama.cpp's HTTP server has a thread for each of 8 connections, kept ones too: more would wait.
AT_ONCE = 4
TOKENS = 48
SEED = 3


def workload() -> list[str]:
    """REQUESTS prompts out of QUESTIONS: the n-th most frequent one has weight 1/n (Zipf)."""
    questions = [f"Question {number}: what does a remora do?" for number in range(QUESTIONS)]
    weights = [1 / (1 + number) for number in range(QUESTIONS)]
    return random.Random(SEED).choices(questions, weights, k=REQUESTS)


class Run(NamedTuple):
    """seconds: the whole workload took. texts: the answers, in its order. status: of each answer
    what `cache-status` says, empty where there is none.
    """

    seconds: float
    texts: list[str]
    status: list[str]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.texts) / self.seconds

    def count(self, mark: str) -> int:
        """Answers whose `cache-status` names `mark`."""
        return sum(mark in status.split("; ") for status in self.status)


async def ask(client: Any, prompts: Sequence[str], cache: str) -> Run:
    """Every prompt as a completion at temperature 0, AT_ONCE under way at a time. cache: the value
    of `x-remora-cache`.
    """
    answers = [("", "")] * len(prompts)
    left = iter(enumerate(prompts))

    async def work() -> None:
        for index, prompt in left:
            raw = await client.completions.with_raw_response.create(
                model="demo", prompt=prompt, max_tokens=TOKENS, temperature=0,
                extra_headers={"x-remora-cache": cache},
            )  # fmt: skip
            text = raw.parse().choices[0].text
            answers[index] = text, raw.headers.get("cache-status", "")

    began = time.monotonic()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    took = time.monotonic() - began
    return Run(took, [text for text, _ in answers], [status for _, status in answers])


async def compare(out: Printer, client: Any) -> None:
    """The workload twice through a remora that has the cache, at first with the cache left out.

    Raises DemoFailed where an answer differs.
    """
    prompts = workload()
    out.line(f"{REQUESTS} completions of {TOKENS} tokens at temperature 0, {AT_ONCE} at once, of "
             f"{len(set(prompts))} prompts by Zipf's law")  # fmt: skip
    without = await ask(client, prompts, "off")
    out.line(f"`x-remora-cache: off` {without.rate:6,.0f} answers/s, "
             f"{REQUESTS - without.count('hit')} generated")  # fmt: skip
    through = await ask(client, prompts, "on")
    hits, shared = through.count("hit"), through.count("collapsed")
    out.line(f"with the cache        {through.rate:6,.0f} answers/s, {REQUESTS - hits - shared} "
             "generated")  # fmt: skip
    out.line(f"hit ratio {hits / REQUESTS:.0%}, and {shared} answers shared with a call under way; "
             f"throughput x {through.rate / without.rate:.1f}, client included")  # fmt: skip
    if not hits or without.count("hit"):
        raise DemoFailed(f"{hits} hits with the cache, {without.count('hit')} without it")
    differ = sum(a != b for a, b in zip(without.texts, through.texts, strict=True))
    if differ:
        raise DemoFailed(f"{differ} answers with the cache are not those without it")
    out.line("every answer is the one that the model gave without the cache")
    out.line("this workload was made to repeat; of real chat 1 to 5 % of whole prompts come again,")
    out.line("in the Mooncake trace 5.3 %; embeddings, classification and FAQs far more often")
