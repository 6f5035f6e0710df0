"""`python -m tests.bench.prefix`: how often a prompt's beginning is in its replica's cache.

Replays a trace whose requests are lists of prefix blocks (Mooncake's `hash_ids`, 512 tokens each)
through remora's own policies. A replica is a model: it keeps the blocks used last, computes one
prompt after the other, and writes all its answers side by side. Nothing is sent anywhere, and
nothing depends on the machine.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from proxy.upstream.affinity import MAX_STEPS, ByPrefix
from proxy.upstream.choice import LeastOutstanding, Policy, PowerOfTwo, RoundRobin
from proxy.upstream.ring import Consistent
from proxy.upstream.settings import Prefix

TRACE = Path(__file__).parents[3] / "shared" / "traces" / "mooncake_synthetic.jsonl"
TOKENS = 512
"""Of a block."""
CHARS = 2048
"""Of a block's text: 4 characters a token."""


class Asked(NamedTuple):
    """One request. at: seconds from the trace's start. answer: tokens."""

    at: float
    answer: int
    blocks: Sequence[int]


@dataclass(frozen=True)
class Model:
    """Of one replica. blocks: its prefix cache, None: without bound. Tokens a second: prompts are
    computed one after the other at `prefill`, each answer is written at `decode`.
    """

    blocks: int | None = 4000
    prefill: float = 25000.0
    decode: float = 100.0


def mooncake(path: Path) -> list[Asked]:
    """The trace. Raises OSError."""
    rows = map(json.loads, path.read_text().splitlines())
    return [Asked(row["timestamp"] / 1000, row["output_length"], row["hash_ids"]) for row in rows]


def conversations(requests: int, seed: int = 1, rate: float = 8.0) -> list[Asked]:
    """Made traffic: conversations that grow by a block or two a turn and begin with one of three
    system prompts of two blocks, which 4, 2 and 1 of 7 have. rate: requests a second.
    """
    rng = Random(seed)
    fresh = iter(range(1000, 10_000_000))
    open_ones: list[list[int]] = []
    made: list[Asked] = []
    now = 0.0
    while len(made) < requests:
        now += rng.expovariate(rate)
        if not open_ones or (len(open_ones) < 400 and rng.random() < 0.25):
            system = rng.choices((0, 100, 200), (4, 2, 1))[0]
            open_ones.append([system, system + 1])
        one = rng.choice(open_ones)
        one += [next(fresh) for _ in range(rng.randint(1, 2))]
        made.append(Asked(now, rng.randint(50, 300), tuple(one)))
        if rng.random() < 0.12:
            open_ones.remove(one)
    return made


class Replica:
    """A Candidate of the policies."""

    def __init__(self, name: str, model: Model) -> None:
        self.name = name
        self.busy = 0
        self.requests = 0
        self.computed = 0
        """Blocks that were not in its cache."""
        self._model = model
        self._cache: OrderedDict[int, None] = OrderedDict()
        self._free = 0.0

    def serve(self, asked: Asked) -> float:
        """When its answer ends. A block is a hit where all before it are."""
        cache, blocks = self._cache, asked.blocks
        hits = 0
        while hits < len(blocks) and blocks[hits] in cache:
            hits += 1
        for block in blocks:
            cache[block] = None
            cache.move_to_end(block)
        while self._model.blocks is not None and len(cache) > self._model.blocks:
            cache.popitem(last=False)
        self.busy += 1
        self.requests += 1
        missed = len(blocks) - hits
        self.computed += missed
        self._free = max(self._free, asked.at) + missed * TOKENS / self._model.prefill
        return self._free + asked.answer / self._model.decode


Key = Callable[[Sequence[int], int], int]
"""The key of a prompt of these blocks, for as many endpoints."""


