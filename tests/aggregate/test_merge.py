"""Requests that wait for the upstream at the same time share one call."""

from __future__ import annotations

import asyncio
import itertools

import orjson
import pytest

from middleware.aggregate.layer import MAX_AROUND
from tests.contract.road import Asked, ModelServer, post
from tests.road.wire import until

from .rig import JSON, field, handled, inputs, rig, soon, vector, well

DRAWN = itertools.count()


async def test_a_request_that_is_alone_passes_as_it_is(model: ModelServer) -> None:
    """The client's own bytes, its own header fields, nothing added; the answer as it came."""
    async with rig(model) as one:
        user = await one.user()
        raw = b'{ "inputs" : "a",  "truncate": true}'
        fields = (b"Accept-Encoding: gzip", b"X-Odd:  1", b"x-request-id: 7")
        await user.send(post("/embed", raw, *fields))
        asked = await model.asked()
        assert asked.body == raw
        for name in (b"accept-encoding", b"x-odd", b"x-request-id"):
            assert asked.header(name) is not None
        await asked.answer(b" [[1.0 ]] ", JSON, b"X-Request-Id: 7", b"Set-Cookie: a=b")
        head, body = await user.read_answer()
        assert body == b" [[1.0 ]] "
        assert b"X-Request-Id: 7\r\n" in head and b"Set-Cookie: a=b\r\n" in head
        assert b"x-remora-batch: size=1; wait=0ms\r\n" in head
        assert one.plan.running == 0


