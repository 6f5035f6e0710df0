"""What a layer adds to a request, in CPU microseconds, with a stub for the upstream.

    python -m tests.bench.costs                   every layer below
    python -m tests.bench.costs 'cache: {}'       any other, as a chain writes it

A chain of no layers and the one measured take turns in one process, `WAYS` requests at a time
under way: the difference of their CPU time, user and system, is what the layer costs. A layer
that uses a store gets a redis-server of its own, whose CPU stands in a second column.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from proxy.assembly import RouteInfo, _stores
from proxy.chain import Handler, build
from proxy.env import Env
from proxy.exchange import Request, Response
from proxy.loader import load_text
from proxy.telemetry import Telemetry
from tests.stores.server import RedisServer

from . import cpu
from .ending import ends_on_sigterm
from .layers import Noop
from .scenarios import Bench, Column, Row, Table

_KEY = "sk-of-the-bench-0123456789"

LAYERS: dict[str, str] = {
    "a layer that does nothing": f"{Noop.__module__}:{Noop.__name__}: {{}}",
    "auth": f"auth: {{keys: [{{name: bench, key: {_KEY}}}]}}",
    "auth, a key for one model": f"auth: {{keys: [{{name: bench, key: {_KEY}, models: [m]}}]}}",
    "rate_limit, sliding window counter": "rate_limit: {limits: [100000/second]}",
    "rate_limit, fixed window": "rate_limit: {limits: [100000/second], strategy: fixed_window}",
    "rate_limit, moving window": "rate_limit: {limits: [100000/second], strategy: moving_window}",
    "rate_limit, two limits": "rate_limit: {limits: [100000/second, 100000000/hour]}",
    "rate_limit, no headers": "rate_limit: {limits: [100000/second], headers: false}",
    "rate_limit, by api_key": "rate_limit: {limits: [100000/second], key: api_key}",
    "rate_limit, tokens": "rate_limit: {limits: [100000000/hour], cost: tokens}",
    "rate_limit, Redis": "rate_limit: {limits: [100000/second], store: redis}",
    "rate_limit, Redis, two limits":
        "rate_limit: {limits: [100000/second, 100000000/hour], store: redis}",
    "rate_limit, Redis, tokens":
        "rate_limit: {limits: [100000000/hour], cost: tokens, store: redis}",
    "compress, a client that takes none": "compress: {}",
    "transcode, nothing to do": "transcode: {}",
    "aggregate, nothing to merge": "aggregate: {}",
    "concurrency": "concurrency: {limit: 100}",
    "concurrency, adaptive": "concurrency: {limit: adaptive}",
    "circuit_breaker, closed": "circuit_breaker: {}",
    "circuit_breaker, slow_ratio off": "circuit_breaker: {slow_ratio: off}",
    "circuit_breaker, scope: route": "circuit_breaker: {scope: route}",
    "circuit_breaker, Redis": "circuit_breaker: {store: redis}",
    "retry": "retry: {}",
    "retry, hedge: on, call not deterministic": "retry: {hedge: {after: 10s}}",
}  # fmt: skip
"""A name, and the layer's entry in a chain. Others belong here, too."""

ROUNDS = 5
REQUESTS = 8_000
WAYS = 32

BODY = json.dumps(
    {"model": "m", "messages": [{"role": "user", "content": "x" * 280}], "max_tokens": 64}
).encode()
ANSWER = json.dumps(
    {"choices": [{"message": {"content": "x" * 300}}], "usage": {"total_tokens": 90}}
).encode()


def request() -> Request:
    """385 bytes of a chat, about, with a credential."""
    headers = [
        (b"Host", b"model"), (b"Content-Type", b"application/json"),
        (b"Authorization", b"Bearer " + _KEY.encode()), (b"Accept", b"*/*"),
    ]  # fmt: skip
    return Request(b"POST", b"/v1/chat/completions", headers, BODY, client="127.0.0.1")


