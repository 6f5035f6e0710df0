"""How much `prefetch` sends and keeps."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from middleware.cache import Cache
from middleware.prefetch import BURST, MAX_SENT, Prefetch, PrefetchConfig
from proxy.chain import ChainOrder, check_order

from .prefetch_stage import (
    ALICE,
    BOB,
    A,
    Answer,
    B,
    Held,
    Stage,
    breaks,
    embed,
    fine,
    refuses,
)


async def test_a_busy_upstream_is_left_alone() -> None:
    """More than `max_load` of clients' requests in flight: none is sent, and that is counted."""
    stage = Stage(max_load=1)
    await stage.learn(embed(A), embed(B))
    slow = [embed("x"), embed("y")]
    for request in slow:
        await stage.begin(request)
    assert await stage.ask(embed(A)) == []
    assert stage.counts == {"skipped_busy": 1}
    slow[0].finish()
    assert len(await stage.ask(embed(A))) == 1
    slow[1].finish()


async def test_another_upstreams_load_does_not_count() -> None:
    """Each upstream of the chain has its own load."""
    stage = Stage(max_load=0)
    await stage.learn(embed(A), embed(B))
    slow = embed("x")
    await stage.begin(slow, stage.bind("other", "another"))
    assert len(await stage.ask(embed(A))) == 1
    slow.finish()


async def test_no_more_than_max_inflight_at_once() -> None:
    """Two under way, the third is not sent; when one has ended there is room again."""
    stage = Stage(max_inflight=2)
    for first, second in ("ab", "cd", "ef"):
        await stage.learn(embed(first), embed(second))
    held = stage.answer = Held()
    for text in "ace":
        stage.answer = fine
        request = embed(text)
        await stage.begin(request)
        stage.answer = held
        request.finish()
        await asyncio.sleep(0)
    assert stage.env.spawned == 2
    assert stage.counts == {"sent": 2, "skipped_busy": 1}
    held.release.set()
    await stage.settled()
    assert len(await stage.ask(embed("e"))) == 1


async def test_the_budget_is_a_share_of_the_requests() -> None:
    """At 0.2 each five requests of clients pay for one prefetch."""
    stage = Stage(budget=0.2, ttl=10.0)
    sent = []
    for number in range(100):
        stage.now += 11
        for text in (A, B):
            sent += await stage.ask(embed(text, (b"x-session", b"%d" % number)))
    assert stage.count("sent") == len(sent)
    assert 30 <= stage.count("sent") <= 0.2 * 200
    assert stage.count("skipped_budget") > 0


async def test_what_was_saved_up_is_bounded() -> None:
    """However many requests came before, at most BURST prefetches are sent in a row."""
    stage = Stage(ttl=10.0)
    for _ in range(100):
        await stage.ask(embed("alone"))
    load = stage.layer._loads["default"]
    assert load.tokens == BURST


async def test_requests_are_kept_within_max_bytes() -> None:
    """Many of 50 KiB each: their sum stays within `max_bytes`."""
    stage = Stage(max_bytes=200_000)
    for number in range(20):
        await stage.ask(embed(f"{number}" + "x" * 50_000))
        assert stage.layer._known.bytes <= 200_000
    assert 0 < len(stage.layer._known) < 4


async def test_prefetches_whose_use_is_open_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the oldest counts as wasted."""
    monkeypatch.setattr("middleware.prefetch.MAX_SENT", 3)
    assert MAX_SENT > 3
    stage = Stage(probability=0.01)
    for number in range(8):
        await stage.learn(embed(f"a{number}"), embed(f"b{number}"))
    for number in range(8):
        await stage.ask(embed(f"a{number}", (b"x-session", b"%d" % number)))
    await stage.ask(embed("x"))
    assert stage.count("sent") == 8 and len(stage.layer._sent) == 3
    assert stage.count("wasted") == 5


steps = st.lists(
    st.tuples(
        st.sampled_from([ALICE, BOB]),
        st.sampled_from([b"1", b"2"]),
        st.sampled_from("abc"),
        st.sampled_from([0.0, 1.0, 9.0, 11.0]),
        st.sampled_from([fine, fine, breaks, refuses]),
    ),
    max_size=60,
)


@given(steps, st.sampled_from([0.2, 1.0]), st.integers(1, 2))
def test_whatever_comes_it_keeps_its_bounds(
    steps: list[tuple[tuple[bytes, bytes], bytes, str, float, Answer]],
    budget: float,
    max_inflight: int,
) -> None:
    """For any sequence of requests and failures: never more sent than the budget pays, every one
    sent ends in one outcome at most, and only what a tenant itself asked for is sent for it.
    """

    async def play() -> None:
        stage = Stage(
            budget=budget, max_inflight=max_inflight, ttl=10.0, probability=0.1, max_bytes=3000
        )
        asked: dict[bytes, set[Any]] = defaultdict(set)
        for number, (who, session, text, later, answer) in enumerate(steps, 1):
            stage.now += later
            request = embed(text, who, (b"x-session", session))
            asked[who[1]].add(request.body)
            await stage.begin(request)
            stage.answer = answer
            seen = len(stage.got)
            request.finish()
            await asyncio.sleep(0)
            await stage.settled()
            stage.answer = fine
            for fetched in stage.got[seen:]:
                assert fetched.body in asked[fetched.header(b"authorization") or b""]
                assert fetched.header(b"authorization") == who[1]
            counts = stage.counts
            sent = counts.get("sent", 0)
            assert sent <= budget * number + 1e-9
            ended = sum(counts.get(one, 0) for one in ("useful", "wasted", "failed"))
            assert ended + len(stage.layer._sent) == sent
            assert stage.layer._known.bytes <= 3000
            load = stage.layer._loads["default"]
            assert (load.foreground, load.background) == (0, 0)

    asyncio.run(play())


@pytest.mark.parametrize(
    "keys",
    [
        {"probability": 0}, {"probability": 1.1}, {"budget": 0}, {"max_inflight": 0},
        {"max_load": -1}, {"session": "x session"}, {"ttl": "0s"}, {"nonsense": 1},
    ],
    ids=str,
)  # fmt: skip
def test_keys_that_mean_nothing_are_refused(keys: dict[str, Any]) -> None:
    """A chance of 0 or over 1, no place at all, a header that is none."""
    with pytest.raises(ValidationError):
        PrefetchConfig(**keys)


def test_it_stands_outside_of_the_cache() -> None:
    """A chain with the cache in front of it is refused: what it fetched would not be stored."""
    check_order(["prefetch", "cache"], [Prefetch, Cache])
    with pytest.raises(ChainOrder, match="`prefetch` must come before `cache`"):
        check_order(["cache", "prefetch"], [Cache, Prefetch])
