"""What is counted."""

from __future__ import annotations

import pytest

from middleware.aggregate.stats import SIZES, WAITS, Stats
from tests.contract.road import ModelServer
from tests.road.wire import until

from .rig import inputs, refuse, rig, soon, strict, well


async def test_the_numbers_add_up(model: ModelServer) -> None:
    """Of requests alone, merged, passed, refused and left; of calls by size; of what was saved."""
    async with rig(model, max_queue=4) as one:
        blocker = await one.blocked()
        same = [await one.held(text) for text in ("bad", "b", "b", "d")]
        assert (await soon(one.ask("full")))[0] == 503
        same[3].cancel()
        await until(lambda: one.plan.queued == 3)
        other = one.ask("x", target="/other")
        await (await model.asked()).answer(b"[]")
        await soon(other)
        await well(blocker)
        asked = await model.asked()
        assert sorted(inputs(asked)) == ["b", "bad"]
        await refuse(asked)
        async with one.answering(strict):
            assert [(await soon(task))[0] for task in same[:3]] == [422, 200, 200]

        def value(name: str, **labels: str) -> float | None:
            read = one.server.telemetry.registry.get_sample_value
            return read(f"remora_aggregate_{name}", labels)

        route, upstream = {"route": "/*"}, {"upstream": "default"}
        how = {
            kind: value("requests_total", **route, how=kind)
            for kind in ("alone", "merged", "passed", "full", "late", "left")
        }
        assert how == {"alone": 2, "merged": 2, "passed": 1, "full": 1, "late": 0, "left": 1}
        assert value("items_total", **route) == 1 + 2 + 1 + 1
        assert value("duplicates_total", **route) == 2
        assert value("calls_total", **route, items="1") == 3
        assert value("calls_total", **route, items="2") == 1
        waits = [value("waits_total", **route, seconds=f"{end}") for end in WAITS]
        assert sum(number or 0 for number in waits) == 4
        assert (value("wait_seconds_total", **route) or 0) > 0
        assert value("divided_total", **upstream) == 1
        assert value("cancelled_total", **upstream) == 0
        assert value("queued", **upstream) == value("inflight", **upstream) == 0
        assert value("inflight_limit", **upstream) == 1
        assert value("size_limit", **upstream) == 32
        assert (value("item_seconds", **upstream) or 0) > 0
        assert value("call_seconds", **upstream) is not None
        assert value("tokens_total", **upstream) == 3
        assert value("padding_tokens_total", **upstream, order="sent") == 0
        assert value("padding_tokens_total", **upstream, order="arrival") == 0


def test_each_number_is_in_one_bucket() -> None:
    """The smallest whose end holds it; the last holds all others."""
    stats = Stats()
    tally = stats.route("r")
    for items in (1, 2, 3, 32, 33, 1000):
        tally.call(items)
    told = dict(stats.calls())
    assert {size: told["r", size] for size in (*map(str, SIZES), "+Inf")} == {
        "1": 1, "2": 1, "4": 1, "8": 0, "16": 0, "32": 1, "64": 1, "128": 0, "+Inf": 1,
    }  # fmt: skip
    for seconds in (0.0, 0.001, 0.0011, 60.0):
        tally.waited(seconds)
    waits = dict(stats.waits())
    assert waits["r", "0.001"] == 2 and waits["r", "0.005"] == 1 and waits["r", "+Inf"] == 1
    assert tally.seconds == pytest.approx(60.0021)
