"""Endpoints that fail as they are told, and a remora before them with `retry` in its chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from tests.conftest import Running
from tests.road.scripted import Peer, Upstream
from tests.road.wire import LAST_CHUNK, SSE_HEAD, Gone, Message, chunk, ok

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
STREAM = orjson.dumps({"model": "m", "stream": True, "messages": []})
QUESTION = orjson.dumps({"model": "m", "input": "a"})

QUICK: dict[str, Any] = {"backoff": {"first": 0, "cap": 0}}
"""Keys with which no test waits."""

Behaviour = Callable[[Peer, Message], Awaitable[None]]


class Endpoint:
    """Does with each request what the next of `behaviours` says, the last one again and again."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.behaviours = list(behaviours)
        self.seen: list[Message] = []

    @property
    def count(self) -> int:
        return len(self.seen)

    async def __call__(self, peer: Peer) -> None:
        while True:
            message = await peer.request()
            self.seen.append(message)
            done = self.behaviours
            await (done.pop(0) if len(done) > 1 else done[0])(peer, message)


def event(text: str) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({"choices": [{"delta": {"content": text}}]})


DONE = b"data: [DONE]\n\n"
FAILED = b'data: {"error":{"message":"no room","code":500}}\n\n'


def says(answer: bytes) -> Behaviour:
    """Gives a whole answer, as raw bytes."""

    async def behave(peer: Peer, message: Message) -> None:
        peer.send(answer)

    return behave


def status(code: int, *fields: str, body: bytes = b"busy") -> Behaviour:
    return says(ok(body, *fields, status=f"{code} Told"))


async def resets(peer: Peer, message: Message) -> None:
    """Resets the connection behind the request."""
    peer.abort()
    raise Gone("reset by the endpoint")


async def closes(peer: Peer, message: Message) -> None:
    """Closes the connection behind the request."""
    raise Gone("closed by the endpoint")


def streams(*events: bytes, end: bool = True) -> Behaviour:
    """An event stream, each event by itself; without an end its connection is reset behind them."""

    async def behave(peer: Peer, message: Message) -> None:
        peer.send(SSE_HEAD)
        for one in events:
            peer.send(chunk(one))
        await peer.flush()
        if not end:
            await resets(peer, message)
        peer.send(LAST_CHUNK)

    return behave


async def hangs(peer: Peer, message: Message) -> None:
    """Answers nothing, until remora leaves."""
    await peer.exactly(1, 30)


ANSWER = says(ok(b'{"data":[]}', "Content-Type: application/json"))


class Rig:
    """A running remora and its endpoints."""

    def __init__(self, running: Running, upstreams: dict[Upstream, Endpoint]) -> None:
        self.running = running
        self.upstreams = list(upstreams)
        self.endpoints = list(upstreams.values())

    @property
    def counts(self) -> list[int]:
        """Requests that each endpoint saw, the one with the most first: who is first is chance."""
        return sorted((one.count for one in self.endpoints), reverse=True)

    @property
    def total(self) -> int:
        return sum(one.count for one in self.endpoints)

    async def ask(
        self, target: str = EMBEDDINGS, body: bytes | None = QUESTION, *fields: str,
        method: str = "POST",
    ) -> Message:  # fmt: skip
        """On a connection of its own."""
        client = await self.running.connect()
        return await client.exchange(method, target, *fields, body=body)

    def numbers(self, family: str) -> dict[tuple[str, ...], float]:
        """Of /metrics, those that are not 0, by the values of their labels."""
        assert self.running.server._assembly is not None
        telemetry = self.running.server.telemetry
        return {
            tuple(sample.labels.values()): sample.value
            for metric in telemetry.registry.collect()
            for sample in metric.samples
            if sample.name == family and sample.value
        }
