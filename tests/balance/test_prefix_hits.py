"""What `prefix` is for: prompts find their beginning in the cache of the replica they go to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.upstream.ring import Consistent, hashed
from proxy.upstream.settings import Prefix
from tests.bench.prefix import Figures, Model, Replica, conversations, mooncake, replay, table

ENDPOINTS = 4
MODEL = Model(blocks=1000)


@pytest.fixture(scope="module")
def figures() -> dict[str, Figures]:
    """Made conversations through every policy; the same each time."""
    return dict(table(conversations(2000), ENDPOINTS, MODEL, Prefix()))


def test_prefix_finds_most_of_what_there_is(figures: dict[str, Figures]) -> None:
    """At least nine tenths of what one cache of all would find, and a fifth of all blocks more than
    policies that do not look at the prompt.
    """
    prefix, best = figures["prefix"].hits, figures["best possible"].hits
    others = [figures[name].hits for name in ("round_robin", "least_outstanding", "power_of_two")]
    assert 0.9 * best < prefix <= best
    assert prefix > max(others) + 0.2


def test_prefix_keeps_all_endpoints_at_work(figures: dict[str, Figures]) -> None:
    """Although three system prompts begin every conversation, and one of them more than half: no
    endpoint gets, or computes, a third more than the mean.
    """
    assert figures["prefix"].requests < 4 / 3
    assert figures["prefix"].computed < 4 / 3


def test_one_beginning_alone_would_not(figures: dict[str, Figures]) -> None:
    """Without a look behind what is popular the same traffic goes to few endpoints."""
    policy: Consistent[Replica] = Consistent(lambda one: one.name, load=None)
    alone = replay(
        conversations(2000), policy, lambda blocks, _: hashed(b"%d" % blocks[0]), ENDPOINTS, MODEL
    )
    assert alone.requests > 2 > 1.5 > figures["prefix"].requests


def test_replicas_model() -> None:
    """A block is found where all before it are; what was used longest ago goes first."""
    trace = conversations(1)[0]
    one = Replica("a", Model(blocks=3))
    for blocks, computed in (
        ((1, 2, 3), 3), ((1, 2, 3), 0), ((9, 2, 3), 3), ((1,), 1), ((9, 2), 2), ((9, 2, 1), 0),
    ):  # fmt: skip
        before = one.computed
        one.serve(trace._replace(blocks=blocks))
        assert one.computed - before == computed, blocks


def test_the_trace_is_read(tmp_path: Path) -> None:
    """Milliseconds become seconds, and the blocks are `hash_ids`."""
    row = {"timestamp": 1500, "input_length": 600, "output_length": 7, "hash_ids": [4, 5]}
    path = tmp_path / "trace.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert mooncake(path) == [(1.5, 7, [4, 5])]
