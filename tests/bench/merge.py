"""`python -m tests.bench.merge [SERVER ...]`: what merging brings, on servers that compute.

One-item requests at each concurrency: to the server, and through a remora with `aggregate`; beside
it a client that batches by itself, which is the most that can be had. They take turns in rounds of
a few seconds, so that a machine that others use is the same to all; a ratio is of what all rounds
saw, and in brackets stand the lowest and the highest of a round. Client, remora and server are a
process each.

    python -m tests.bench.merge                       # the project's own encoder
    python -m tests.bench.merge minilm triton kserve  # in environments as `make test-real` has them
    python -m tests.bench.merge numpy minilm --repeats 0.4 --concurrency 32   # with the cache, too
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from tests.real.models import MODELS, ROOT, TOKENS, Model, text
from tests.real.processes import Server, free_port

from . import cpu
from .askers import Loop, Seen
from .ending import ends_on_sigterm
from .workload import Again, batches, singles

BATCH = 32
"""Things in a call of the client that batches, and at most in one of remora's."""
WARM = 0.5
"""Seconds of each round that are not counted."""


# -- who answers


@contextlib.contextmanager
def remora(server: Server, chain: list[Any]) -> Iterator[Server]:
    """remora before a server, on a free port."""
    port = free_port()
    file = {
        "listen": f"127.0.0.1:{port}",
        "admin": "off",
        "log": {"level": "error"},
        "drain": {"quiet": "0s", "timeout": "1s"},
        "upstreams": {"default": {"endpoints": [server.url]}},
        "chain": chain,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "remora.yaml"
        path.write_text(json.dumps(file))
        command = [sys.executable, "-m", "proxy", "serve", "-c", str(path)]
        environ = {"PYTHONPATH": str(ROOT)}
        with Server(command, port, Path(folder) / "log", environ=environ) as one:
            yield one


@contextlib.contextmanager
def started(model: Model) -> Iterator[Server]:
    python = Path(sys.executable)
    if model.environment is not None:
        if not model.environment.ready:
            model.environment.install()
        python = model.environment.python
    # A server may write 200 MB of its own there.
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        model.start(python, Path(folder)) as server,
    ):
        yield server


# -- the rounds


class Way:
    """One of the ways that are compared. pid: of the remora whose CPU time counts, or 0."""

    def __init__(
        self,
        name: str,
        server: Server,
        requests: Iterator[bytes],
        askers: int,
        things: int = 1,
        pid: int = 0,
    ) -> None:
        self.name = name
        self.port = server.port
        self.pid = pid
        self.requests = requests
        self.askers = askers
        self.things = things
        self.rounds: list[Seen] = []

    @property
    def seen(self) -> Seen:
        total = Seen()
        for one in self.rounds:
            total.add(one)
        return total

    def used(self) -> float:
        return cpu.used(self.pid) if self.pid else 0.0

    async def round(self, seconds: float) -> None:
        loop = Loop(self.port, self.requests, self.things)
        try:
            await loop.open(self.askers)
            self.rounds.append(await loop.run(WARM, seconds, self.used))
        finally:
            loop.close()


def through(name: str, proxy: Server, requests: Iterator[bytes], askers: int) -> Way:
    return Way(name, proxy, requests, askers, pid=proxy.pid)


def compare(ways: list[Way], rounds: int, seconds: float) -> None:
    for _ in range(rounds):
        for way in ways:
            uvloop.run(way.round(seconds))


HEAD = (
    f"{'conc':>4} {'':<16} {'items/s':>9} {'x direct':>8} {'(a round)':>14} "
    f"{'p50 ms':>8} {'p99 ms':>8} {'items/call':>10} {'us/item':>8}"
)


def row(concurrency: int, way: Way, base: Way) -> str:
    seen = way.seen
    ratios = [one.rate / other.rate for one, other in zip(way.rounds, base.rounds, strict=True)]
    spread = f"({min(ratios):.2f}-{max(ratios):.2f})"
    sent = seen.things - seen.known
    size = f"{sent / seen.calls:.1f}" if seen.calls else ""
    spent = f"{seen.spent / seen.things:.0f}" if way.pid else ""
    return (
        f"{concurrency:>4} {way.name:<16} {seen.rate:>9,.1f} {seen.rate / base.seen.rate:>8.2f} "
        f"{spread:>14} {seen.percentile(50):>8.1f} {seen.percentile(99):>8.1f} {size:>10} "
        f"{spent:>8}"
    )


