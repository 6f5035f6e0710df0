"""Clients that leave, and those that waited too long."""

from __future__ import annotations

import asyncio

import pytest

from proxy.exchange import Outcome, Request
from tests.contract.road import ModelServer
from tests.road.wire import until

from .rig import handled, inputs, refuse, rig, soon, vector, well


async def test_one_that_leaves_the_queue_is_not_asked_for(model: ModelServer) -> None:
    """Its item is in no call, and its place is free."""
    async with rig(model) as one:
        blocker = await one.blocked()
        gone, stays, too = [await one.held(text) for text in ("gone", "stays", "too")]
        gone.cancel()
        await until(lambda: one.plan.queued == 2)
        await well(blocker)
        asked = await model.asked()
        assert sorted(inputs(asked)) == ["stays", "too"]
        await well(asked)
        assert (await soon(stays))[2] == [vector("stays")]
        assert (await soon(too))[2] == [vector("too")]
        assert one.layer.stats.routes["/*"].left == 1


async def test_a_batch_that_everybody_left_is_cancelled(model: ModelServer) -> None:
    """The upstream's connection is closed when the last one has gone, and not before."""
    async with rig(model) as one:
        blocker = await one.blocked()
        tasks = [await one.held(text) for text in ("a", "b", "c")]
        await well(blocker)
        asked = await model.asked()
        for task in tasks[:2]:
            task.cancel()
        await until(lambda: one.layer.stats.routes["/*"].left == 2)
        assert not asked.gone.is_set() and one.plan.running == 1
        tasks[2].cancel()
        await asked.closed()
        await until(lambda: one.plan.running == 0)
        assert one.lane.cancelled == 1
        task = one.ask("next")
        await well(await model.asked())
        assert (await soon(task))[0] == 200


async def test_those_who_stay_lose_nothing(model: ModelServer) -> None:
    """Also where the one has left whose request the call was made of."""
    async with rig(model) as one:
        blocker = await one.blocked()
        tasks = [await one.held(text) for text in ("first", "second")]
        await well(blocker)
        asked = await model.asked()
        tasks[0].cancel()
        await until(lambda: one.layer.stats.routes["/*"].left == 1)
        await well(asked)
        assert (await soon(tasks[1]))[2] == [vector("second")]


async def test_one_that_leaves_while_it_is_served_alone(model: ModelServer) -> None:
    """The upstream's connection is closed, and the next one is served."""
    async with rig(model) as one:
        asked = await one.blocked()
        waiting = await one.held("waiting")
        one.blocker.cancel()
        await asked.closed()
        await well(await model.asked())
        assert (await soon(waiting))[2] == [vector("waiting")]
        tally = one.layer.stats.routes["/*"]
        assert (tally.alone, tally.left) == (1, 1)


async def test_one_that_leaves_in_the_moment_it_is_told_to_go(model: ModelServer) -> None:
    """Its place is given back, though it never came to use it."""
    async with rig(model) as one:
        await one.blocked()
        task = asyncio.ensure_future(handled(one, "gone", other="group"))
        await until(lambda: one.plan.queued == 1)
        one.plan.pace.limit = 2
        one.lane.pump()
        assert one.plan.running == 2
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() and one.plan.running == 1 and model.count == 1


async def test_one_that_leaves_a_batch_that_is_divided(model: ModelServer) -> None:
    """It is in no further call; when all have gone none is made."""
    async with rig(model) as one:
        blocker = await one.blocked()
        tasks = [await one.held(text) for text in ("bad", "b", "c", "d")]
        await well(blocker)
        await refuse(await model.asked())
        half = await model.asked()
        for task in tasks:
            task.cancel()
        await half.closed()
        await until(lambda: one.plan.running == 0)
        assert not one.plan.waits and not one.plan.queued and model.count == 3


async def test_everything_under_way_may_be_left_at_once(model: ModelServer) -> None:
    """In whatever state: queued, in a call, or in one whose task has not begun."""
    async with rig(model, max_inflight=3, max_batch_size=4, max_queue_delay="1ms") as one:
        for _ in range(20):
            tasks = [one.ask([f"{n}", "same"]) for n in range(10)]
            await until(lambda: model.count > 0)
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await until(lambda: one.plan.running == one.plan.queued == 0)
            assert not one.plan.waits
            while not model._asked.empty():
                model._asked.get_nowait()


