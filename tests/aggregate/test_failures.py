"""A failure stays with the item that caused it."""

from __future__ import annotations

import asyncio
from collections import Counter

import orjson
import pytest

from tests.contract.road import ModelServer, post
from tests.road.wire import until

from .rig import JSON, field, inputs, refuse, rig, soon, strict, vector, well


async def test_31_never_see_the_error_of_one(model: ModelServer) -> None:
    """32 clients ask again and again, one of them always for something bad: it gets the server's
    error each time, and nobody else ever gets one.
    """
    rounds = 20
    async with rig(model, max_inflight=2, max_queue_delay="20ms") as one:

        async def client(number: int) -> list[int]:
            user = await one.user()
            statuses = []
            for turn in range(rounds):
                text = f"bad {turn}" if number == 0 else f"good {number} {turn}"
                await user.send(post("/embed", orjson.dumps({"inputs": text})))
                head, body = await user.read_answer()
                status = int(head.split(b" ")[1])
                statuses.append(status)
                if status == 200:
                    assert orjson.loads(body) == [vector(text)]
                else:
                    assert orjson.loads(body)["error"] == "bad"
            return statuses

        async with one.answering(strict):
            told = await asyncio.gather(*[client(number) for number in range(32)])
        assert told[0] == [422] * rounds
        assert Counter(status for one in told[1:] for status in one) == {200: 31 * rounds}
        assert model.count < 32 * rounds, "nothing was merged"


async def test_an_item_that_fails_again_is_sent_alone(model: ModelServer) -> None:
    """A client that asks the same bad thing again does not have another batch divided."""
    async with rig(model) as one:
        for calls in (1 + 5, 1 + 2):
            before = model.count
            blocker = await one.blocked()
            bad = one.ask("bad")
            await until(lambda: one.plan.queued == 1)
            good = [await one.held(text) for text in ("a", "b", "c")]
            async with one.answering(strict):
                await well(blocker)
                assert (await soon(bad))[0] == 422
                assert [(await soon(task))[0] for task in good] == [200] * 3
            assert one.plan.divided == 2 and model.count - before == calls


async def test_a_client_hears_what_the_server_says_to_it_alone(model: ModelServer) -> None:
    """Its own request is sent, bytes and fields, and it gets that answer as it comes."""
    async with rig(model) as one:
        blocker = await one.blocked()
        mixed = await one.held(["good", "bad"], b"x-request-id: mine")
        other = await one.held("other", b"x-request-id: other")
        await well(blocker)
        await refuse(await model.asked())
        for _ in range(2):
            asked = await model.asked()
            mine = inputs(asked) == ["good", "bad"]
            assert asked.header(b"x-request-id") == (b"mine" if mine else b"other")
            if mine:
                await asked.answer(b'{"error":"at 1"}', JSON, b"X-Place: 1", status=b"400 Bad")
            else:
                await well(asked)
        told = await soon(mixed)
        assert (told[0], told[2], field(told, b"x-place")) == (400, {"error": "at 1"}, b"1")
        assert (await soon(other))[2] == [vector("other")]


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_an_error_for_all_is_the_servers_own(status: int, model: ModelServer) -> None:
    """Status, body and retry-after, but not what is for one of them alone: each has its own id.
    Only of a 500 the culprit is looked for.
    """
    async with rig(model, max_splits=0) as one:
        blocker = await one.blocked()
        tasks = [await one.held(text, b"X-Request-Id: " + text.encode()) for text in "abc"]
        await well(blocker)
        asked = await model.asked()
        fields = (JSON, b"Retry-After: 7", b"Set-Cookie: a", b"X-Request-Id: a")
        await asked.answer(b'{"error":"no"}', *fields, status=b"%d Odd" % status)
        for name, task in zip((b"a", b"b", b"c"), tasks, strict=True):
            told = await soon(task)
            assert (told[0], told[2]) == (status, {"error": "no"})
            assert field(told, b"retry-after") == b"7" and field(told, b"set-cookie") is None
            assert field(told, b"x-request-id") == name
            size, _, wait = (field(told, b"x-remora-batch") or b"").partition(b"; wait=")
            assert size == b"size=3" and wait.endswith(b"ms")
        assert model.count == 2 and one.plan.running == 0