def noise(base: Way) -> str:
    rates = [one.rate for one in base.rounds]
    return f"{max(rates) / min(rates) - 1:.0%}"


def measure(name: str, args: argparse.Namespace) -> None:
    model = MODELS[name]
    about = model.about
    if model.thing is text:
        model = replace(model, thing=functools.partial(text, tokens=args.tokens))
        about += f", {args.tokens} tokens a text"
    print(f"\n# {about}", flush=True)
    keys = json.loads(args.keys)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(started(model))
        merging = stack.enter_context(remora(server, [{"aggregate": keys}]))
        plain = stack.enter_context(remora(server, [])) if args.plain else None
        print(f"{args.rounds} rounds of {args.seconds:g} s each, in turn", flush=True)
        print(HEAD, flush=True)
        for concurrency in args.concurrency:
            size = min(BATCH, concurrency)
            one = singles(model, model.path)
            ways = [Way("direct", server, one, concurrency)]
            if plain is not None:
                ways.append(through("no layer", plain, one, concurrency))
            ways.append(through("aggregate", merging, one, concurrency))
            if model.peer is not None:
                peer = singles(model, model.peer)
                ways.append(Way("own batcher", server, peer, concurrency))
                ways.append(through("aggregate + own", merging, peer, concurrency))
            many = batches(model, size)
            ways.append(Way("client batches", server, many, concurrency // size, size))
            compare(ways, args.rounds, args.seconds)
            for way in ways:
                print(row(concurrency, way, ways[0]), flush=True)
            print(f"     direct differed by {noise(ways[0])} between rounds", flush=True)
        if args.repeats:
            for concurrency in args.concurrency:
                again(model, server, stack, concurrency, args)


def again(
    model: Model,
    server: Server,
    stack: contextlib.ExitStack,
    concurrency: int,
    args: argparse.Namespace,
) -> None:
    """A workload that repeats itself: direct, with each layer, and with both."""
    keys = json.loads(args.keys)
    layers = {"cache": {"ttl": "1h"}}
    merging = stack.enter_context(remora(server, [{"aggregate": keys}]))
    caching = stack.enter_context(remora(server, [layers]))
    both = stack.enter_context(remora(server, [layers, {"aggregate": keys}]))
    sources = [iter(Again(model, args.repeats, seed)) for seed in (1, 2, 3, 4)]
    ways = [
        Way("direct", server, sources[0], concurrency),
        through("aggregate", merging, sources[1], concurrency),
        through("cache", caching, sources[2], concurrency),
        through("cache, aggregate", both, sources[3], concurrency),
    ]
    print(
        f"{args.repeats:.0%} of the requests for what was asked before, by Zipf's law", flush=True
    )
    compare(ways, args.rounds, args.seconds)
    for way in ways:
        print(row(concurrency, way, ways[0]), flush=True)
    base, gain, told = ways[0].seen, ways[1].seen, ways[3].seen
    ratio = told.known / told.things
    bound = gain.rate / base.rate / (1 - ratio)
    print(
        f"     hit ratio {ratio:.1%}; bound {gain.rate / base.rate:.2f} / (1 - {ratio:.3f}) = "
        f"{bound:.2f}; reached {told.rate / base.rate:.2f}, {told.rate / base.rate / bound:.0%} "
        f"of it; direct differed by {noise(ways[0])} between rounds",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.merge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("servers", nargs="*", metavar="SERVER", help=", ".join(MODELS))
    parser.add_argument("--concurrency", type=_counts, default=[1, 16, 32, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="counted in each round")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of a text, 4 or more")
    parser.add_argument("--keys", default="{}", help="of aggregate, as JSON")
    parser.add_argument("--plain", action="store_true", help="a remora with an empty chain, too")
    parser.add_argument("--repeats", type=float, default=0.0, help="share of requests; and a cache")
    args = parser.parse_args()
    for name in args.servers:
        if name not in MODELS:
            parser.error(f"no server {name!r}; there are {', '.join(MODELS)}")
    ends_on_sigterm()
    print(f"# aggregate: {args.keys}")
    for name in args.servers or ["numpy"]:
        measure(name, args)


def _counts(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


if __name__ == "__main__":
    main()
