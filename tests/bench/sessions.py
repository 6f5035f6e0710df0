"""`python -m tests.bench.sessions`: what `prefetch` adds to `cache` where users have sessions.

Users walk from question to related question. Where a session begins is drawn from a Zipf
distribution over all questions, and each step from one over the question's own few links; a
session ends with a fixed chance at each step. Everything is drawn from a seed: users ask the same
with and without the layer. Client, remora and model server run in one process, over sockets; the
model server takes a fixed time for an answer and has a fixed number of slots.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import Any

import uvloop

from proxy.loader import load_text
from proxy.server import Server
from tests.road.scripted import Peer, Upstream
from tests.road.wire import Client, ok

CACHE = "middleware.cache:Cache"
PREFETCH = "middleware.prefetch:Prefetch"
OUTCOMES = ("sent", "useful", "wasted", "failed", "skipped_busy", "skipped_budget")


@dataclass(frozen=True)
class Workload:
    """Times in seconds. ends: chance that a session ends behind a question."""

    questions: int = 250
    links: int = 5
    entry_skew: float = 0.8
    link_skew: float = 2.0
    ends: float = 0.125
    users: int = 40
    think: float = 0.4
    answer: float = 0.05
    slots: int = 8
    ttl: float = 6.0
    warmup: float = 15.0
    measured: float = 20.0
    seed: int = 7

    def site(self) -> list[list[int]]:
        """Each question's links, the most followed first."""
        rng = Random(self.seed)
        return [
            rng.sample([to for to in range(self.questions) if to != page], self.links)
            for page in range(self.questions)
        ]

    def session(self, rng: Random, site: Sequence[Sequence[int]]) -> Iterator[int]:
        """The questions of one session."""
        page = rng.choices(
            range(self.questions), cum_weights=_zipf(self.questions, self.entry_skew)
        )[0]
        yield page
        while rng.random() >= self.ends:
            page = rng.choices(site[page], cum_weights=_zipf(self.links, self.link_skew))[0]
            yield page

    def interleaved(self, sessions_each: int) -> Iterator[tuple[str, int]]:
        """(session, question), the users taking turns: the workload without its times."""
        site = self.site()
        rngs = [Random(self.seed * 1000 + number) for number in range(self.users)]
        for turn in range(sessions_each):
            paths = [list(self.session(rng, site)) for rng in rngs]
            for step in range(max(map(len, paths))):
                for number, path in enumerate(paths):
                    if step < len(path):
                        yield f"{number}.{turn}", path[step]


def _zipf(count: int, skew: float) -> list[float]:
    return list(accumulate(rank**-skew for rank in range(1, count + 1)))


def body(question: int) -> bytes:
    return json.dumps({"model": "m", "input": f"question {question}"}).encode()


@dataclass
class Figures:
    """latencies: seconds. calls: requests that reached the model server, prefetches among them."""

    hits: int = 0
    latencies: list[float] = field(default_factory=list)
    calls: int = 0
    prefetches: dict[str, int] = field(default_factory=dict)

    @property
    def hit_ratio(self) -> float:
        return self.hits / len(self.latencies)

    @property
    def mean(self) -> float:
        return sum(self.latencies) / len(self.latencies)

    def percentile(self, share: float) -> float:
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))]


async def ask(client: Client, session: str, question: int) -> bool:
    """One question; whether the cache answered it."""
    fields = ("Content-Type: application/json", f"X-Session: {session}")
    answer = await client.exchange("POST", "/v1/embeddings", *fields, body=body(question))
    assert answer.status == 200, answer.first_line
    return "; hit" in (answer["cache-status"] or "")