async def test_its_answer_streams(model: ModelServer) -> None:
    """The head leaves before there is a body, and the upstream is free for others by then."""
    async with rig(model) as one:
        user = await one.user()
        await user.send(post("/embed", b'{"inputs":"a"}'))
        asked = await model.asked()
        await asked.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[[")
        await user.until(b"\r\n\r\n")
        assert one.plan.running == 0
        await asked.send(b"]]")
        assert await user.exactly(4) == b"[[]]"


async def test_what_waits_goes_together(model: ModelServer) -> None:
    """One call with all items; each client gets its own, in its order and in its shape."""
    async with rig(model) as one:
        blocker = await one.blocked()
        first = await one.held("aa")
        second = await one.held(["bbb", "c"])
        third = await one.held(["dddd"])
        await well(blocker)
        asked = await model.asked()
        assert sorted(inputs(asked)) == ["aa", "bbb", "c", "dddd"]
        await well(asked)
        assert (await soon(first))[2] == [vector("aa")]
        assert (await soon(second))[2] == [vector("bbb"), vector("c")]
        told = await soon(third)
        assert told[2] == [vector("dddd")]
        said = field(told, b"x-remora-batch")
        assert said is not None and said.startswith(b"size=4; wait=")
        assert model.count == 2 and one.plan.running == one.plan.queued == 0


async def test_the_same_item_is_sent_once(model: ModelServer) -> None:
    """Whether one client asks it twice or two ask it."""
    async with rig(model) as one:
        blocker = await one.blocked()
        first, second = await one.held("same"), await one.held(["other", "same", "same"])
        await well(blocker)
        asked = await model.asked()
        assert sorted(inputs(asked)) == ["other", "same"]
        await well(asked)
        assert (await soon(first))[2] == [vector("same")]
        assert (await soon(second))[2] == [vector(text) for text in ("other", "same", "same")]
        tally = one.layer.stats.routes["/*"]
        assert (tally.duplicates, tally.items) == (2, 3)


async def completed(asked: Asked) -> None:
    """Each prompt's completion is drawn: no two have the same text."""
    prompts = orjson.loads(asked.body)["prompt"]
    prompts = prompts if isinstance(prompts, list) else [prompts]
    choices = [
        {"index": place, "text": f"{prompt} {next(DRAWN)}", "logprobs": None}
        for place, prompt in enumerate(prompts)
    ]
    usage = {"prompt_tokens": len(prompts), "completion_tokens": len(prompts)}
    await asked.answer(orjson.dumps({"id": "c", "choices": choices, "usage": usage}), JSON)


@pytest.mark.parametrize("temperature", [{}, {"temperature": 0.7}])
async def test_what_is_drawn_is_drawn_for_each(
    temperature: dict[str, float], model: ModelServer
) -> None:
    """Completions of one prompt differ, whether one client asks for them or two do."""
    async with rig(model) as one:
        users = [await one.user() for _ in range(3)]
        for number, prompt in enumerate(("first", "same", ["other", "same", "same"])):
            body = orjson.dumps({"model": "m", "prompt": prompt, **temperature})
            await users[number].send(post("/v1/completions", body))
            if not number:
                blocker = await model.asked()
        await until(lambda: one.plan.queued == 4)
        await completed(blocker)
        asked = await model.asked()
        assert sorted(orjson.loads(asked.body)["prompt"]) == ["other", "same", "same", "same"]
        await completed(asked)
        told = [orjson.loads((await user.read_answer())[1])["choices"] for user in users[1:]]
        texts = [choice["text"] for choices in told for choice in choices]
        assert [text.split()[0] for text in texts] == ["same", "other", "same", "same"]
        assert len(set(texts)) == 4


async def test_what_is_not_drawn_is_sent_once(model: ModelServer) -> None:
    """At temperature 0 one completion does for all who ask for it."""
    async with rig(model) as one:
        users = [await one.user() for _ in range(3)]
        for number, prompt in enumerate(("first", "same", "same")):
            body = orjson.dumps({"model": "m", "prompt": prompt, "temperature": 0})
            await users[number].send(post("/v1/completions", body))
            if not number:
                blocker = await model.asked()
        await until(lambda: one.plan.queued == 2)
        await completed(blocker)
        asked = await model.asked()
        assert orjson.loads(asked.body)["prompt"] == ["same"]
        await completed(asked)
        told = [orjson.loads((await user.read_answer())[1])["choices"] for user in users[1:]]
        assert told[0] == told[1]


@pytest.mark.parametrize(
    ("fields", "more", "target"),
    [
        ((b"Authorization: Bearer other",), {}, "/embed"),
        ((b"Cookie: a",), {}, "/embed"),
        ((b"X-Anything: 1",), {}, "/embed"),
        ((), {"normalize": False}, "/embed"),
        ((), {}, "/embed?x"),
        ((), {}, "/embed_sparse"),
    ],
)
async def test_what_does_not_fit_is_kept_apart(
    fields: tuple[bytes, ...], more: dict[str, bool], target: str, model: ModelServer
) -> None:
    """Another credential, an unknown header, another parameter or target: another call."""
    async with rig(model) as one:
        blocker = await one.blocked()
        mine = await one.held("mine")
        before = one.plan.queued
        other = one.ask("other", *fields, target=target, **more)
        while one.plan.queued == before:
            await asyncio.sleep(0.001)
        await well(blocker)
        asked = [await model.asked()]
        assert len(inputs(asked[0])) == 1
        await well(asked[0])
        asked.append(await model.asked())
        assert len(inputs(asked[1])) == 1
        await well(asked[1])
        assert (await soon(mine))[2] == [vector("mine")]
        assert (await soon(other))[0] == 200


async def test_what_says_nothing_of_the_answer_keeps_nobody_apart(model: ModelServer) -> None:
    """Ids of a trace, addresses, what the client runs on: the call carries the first one's ids,
    nobody's address, and asks for an answer that is not compressed.
    """
    async with rig(model, ignore=["X-Batch-Me"]) as one:
        blocker = await one.blocked()
        tasks = []
        for number in (b"1", b"2"):
            tasks.append(
                await one.held(
                    f"text {number.decode()}",
                    b"x-request-id: " + number,
                    b"traceparent: 00-" + number * 32 + b"-" + number * 16 + b"-01",
                    b"X-Forwarded-For: 10.0.0." + number,
                    b"User-Agent: client/" + number,
                    b"Accept-Encoding: gzip, br;q=0." + number,
                    b"X-Stainless-Retry-Count: " + number,
                    b"X-Batch-Me: " + number,
                    b"X-Same: yes",
                )
            )
        await well(blocker)
        asked = await model.asked()
        assert len(inputs(asked)) == 2
        assert asked.header(b"x-request-id") == b"1"
        assert asked.header(b"traceparent") == b"00-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01"
        assert asked.header(b"x-forwarded-for") is None
        assert asked.header(b"user-agent") == b"client/1"
        assert asked.header(b"accept-encoding") == b"identity"
        assert asked.header(b"x-same") == b"yes"
        await well(asked, b"X-Request-Id: 1", b"Set-Cookie: s=1", b"X-Model: m")
        for number, task in zip((b"1", b"2"), tasks, strict=True):
            told = await soon(task)
            assert field(told, b"x-request-id") == number
            assert field(told, b"set-cookie") is None
            assert field(told, b"x-model") == b"m"
            assert told[2] == [vector(f"text {number.decode()}")]


async def test_across_tenants_where_the_file_says_so(model: ModelServer) -> None:
    """Credentials then keep nobody apart, and the server sees one of them."""
    async with rig(model, across=["tenants"]) as one:
        blocker = await one.blocked()
        tasks = [await one.held(name, f"Authorization: {name}".encode()) for name in ("a", "b")]
        await well(blocker)
        asked = await model.asked()
        assert asked.header(b"authorization") in (b"a", b"b") and len(inputs(asked)) == 2
        await well(asked)
        assert [(await soon(task))[2] for task in tasks] == [[vector("a")], [vector("b")]]


async def test_a_request_that_is_too_large_is_split(model: ModelServer) -> None:
    """Its parts are computed side by side, and it gets one answer, in order."""
    async with rig(model, max_batch_size=4, max_inflight=3) as one:
        texts = [f"text {number}" for number in range(10)]
        task = one.ask(texts)
        asked = [await model.asked() for _ in range(3)]
        assert sorted(len(inputs(part)) for part in asked) == [2, 4, 4]
        assert task.done() is False and one.plan.running == 3
        for part in reversed(asked):
            await well(part)
        assert (await soon(task))[2] == [vector(text) for text in texts]


async def test_usage_is_that_of_the_client(model: ModelServer) -> None:
    """Of OpenAI's embeddings: each one's own tokens, index and id."""
    async with rig(model) as one:
        user = [await one.user() for _ in range(3)]
        bodies = [
            orjson.dumps({"input": texts, "model": "m"}) for texts in ("aaaa", ["b" * 8, "c"])
        ]
        await user[0].send(post("/v1/embeddings", b'{"input":"x","model":"m"}'))
        blocker = await model.asked()
        for number, body in enumerate(bodies):
            await user[number + 1].send(post("/v1/embeddings", body))
        while one.plan.queued < 3:
            await asyncio.sleep(0.001)
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        whole = {"object": "list", "data": data, "model": "m", "usage": usage}
        await blocker.answer(orjson.dumps(whole), JSON)
        asked = await model.asked()
        texts = orjson.loads(asked.body)["input"]
        tokens = [len(text) // 4 + 1 for text in texts]
        usage = {"prompt_tokens": sum(tokens), "total_tokens": sum(tokens)}
        data = [
            {"object": "embedding", "index": place, "embedding": [float(len(text))]}
            for place, text in enumerate(texts)
        ]
        whole = {"object": "list", "data": data, "model": "m", "usage": usage}
        await asked.answer(orjson.dumps(whole), JSON)
        await user[0].read_answer()
        first = orjson.loads((await user[1].read_answer())[1])
        second = orjson.loads((await user[2].read_answer())[1])
        assert [one["embedding"] for one in first["data"]] == [[4.0]]
        assert [(one["index"], one["embedding"]) for one in second["data"]] == [
            (0, [8.0]),
            (1, [1.0]),
        ]
        told = first["usage"]["prompt_tokens"] + second["usage"]["prompt_tokens"]
        assert told == sum(tokens) and 0 < first["usage"]["prompt_tokens"] < told


async def test_requests_that_cannot_be_merged_pass(model: ModelServer) -> None:
    """Another method, an unknown body, one over the bound: untouched, and not waited with."""
    async with rig(model, max_request_bytes="64B", max_queue=8) as one:
        await one.blocked()
        for raw in (
            post("/embed", b'{"inputs": "%b"}' % (b"x" * 100)),
            post("/embed", b"no json"),
            post("/embed", orjson.dumps({"inputs": ["a"] * 9})),
            post("/embed", b'{"inputs":"a"}', b"Content-Encoding: gzip"),
            post("/other", b'{"inputs":"a"}'),
            b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n",
        ):
            user = await one.user()
            await user.send(raw)
            asked = await model.asked()
            await asked.answer(b"[]", JSON)
            head, body = await user.read_answer()
            assert body == b"[]" and b"x-remora-batch" not in head
        assert one.layer.stats.routes["/*"].passed == 6


async def test_a_group_is_told_by_a_bounded_text(model: ModelServer) -> None:
    """It is remembered: a request with more than MAX_AROUND bytes around its items passes."""
    async with rig(model) as one:
        for size, around in ((MAX_AROUND, 0), (0, MAX_AROUND - 100), (0, MAX_AROUND)):
            task = one.ask(["x" * size], more="x" * around)
            await well(await model.asked())
            assert (await soon(task))[0] == 200
        tally = one.layer.stats.routes["/*"]
        assert (tally.alone, tally.passed) == (2, 1)


async def test_a_body_that_comes_in_pieces_is_merged(model: ModelServer) -> None:
    """What its head declares is read, where it is within the bound."""
    async with rig(model) as one:
        blocker = await one.blocked()
        first = await one.held("aa")
        user = await one.user()
        raw = post("/embed", b'{"inputs":"bb"}')
        await user.send(raw[:-4])
        await asyncio.sleep(0.01)
        await user.send(raw[-4:])
        while one.plan.queued < 2:
            await asyncio.sleep(0.001)
        await well(blocker)
        asked = await model.asked()
        assert sorted(inputs(asked)) == ["aa", "bb"]
        await well(asked)
        assert orjson.loads((await user.read_answer())[1]) == [vector("bb")]
        await soon(first)


async def test_a_body_that_comes_in_pieces_and_is_too_large_passes(model: ModelServer) -> None:
    """It streams: nothing of it is kept."""
    async with rig(model, max_request_bytes="1KiB") as one:
        user = await one.user()
        raw = post("/embed", b'{"inputs":"%b"}' % (b"x" * 5000))
        await user.send(raw[:1000])
        asked = asyncio.ensure_future(model.asked())
        await until(lambda: one.layer.stats.routes["/*"].passed == 1)
        await user.send(raw[1000:])
        await (await asked).answer(b"[[1.0]]", JSON)
        assert (await user.read_answer())[1] == b"[[1.0]]"


async def test_tenants_are_kept_apart(model: ModelServer) -> None:
    """Whom `auth` has named, whatever credential the server is to get; not with `across`."""
    for across, calls in (([], [1, 1]), (["tenants"], [2])):
        async with rig(model, across=across) as one:
            blocker = await one.blocked()
            told = [asyncio.ensure_future(handled(one, text, tenant=text)) for text in "ab"]
            await until(lambda one=one: one.plan.queued == 2)
            await well(blocker)
            for number in calls:
                asked = await model.asked()
                assert len(inputs(asked)) == number
                await well(asked)
            bodies = [(await task).body for task in told]
            assert bodies == [orjson.dumps([vector(text)]) for text in "ab"]


async def test_its_header_can_be_left_out(model: ModelServer) -> None:
    """With `headers: false` an answer has none of remora's fields."""
    async with rig(model, headers=False) as one:
        blocker = await one.blocked()
        waiting = [await one.held(text) for text in "ab"]
        await well(blocker)
        await well(await model.asked())
        for task in [one.blocker, *waiting]:
            assert field(await soon(task), b"x-remora-batch") is None


async def test_two_routes_to_one_upstream_share_its_time(model: ModelServer) -> None:
    """One call under way is one, whichever route it came by; their requests are not merged."""
    routes = [{"name": "tei", "match": {"path": "/embed"}}, {"name": "rest"}]
    async with rig(model, file={"routes": routes}) as one:
        blocker = await one.blocked()
        first = await one.held("a")
        second = await one.held("b", target="/embed_sparse")
        assert model.count == 1
        await well(blocker)
        asked = await model.asked()
        assert model.count == 2
        await asked.answer(b"[[]]", JSON)
        await (await model.asked()).answer(b"[[]]", JSON)
        await soon(first)
        await soon(second)
        assert set(one.layer.stats.routes) == {"tei", "rest"}