class Keys:
    """The keys that remora gives prompts of these blocks."""

    def __init__(self, settings: Prefix) -> None:
        self._of = ByPrefix(settings.chars, settings.max_body)
        # What lies behind is not looked at; one block more, so that the prompt does not end there.
        self._most = MAX_STEPS * settings.chars // CHARS + 1

    def __call__(self, blocks: Sequence[int], endpoints: int) -> int:
        text = "".join(f"{block:08x}" * (CHARS // 8) for block in blocks[: self._most])
        return self._of.of("model", text, endpoints)


@dataclass(frozen=True)
class Figures:
    """hits: share of blocks found. The others: the most of one endpoint, by the mean."""

    hits: float
    requests: float
    computed: float


def replay(
    trace: Sequence[Asked], policy: Policy[Replica], keys: Key | None, endpoints: int, model: Model
) -> Figures:
    """The trace through one policy."""
    replicas = [Replica(f"http://10.0.0.{number}:8000", model) for number in range(endpoints)]
    policy.members(replicas)
    ends: list[tuple[float, int, Replica]] = []
    for number, asked in enumerate(trace):
        while ends and ends[0][0] <= asked.at:
            heapq.heappop(ends)[2].busy -= 1
        key = keys(asked.blocks, endpoints) if keys is not None else None
        chosen = policy.pick(replicas, key)
        heapq.heappush(ends, (chosen.serve(asked), number, chosen))
    blocks = sum(len(asked.blocks) for asked in trace)
    computed = [one.computed for one in replicas]
    return Figures(
        1 - sum(computed) / blocks,
        _imbalance([one.requests for one in replicas]),
        _imbalance(computed),
    )


def _imbalance(numbers: Sequence[int]) -> float:
    return max(numbers) * len(numbers) / sum(numbers)


def best(trace: Sequence[Asked], endpoints: int, model: Model) -> Figures:
    """One replica with the cache of all: what no policy can exceed."""
    blocks = None if model.blocks is None else model.blocks * endpoints
    one = Model(blocks, model.prefill, model.decode)
    return replay(trace, RoundRobin(), None, 1, one)


Made = Callable[[], tuple[Policy[Replica], Key | None]]


def policies(settings: Prefix) -> dict[str, Made]:
    """By their name in the file."""

    def prefix() -> tuple[Policy[Replica], Key]:
        return Consistent(lambda one: one.name, settings.load), Keys(settings)

    return {
        "round_robin": lambda: (RoundRobin(), None),
        "least_outstanding": lambda: (LeastOutstanding(), None),
        "power_of_two": lambda: (PowerOfTwo(Random(1).random), None),
        "prefix": prefix,
    }


def table(
    trace: Sequence[Asked], endpoints: int, model: Model, settings: Prefix
) -> Iterator[tuple[str, Figures]]:
    """A row a policy, and what is possible."""
    for name, make in policies(settings).items():
        policy, keys = make()
        yield name, replay(trace, policy, keys, endpoints, model)
    yield "best possible", best(trace, endpoints, model)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.prefix", description=__doc__)
    parser.add_argument("trace", nargs="?", type=Path, default=TRACE, help=f"default: {TRACE}")
    parser.add_argument("--endpoints", type=int, default=4)
    parser.add_argument(
        "--blocks", default="1000,4000,off", help="cache sizes of a replica, in blocks; off: none"
    )
    parser.add_argument("--chars", default="1024", help="`chars` of the policy, several to compare")
    parser.add_argument("--load", default="2", help="`load` of the policy, several to compare")
    args = parser.parse_args()
    if not args.trace.exists():
        parser.error(
            f"there is no {args.trace}: name a file; github.com/kvcache-ai/Mooncake has "
            "FAST25-release/traces/synthetic_trace.jsonl"
        )
    sizes = [None if size == "off" else int(size) for size in args.blocks.split(",")]
    traces = {args.trace.stem: mooncake(args.trace), "conversations (made)": conversations(4000)}
    print(f"{args.endpoints} endpoints, blocks of {TOKENS} tokens, max/mean over endpoints\n")
    print("| trace | cache of each | policy | hits | requests | blocks computed |")
    print("|---|---|---|---|---|---|")
    for name, trace in traces.items():
        for size in sizes:
            model = Model(size)
            rows = dict(table(trace, args.endpoints, model, Prefix()))
            limit = rows.pop("best possible")
            del rows["prefix"]
            for chars in map(int, args.chars.split(",")):
                for load in map(float, args.load.split(",")):
                    settings = Prefix(chars=chars, load=load)
                    policy, keys = policies(settings)["prefix"]()
                    told = f"prefix, chars {chars}, load {load:g}"
                    rows[told] = replay(trace, policy, keys, args.endpoints, model)
            rows["best possible"] = limit
            for policy_name, row in rows.items():
                even = "- | -" if row is limit else f"{row.requests:.2f} | {row.computed:.2f}"
                where = f"{name} | {size or 'unbounded'} | {policy_name}"
                print(f"| {where} | {row.hits:.1%} | {even} |")


if __name__ == "__main__":
    main()
