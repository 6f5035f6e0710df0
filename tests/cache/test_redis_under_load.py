"""Redis killed, restarted, filled and paused while clients ask: nobody's request fails."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.cache.replicas import HASTY, JSON, PATH, eventually, replica
from tests.contract.road import ModelServer, Wire, client, post
from tests.stores.server import RedisServer

CLIENTS = 8
QUESTIONS = 20


class Load:
    """Clients that ask again and again, over kept connections, until told to stop."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.failed: list[bytes] = []
        self.hits = 0
        self.going = True

    async def user(self, wire: Wire, number: int) -> None:
        turn = number
        while self.going:
            turn += 1
            question = json.dumps({"input": f"q{turn % QUESTIONS}"}).encode()
            began = time.perf_counter()
            await wire.send(post(PATH, question))
            head, body = await wire.read_answer()
            self.times.append(time.perf_counter() - began)
            self.hits += b"remora; hit" in head
            if b" 200 " not in head or body != b"answer to " + question:
                self.failed.append(head)

    def phase(self) -> tuple[int, int, float]:
        """(requests, hits, slowest seconds) since the last look."""
        told = (len(self.times), self.hits, max(self.times, default=0.0))
        self.times, self.hits = [], 0
        return told


async def answer_all(model: ModelServer) -> None:
    while True:
        asked = await model._asked.get()
        await asked.answer(b"answer to " + asked.body, JSON)


@asynccontextmanager
async def load(model: ModelServer, redis: RedisServer) -> AsyncIterator[Load]:
    """Clients on a remora whose only tier is Redis, so that every request touches it."""
    one = Load()
    async with asyncio.TaskGroup() as group:
        answering = group.create_task(answer_all(model))
        async with (
            replica(model, redis, HASTY, stores=["redis"]) as server,
            AsyncExitStack() as wires,
        ):
            users = [
                group.create_task(one.user(await wires.enter_async_context(client(server)), n * 3))
                for n in range(CLIENTS)
            ]
            try:
                yield one
            finally:
                one.going = False
                await asyncio.gather(*users)
        answering.cancel()


async def some(one: Load, requests: int = 200) -> tuple[int, int, float]:
    """What a while of this weather was like."""
    one.phase()
    await eventually(lambda: len(one.times) >= requests, within=20)
    return one.phase()


@pytest.mark.parametrize("weather", ["killed", "paused", "full"])
async def test_nobodys_request_fails(tmp_path: Path, weather: str) -> None:
    """Whatever Redis does, each client gets its answer, and hits come back when Redis does."""
    async with ModelServer().listening() as model, RedisServer(tmp_path) as redis:
        async with load(model, redis) as one:
            await eventually(lambda: one.hits > 100, within=20)
            fair = await some(one)
            if weather == "killed":
                await redis.kill()
            elif weather == "paused":
                redis.pause()
            else:
                await redis.command("FLUSHALL")
                await redis.command("CONFIG", "SET", "maxmemory", "1")
            bad = await some(one)
            began = time.perf_counter()
            if weather == "killed":
                await redis.start()
            elif weather == "paused":
                redis.resume()
            else:
                await redis.command("CONFIG", "SET", "maxmemory", "0")
            one.phase()
            await eventually(lambda: one.hits > 50, within=30)
            recovery = time.perf_counter() - began
            again = await some(one)
        print(
            f"\n{weather}: slowest request {fair[2] * 1000:.0f} ms before, {bad[2] * 1000:.0f} ms "
            f"while it lasted, {again[2] * 1000:.0f} ms after; hits back {recovery:.1f} s after it"
        )
    assert one.failed == []
    assert fair[1] and again[1]