async def test_a_server_that_fails_everything_is_left_alone(model: ModelServer) -> None:
    """The batch, its halves and its quarters; then all have the server's answer."""
    async with rig(model) as one:
        blocker = await one.blocked()
        tasks = [await one.held(f"{number}") for number in range(32)]
        await well(blocker)
        async with one.answering(lambda asked: refuse(asked, b"500 Internal Server Error")):
            told = [await soon(task) for task in tasks]
        assert {(status, body["error"]) for status, _, body in told} == {(500, "bad")}
        assert model.count == 1 + 7 and one.plan.running == 0


async def test_an_upstream_that_dies_in_a_batch(model: ModelServer) -> None:
    """All get a 502 in their dialect, and nobody is asked for by itself: the server is not well.
    (A kept connection that closes before a byte came is tried anew once, by the road.)
    """
    async with rig(model) as one:
        blocker = await one.blocked()
        tasks = [await one.held(text) for text in ("a", "b", "c")]
        await well(blocker)
        (await model.asked()).abort()
        (await model.asked()).abort()
        for task in tasks:
            told = await soon(task)
            assert told[0] == 502 and field(told, b"x-remora-error") == b"upstream_closed"
            assert told[2]["code"] == "upstream_closed"
        assert model.count == 3 and one.plan.running == 0
        tally = one.layer.stats.routes["/*"]
        assert (tally.alone, tally.merged, sum(tally.waits)) == (1, 3, 4)
        next_ = one.ask("next")
        await well(await model.asked())
        assert (await soon(next_))[0] == 200


async def test_an_upstream_that_dies_in_its_answer(model: ModelServer) -> None:
    """Half an answer is nobody's."""
    async with rig(model) as one:
        blocker = await one.blocked()
        tasks = [await one.held(text) for text in ("a", "b")]
        await well(blocker)
        asked = await model.asked()
        await asked.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[[1.0],")
        asked.abort()
        assert [(await soon(task))[0] for task in tasks] == [502, 502]


@pytest.mark.parametrize("body", [b"[[1.0]]", b'{"error":"?"}', b"no json", b"[[1],[2],[3],[4]]"])
async def test_an_answer_that_cannot_be_shared_out(body: bytes, model: ModelServer) -> None:
    """Each client is then asked for by itself, and gets what the server says to that."""
    async with rig(model) as one:
        blocker = await one.blocked()
        tasks = [await one.held(text) for text in ("a", "b", "c")]
        await well(blocker)
        await (await model.asked()).answer(body, JSON)
        async with one.answering(well):
            told = [await soon(task) for task in tasks]
        assert [(status, answer) for status, _, answer in told] == [
            (200, [vector(text)]) for text in ("a", "b", "c")
        ]


async def test_an_answer_that_is_too_large_for_all(model: ModelServer) -> None:
    """It is not kept in memory: the batch is divided, and a client alone has it streamed."""
    async with rig(model, max_answer_bytes="100B") as one:
        blocker = await one.blocked()
        texts = ["a" * 10, "b" * 10]
        tasks = [await one.held(text) for text in texts]
        async with one.answering(well):
            await well(blocker)
            for text, task in zip(texts, tasks, strict=True):
                assert (await soon(task))[2] == [vector(text)]
        assert one.plan.divided == 1


async def test_a_part_of_a_large_request_that_fails(model: ModelServer) -> None:
    """The client gets the server's error to its part, once; the other parts are ended."""
    async with rig(model, max_batch_size=2, max_inflight=2) as one:
        task = one.ask(["a", "b", "c", "bad", "e", "f"])
        asked = [await model.asked(), await model.asked()]
        bad = next(part for part in asked if "bad" in inputs(part))
        other = next(part for part in asked if part is not bad)
        await refuse(bad)
        told = await soon(task)
        assert told[0] == 422 and told[2]["error"] == "bad"
        await other.closed()
        assert one.plan.running == one.plan.queued == 0 and model.count == 2
        assert one.lane.cancelled == 1


async def test_a_bug_below_fails_nobody_else(model: ModelServer) -> None:
    """What a layer inside raises all of a batch get as an internal error; the next is served."""
    async with rig(model, inner=[{"tests.contract.layers:Breaks": {}}]) as one:
        for asked in ("a", ["a", "a"], "b"):
            told = await soon(one.ask(asked))
            assert told[0] == 500 and b"secret" not in orjson.dumps(told[2])
            assert one.plan.running == 0
