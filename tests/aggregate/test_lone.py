"""A request that is sent when nothing else is about, before it is taken apart."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from middleware.aggregate.layer import MAX_PASSING
from proxy.apis.tei import TEI
from proxy.assembly import RouteInfo
from proxy.exchange import Request, Response
from tests.contract.road import ModelServer, post
from tests.road.wire import until

from .rig import JSON, handled, inputs, refuse, rig, soon, strict, vector, well


async def test_whoever_comes_in_the_same_moment_is_merged(model: ModelServer) -> None:
    """The second one waits for the first, whose group is known by then: a third joins it."""
    async with rig(model, max_inflight=4) as one:
        tasks = [asyncio.ensure_future(handled(one, text)) for text in "abc"]
        first = await model.asked()
        assert inputs(first) == ["a"] and one.plan.queued == 2 and one.plan.running == 1
        assert one.lane.lone is None
        await well(first)
        second = await model.asked()
        assert sorted(inputs(second)) == ["b", "c"]
        await well(second)
        told: list[Response] = [await task for task in tasks]
        assert [dict(answer.headers)[b"x-remora-batch"][:6] for answer in told] == [
            b"size=1", b"size=2", b"size=2",
        ]  # fmt: skip


async def test_its_answer_tells_how_many_items_it_had(model: ModelServer) -> None:
    """It was taken apart while the server worked on it."""
    async with rig(model) as one:
        task = one.ask(["a", "b", "c"])
        asked = await model.asked()
        assert one.plan._under_way.items == 3
        assert not len(one.plan._groups), (
            "nobody came, so that nobody asks what it fits together with"
        )
        await well(asked)
        told = await soon(task)
        assert dict(told[1])[b"x-remora-batch"] == b"size=3; wait=0ms"
        assert one.layer.stats.routes["/*"].items == 3


async def test_one_that_is_none_of_the_layers_business_holds_nobody_up(model: ModelServer) -> None:
    """It is no call under way: who comes goes at once."""
    async with rig(model) as one:
        user = await one.user()
        await user.send(post("/other", b"{}"))
        slow = await model.asked()
        assert one.plan.running == 0
        task = one.ask("a")
        await well(await model.asked())
        assert (await soon(task))[2] == [vector("a")]
        await slow.answer(b"[]", JSON)
        head, _ = await user.read_answer()
        assert b"x-remora-batch" not in head
        tally = one.layer.stats.routes["/*"]
        assert (tally.passed, tally.alone) == (1, 1) and one.plan.running == 0


async def test_what_layers_inside_make_of_it_changes_nothing(model: ModelServer) -> None:
    """Its group is that of the request as it came."""
    async with rig(model, max_inflight=4, file={"host": "upstream"}) as one:
        blocker = await one.blocked()
        await one.held("second")
        assert one.plan.running == 1
        await well(blocker)
        await well(await model.asked())


async def test_one_that_is_refused_is_known_to_be_bad(model: ModelServer) -> None:
    """It is sent alone from then on, as one that was found in a batch."""
    async with rig(model) as one:
        task = one.ask("bad")
        await refuse(await model.asked())
        assert (await soon(task))[0] == 422
        blocker = await one.blocked()
        tasks = [await one.held(text) for text in ("bad", "good", "fine")]
        async with one.answering(strict):
            await well(blocker)
            assert [(await soon(task))[0] for task in tasks] == [422, 200, 200]
        assert one.plan.divided == 0 and model.count == 4


async def test_one_that_leaves_at_once(model: ModelServer) -> None:
    """Before it was taken apart: its place is free, and it is counted."""
    async with rig(model) as one:
        task = asyncio.ensure_future(handled(one, "gone"))
        loop = asyncio.get_running_loop()
        left = loop.create_future()

        def leave() -> None:
            task.cancel()
            left.set_result(None)

        loop.call_soon(leave)
        await left
        await asyncio.wait([task])
        assert task.cancelled() and one.lane.lone is None
        await until(lambda: one.plan.running == 0)
        tally = one.layer.stats.routes["/*"]
        assert (tally.alone, tally.left) == (0, 1)


async def test_one_that_cannot_be_looked_at_holds_nobody_up(
    model: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in what takes it apart is its own alone: its place is free when it is answered."""

    def broken(*args: object) -> None:
        raise RuntimeError("a bug")

    heard: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, told: heard.append(str(told["exception"])))
    async with rig(model) as one:
        with monkeypatch.context() as patch:
            patch.setattr(TEI, "parts", broken)
            task = asyncio.ensure_future(handled(one, "odd"))
            asked = await model.asked()
        loop.set_exception_handler(None)
        assert heard == ["a bug"] and one.lane.lone is None
        await well(asked)
        assert (await task).status == 200 and one.plan.running == 0
        next_ = one.ask("next")
        await well(await model.asked())
        assert (await soon(next_))[0] == 200


async def test_paths_that_merge_nothing_are_known_up_to_a_bound(model: ModelServer) -> None:
    """Clients choose them: so many are remembered, and one that merges after all is forgotten."""

    async def passed(request: Request) -> Response:
        raise AssertionError("nothing is sent")

    async with rig(model) as one:
        bound: Any = one.layer.bind(RouteInfo("r", "default"), passed)
        bound = bound.__self__
        for number in range(2 * MAX_PASSING):
            bound._taken_apart(Request(b"POST", b"/%d" % number, [], b"{}"))
        assert len(bound._passing) == MAX_PASSING
        bound._passing = {b"/v1/embeddings"}
        bound._taken_apart(Request(b"POST", b"/v1/embeddings", [], b'{"input": "a"}'))
        assert not bound._passing