async def test_each_end_is_told_once(model: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every client's request and of every call's own, whatever became of it."""
    told: dict[Request, list[Outcome]] = {}
    made = Request.__init__

    def init(self: Request, *args: object, **more: object) -> None:
        made(self, *args, **more)  # type: ignore[arg-type]
        ends = told[self] = []
        self.on_end(ends.append)

    monkeypatch.setattr(Request, "__init__", init)
    async with rig(model) as one:
        blocker = await one.blocked()
        tasks = [await one.held(text) for text in ("bad", "b", "c", "d", "e")]
        tasks[3].cancel()
        await until(lambda: one.plan.queued == 4)
        await well(blocker)
        await refuse(await model.asked())
        half = await model.asked()
        tasks[4].cancel()
        tasks[1].cancel()
        await until(lambda: one.layer.stats.routes["/*"].left == 3)
        await well(half)
        async with one.answering(well):
            for task in (tasks[0], tasks[2]):
                await soon(task)
        await soon(one.blocker)
    assert len(told) >= 8
    assert [len(ends) for ends in told.values()] == [1] * len(told)


async def test_a_full_queue_refuses(model: ModelServer) -> None:
    """503 with a time to come back, in the client's dialect; nothing is sent."""
    async with rig(model, max_queue=3) as one:
        blocker = await one.blocked()
        waiting = await one.held(["a", "b"])
        status, fields, body = await soon(one.ask(["c", "d"]))
        assert status == 503 and body["code"] == "queue_full"
        assert int(dict(fields)[b"retry-after"]) >= 1
        more = await one.held("e")
        await well(blocker)
        async with one.answering(well):
            assert [(await soon(task))[0] for task in (waiting, more)] == [200, 200]
        assert one.layer.stats.routes["/*"].full == 1


async def test_one_that_waits_too_long_gets_504(model: ModelServer) -> None:
    """And is not sent any more."""
    async with rig(model, queue_timeout="50ms", max_queue_delay="50ms") as one:
        blocker = await one.blocked()
        late = await one.held("late")
        status, _, body = await soon(late)
        assert status == 504 and body["code"] == "queue_timeout"
        assert one.plan.queued == 0
        await well(blocker)
        await soon(one.blocker)
        assert model.count == 2 - 1 and one.layer.stats.routes["/*"].late == 1


async def test_a_clients_own_deadline(model: ModelServer) -> None:
    """From its request's head on: in the queue or in a call, over it, 504; whoever has more time
    gets the answer, and a call that nobody waits for is cancelled.
    """
    async with rig(model, deadline="X-Time-Ms") as one:
        blocker = await one.blocked()
        late = await one.held("late", b"X-Time-Ms: 50")
        patient = await one.held("patient", b"x-time-ms: 60000")
        status, _, body = await soon(late)
        assert status == 504 and body["code"] == "deadline_exceeded"
        await well(blocker)
        asked = await model.asked()
        assert inputs(asked) == ["patient"]
        await well(asked)
        assert (await soon(patient))[0] == 200
        alone = one.ask("alone", b"x-time-ms: 50")
        asked = await model.asked()
        assert (await soon(alone))[0] == 504
        await asked.closed()
        assert (await soon(one.ask("none left", b"x-time-ms: 0")))[0] == 504
        tally = one.layer.stats.routes["/*"]
        assert (tally.alone, tally.late, tally.left, one.plan.running) == (2, 3, 0, 0)
        odd = one.ask("odd", b"x-time-ms: soon")
        await well(await model.asked())
        assert (await soon(odd))[0] == 200


async def test_nothing_of_a_client_is_kept(model: ModelServer) -> None:
    """When all have their answers, neither the plan nor the lane holds a request."""
    import gc
    import weakref

    seen: list[weakref.ref[object]] = []

    class Weak(Request):
        __slots__ = ("__weakref__",)

    async with rig(model) as one:
        bound = one.server._assembly.router.routes[0].handler  # type: ignore[union-attr]

        async def asks(text: str) -> None:
            body = b'{"inputs":"%b"}' % text.encode()
            request = Weak(b"POST", b"/embed", [(b"content-type", b"application/json")], body)
            seen.append(weakref.ref(request))
            await bound(request)
            request.finish()

        tasks = [asyncio.ensure_future(asks(text)) for text in ("a", "b", "c")]
        await until(lambda: one.plan.queued == 2)
        async with one.answering(well):
            await asyncio.wait(tasks)
            assert all(task.exception() is None for task in tasks)
        tasks.clear()
        gc.collect()
        assert [ref() for ref in seen] == [None] * 3