def file(upstream: str, ttl: float, prefetch: Mapping[str, Any] | None) -> str:
    """The configuration: `cache` alone, or behind `prefetch` with these keys."""
    life = f"{ttl * 1000:.0f}ms"
    chain: list[Any] = [{CACHE: {"ttl": life}}]
    if prefetch is not None:
        chain.insert(0, {PREFETCH: {"session": "x-session", "ttl": life, **prefetch}})
    return json.dumps(
        {
            "listen": "127.0.0.1:0",
            "admin": "off",
            "drain": {"quiet": "0s", "timeout": "5s"},
            "upstreams": {"default": {"endpoints": [upstream]}},
            "chain": chain,
        }
    )


def outcomes(server: Server) -> dict[str, int]:
    """`remora_prefetch_total` by outcome; 0 where the layer is not there."""
    sample = server.telemetry.registry.get_sample_value
    return {one: int(sample("remora_prefetch_total", {"outcome": one}) or 0) for one in OUTCOMES}


async def run(workload: Workload, prefetch: Mapping[str, Any] | None) -> Figures:
    """One run of the whole workload; what comes before `warmup` is not counted."""
    figures = Figures()
    slots = asyncio.Semaphore(workload.slots)
    calls = 0

    async def model(peer: Peer) -> None:
        nonlocal calls
        while True:
            try:
                await peer.request()
            except TimeoutError:
                continue  # the connection rests
            calls += 1
            async with slots:
                await asyncio.sleep(workload.answer)
            peer.send(ok(b'{"data":[]}', "Content-Type: application/json"))

    upstream = Upstream(model)
    await upstream.start()
    server = Server(load_text(file(upstream.url, workload.ttl, prefetch), "sessions.yaml", {}))
    await server.start()
    host, _, port = server.addresses[0].rpartition(":")
    began = time.monotonic()
    measured_from, end = began + workload.warmup, began + workload.warmup + workload.measured
    site = workload.site()

    async def user(number: int) -> None:
        rng = Random(workload.seed * 1000 + number)
        client = await Client.connect((host, int(port)))
        for session in range(1_000_000):
            for question in workload.session(rng, site):
                await asyncio.sleep(rng.expovariate(1 / workload.think))
                asked = time.monotonic()
                if asked >= end:
                    client.close()
                    return
                hit = await ask(client, f"{number}.{session}", question)
                if asked >= measured_from:
                    figures.hits += hit
                    figures.latencies.append(time.monotonic() - asked)

    users = [asyncio.create_task(user(number)) for number in range(workload.users)]
    await asyncio.sleep(workload.warmup)
    calls_before, before = calls, outcomes(server)
    await asyncio.gather(*users)
    figures.calls = calls - calls_before
    after = outcomes(server)
    figures.prefetches = {one: after[one] - before[one] for one in OUTCOMES}
    await server.stop()
    await upstream.stop()
    return figures


RUNS: dict[str, dict[str, Any] | None] = {
    "cache alone": None,
    "prefetch, as it comes": {},
    "for 8 slots": {"max_load": 4, "max_inflight": 4},
    "for 8 slots, probability 0.15": {"max_load": 4, "max_inflight": 4, "probability": 0.15},
}  # fmt: skip


def row(name: str, figures: Figures) -> str:
    ms = [f"{1000 * it:.1f}" for it in (figures.mean, figures.percentile(0.9))]
    told = [str(figures.prefetches[one]) for one in OUTCOMES]
    cells = [name, str(len(figures.latencies)), f"{figures.hit_ratio:.1%}", *ms, str(figures.calls)]
    return "| " + " | ".join(cells + told) + " |"


async def main(workload: Workload) -> None:
    titles = ["chain", "requests", "hit ratio", "mean ms", "p90 ms", "model calls", *OUTCOMES]
    print("| " + " | ".join(titles) + " |")
    print("|---" * len(titles) + "|")
    for name, keys in RUNS.items():
        print(row(name, await run(workload, keys)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sessions", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 s each: does it work at all")
    short = {"warmup": 1.0, "measured": 1.0} if parser.parse_args().quick else {}
    uvloop.run(main(Workload(**short)))