async def stub(request: Request) -> Response:
    gate = request.gate
    if gate is not None and gate.admits("http://127.0.0.1:1"):  # as a balancer does
        gate.chosen("http://127.0.0.1:1")
    return Response(200, [(b"content-type", b"application/json")], ANSWER)


async def drive(handle: Handler, requests: int) -> None:
    async def user() -> None:
        for _ in range(requests // WAYS):
            one = request()
            await handle(one)
            one.outcome.status = 200
            one.finish()

    await asyncio.gather(*[user() for _ in range(WAYS)])


async def measure(
    entry: str, redis: RedisServer, rounds: int = ROUNDS, requests: int = REQUESTS
) -> tuple[list[float], list[float]]:
    """Added CPU us a request, of remora and of redis-server, a figure for each round."""
    file = (
        "upstreams: {default: {endpoints: ['http://127.0.0.1:1']}}\n"
        f"stores: {{redis: {{url: '{redis.url}', timeout: 5s}}}}\n"
        f"chain: [{{{entry}}}]\n"
    )
    config = load_text(file, "bench.yaml", {})
    env = Env(asyncio.get_running_loop(), Telemetry())
    stores = _stores(config.stores, env)
    layers = [layer.cls(layer.config, env) for layer in config.chain]
    for layer in layers:
        await layer.start()
    handle = build(layers, RouteInfo("bench", "default"), stub)
    mine, its = [], []
    try:
        for turn in range(rounds + 1):
            times = {}
            for what in (stub, handle)[:: -1 if turn % 2 else 1]:
                used, began = cpu.used(redis.pid), time.process_time()
                await drive(what, requests)
                while env.spawned:
                    await asyncio.sleep(0.001)
                times[what] = (time.process_time() - began, cpu.used(redis.pid) - used)
            if turn:  # the first one warms up
                mine.append((times[handle][0] - times[stub][0]) / requests * 1e6)
                its.append((times[handle][1] - times[stub][1]) / requests)
    finally:
        await env.stop()
        for layer in layers:
            await layer.stop()
        for store in stores:
            await store.close()
    return mine, its


async def run(chosen: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with RedisServer(Path(folder)) as redis:
            print(f"{'layer':42} {'added us':>9} {'least':>7} {'most':>7} {'redis us':>9}")
            for name, entry in chosen.items():
                mine, its = await measure(entry, redis)
                print(
                    f"{name[:42]:42} {statistics.median(mine):9.2f} {min(mine):7.2f} "
                    f"{max(mine):7.2f} {statistics.median(its):9.2f}",
                    flush=True,
                )


class Costs:
    """What each layer adds, as a table of `make bench`."""

    name = "costs"

    def run(self, bench: Bench) -> Table | None:
        if not bench.peers(("remora",)):
            return None
        rows = [Row(name) for name in LAYERS]
        bench.say("costs: what each layer adds to a request")
        uvloop.run(self._fill(rows, bench))
        columns = (
            Column("added", "added CPU us a request", 2), Column("redis", "redis-server us", 1),
        )  # fmt: skip
        table = Table(self.name, "What each layer adds", columns, rows, against=())
        table.notes.append(
            "In one process with a stub in the place of the upstream: 385 bytes of a chat, "
            f"{WAYS} at a time, a chain of no layers and the one measured in turns. "
            "`tests/bench/costs.py` has the keys of each."
        )
        return table

    async def _fill(self, rows: list[Row], bench: Bench) -> None:
        quick = bench.rounds == 1
        with tempfile.TemporaryDirectory() as folder:
            async with RedisServer(Path(folder)) as redis:
                for row in rows:
                    rounds, requests = (1, 320) if quick else (ROUNDS, REQUESTS)
                    mine, its = await measure(LAYERS[row.name], redis, rounds, requests)
                    row.values = {"added": mine, "redis": its}


def main(words: Sequence[str]) -> None:
    ends_on_sigterm()
    chosen: dict[str, Any] = {word: LAYERS.get(word, word) for word in words} or LAYERS
    uvloop.run(run(chosen))


if __name__ == "__main__":
    main(sys.argv[1:])
