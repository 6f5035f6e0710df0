"""`prefetch` with a cache behind it and clients in front of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from middleware.prefetch import Prefetch
from tests.bench import sessions
from tests.conftest import Running, Serve, UpstreamMaker
from tests.road.scripted import Peer
from tests.road.wire import Client, ok, until


class Turned:
    """The clock of a remora, turned by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("proxy.env.monotonic", lambda: self.now)


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> Turned:
    return Turned(monkeypatch)


def chain(**keys: Any) -> list[dict[str, Any]]:
    keys = {"session": "x-session", "budget": 1.0, **keys}
    return [{sessions.PREFETCH: keys}, {sessions.CACHE: {}}]


def spawned(remora: Running) -> int:
    assert remora.server._assembly is not None
    return remora.server._assembly.env.spawned


async def ask(client: Client, session: str, question: int) -> bool:
    return await sessions.ask(client, session, question)


async def test_the_successor_is_a_hit(
    serve: Serve, upstream: UpstreamMaker, turned: Turned
) -> None:
    """Through the road: b is in the cache before its client asks, and the model had one call."""
    asked: list[bytes] = []

    async def model(peer: Peer) -> None:
        while True:
            asked.append((await peer.request()).body)
            peer.send(ok(b"{}", "Content-Type: application/json"))

    remora = await serve(await upstream(model), chain=chain())
    client = await remora.connect()
    for session in ("1", "2"):
        for question in (1, 2):
            await ask(client, session, question)
    turned.now += 301
    asked.clear()
    assert not await ask(client, "3", 1)
    await until(lambda: len(asked) == 2 and not spawned(remora))
    assert await ask(client, "3", 2)
    assert asked == [sessions.body(1), sessions.body(2)]
    assert sessions.outcomes(remora.server)["useful"] == 1


async def test_a_client_joins_a_prefetch_under_way(
    serve: Serve, upstream: UpstreamMaker, turned: Turned
) -> None:
    """Who asks for b while it is being fetched waits for that very call: the model has one."""
    hold = asyncio.Event()
    hold.set()
    calls = 0

    async def model(peer: Peer) -> None:
        nonlocal calls
        while True:
            await peer.request()
            calls += 1
            await hold.wait()
            peer.send(ok(b"{}", "Content-Type: application/json"))

    remora = await serve(await upstream(model), chain=chain())
    client = await remora.connect()
    for session in ("1", "2"):
        for question in (1, 2):
            await ask(client, session, question)
    await until(lambda: not spawned(remora))
    turned.now += 301
    calls = 0
    await ask(client, "3", 1)
    hold.clear()
    await until(lambda: calls == 2)
    joined = asyncio.create_task(ask(client, "3", 2))
    load = remora.layer(Prefetch)._loads["default"]
    await until(lambda: load.foreground == 1)
    hold.set()
    await joined
    assert calls == 2
    await until(lambda: not spawned(remora))
    assert sessions.outcomes(remora.server)["useful"] == 1


async def test_the_hit_ratio_of_sessions_rises(
    serve: Serve, upstream: UpstreamMaker, turned: Turned
) -> None:
    """A small version of tests/bench/sessions.py, one request at a time on a clock that is turned:
    the same questions in the same order, with the layer and without it.
    """
    workload = sessions.Workload(questions=40, users=6, ttl=60.0)

    async def model(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(ok(b"{}", "Content-Type: application/json"))

    async def ratio(prefetch: dict[str, Any] | None) -> tuple[float, dict[str, int]]:
        keys: dict[str, Any] = {"ttl": workload.ttl}
        layers: list[dict[str, Any]] = [{sessions.CACHE: keys}]
        if prefetch is not None:
            layers.insert(0, {sessions.PREFETCH: {"session": "x-session", **keys, **prefetch}})
        remora = await serve(await upstream(model), chain=layers)
        client = await remora.connect()
        hits = asked = 0
        for session, question in workload.interleaved(sessions_each=25):
            turned.now += 1.5
            hits += await ask(client, session, question)
            asked += 1
            await until(lambda: not spawned(remora))
        return hits / asked, sessions.outcomes(remora.server)

    alone, nothing = await ratio(None)
    default, _ = await ratio({})
    more, counts = await ratio({"budget": 1.0, "probability": 0.15})
    assert not any(nothing.values())
    assert 0.3 < alone < 0.8, "a workload that shows nothing"
    assert alone + 0.05 < default
    assert default + 0.05 < more
    assert counts["useful"] > counts["wasted"]
