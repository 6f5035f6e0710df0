"""A drain loses nobody who is queued, batched, about to be tried again, or shares a call."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from middleware.concurrency import Concurrency
from tests.chain.asking import ask, embed, is_about
from tests.chain.conftest import Held, MakeModel, Serve
from tests.chain.model import Model
from tests.chain.rig import entry, file, whole
from tests.chain.test_counts import ONE_AT_A_TIME, queued, well
from tests.contract.road import chunk, event
from tests.lifecycle.process import command
from tests.road.wire import Client, soon, until


async def test_everybody_is_answered(serve: Serve, held: Held) -> None:
    """Who waits for a batch, for a permit, for the next attempt, for another's call or for a
    stream's end when the drain begins gets it.
    """
    chain = whole(prefetch=None, aggregate=ONE_AT_A_TIME, concurrency={"limit": 2},
                  retry={"backoff": {"first": "300ms", "cap": "300ms", "jitter": 0}})  # fmt: skip
    remora = await serve([held], chain)
    (permits,) = remora.layer(Concurrency).permits.values()

    streaming = await remora.connect()
    body = {"model": "m", "stream": True, "seed": 1, "messages": []}
    streaming.ask("POST", "/v1/chat/completions", "Content-Type: application/json",
                  body=json.dumps(body).encode())  # fmt: skip
    stream = await held.asked()
    await stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                      b"Transfer-Encoding: chunked\r\n\r\n" + chunk(event("1")))  # fmt: skip
    assert (await streaming.head()).status == 200

    clients = {"tried twice": await ask(remora, "tried twice")}
    await (await held.asked()).answer(b"", status=b"502 Bad")
    for text in ("batched", "with it"):
        clients[text] = await ask(remora, text)
        await until(lambda: queued(remora) == len(clients) - 1)
    clients["same"] = await ask(remora, "batched")
    page = await remora.connect()
    page.ask("GET", "/page")
    await until(lambda: permits.waiting == 1)

    drain = asyncio.ensure_future(remora.server.drain(asyncio.Event()))
    await until(lambda: not remora.server._listeners)
    again = await held.asked()
    assert b"tried twice" in again.body
    await well(again)
    for _ in range(2):
        asked = await held.asked()
        if asked.start.startswith(b"GET"):
            await asked.answer(b"page")
        else:
            assert json.loads(asked.body)["input"] == ["batched", "with it"]
            await well(asked)
    await stream.send(chunk(event("[DONE]")) + b"0\r\n\r\n")
    for text, client in clients.items():
        answer = await client.answer()
        assert is_about(answer, "batched" if text == "same" else text)
        assert answer["connection"] == "close"
    assert (await page.answer()).body == b"page"
    assert (await streaming.chunks()).endswith(event("[DONE]"))
    await soon(drain)


async def test_a_refresh_is_finished(serve: Serve, held: Held) -> None:
    """What goes on without a client is waited for, too."""
    chain = [entry("cache", ttl="10ms", grace="1h"), entry("aggregate"), entry("concurrency")]
    remora = await serve([held], chain)
    first = await ask(remora, "a")
    await well(await held.asked())
    assert is_about(await first.answer(), "a")
    await asyncio.sleep(0.02)  # until it is stale
    assert is_about(await embed(remora, "a"), "a")
    refresh = await held.asked()
    drain = asyncio.ensure_future(remora.server.drain(asyncio.Event()))
    await until(lambda: not remora.server._listeners and not remora.server.edge.connections)
    assert not drain.done()
    await well(refresh)
    await soon(drain)


async def test_sigterm_under_load(model: MakeModel, tmp_path: Path) -> None:
    """A process with the whole chain and clients at work ends with 0, and each request that it took
    was answered.
    """
    models: list[Model] = [await model(pace=0.01) for _ in range(2)]
    path = tmp_path / "chain.json"
    path.write_text(file(models, whole(concurrency={"limit": 2, "queue": 1000})))
    async with command("serve", "-c", str(path)) as process:
        (where,) = await process.serving()
        host, _, port = where.rpartition(":")
        asked = answered = 0
        stop = asyncio.Event()

        async def user(number: int) -> None:
            nonlocal asked, answered
            client = await Client.connect((host, int(port)))
            for turn in range(1000):
                text = f"{number} {turn}"
                body = json.dumps({"model": "m", "input": [text, "other"]}).encode()
                client.ask("POST", "/v1/embeddings", "Content-Type: application/json", body=body)
                asked += 1
                answer = await client.answer()
                assert is_about(answer, text, "other")
                answered += 1
                if answered == 60:
                    process.send()
                if answer["connection"] == "close":
                    break
            client.close()

        async with asyncio.TaskGroup() as group:
            for number in range(12):
                group.create_task(user(number))
        stop.set()
        assert asked == answered >= 60
        assert await process.ended() == 0
        assert not [line for line in process.lines if "unfinished" in line or "Traceback" in line]
