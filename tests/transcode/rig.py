"""Remora with `transcode` between a client and a server that says what it is told."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
import orjson

from tests.conftest import Running
from tests.road.scripted import Peer
from tests.road.wire import Client, Message, ok

JSON = "application/json"
MSGPACK = "application/msgpack"

Answer = bytes | Callable[[Peer, Message], Awaitable[None] | bytes]
"""Raw bytes, or what makes or sends them."""


class Server:
    """Gives its answers in order, the last one again and again, and keeps what it saw."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.seen: list[Message] = []

    @property
    def last(self) -> Message:
        return self.seen[-1]

    async def __call__(self, peer: Peer) -> None:
        while True:
            message = await peer.request()
            self.seen.append(message)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, bytes):
                peer.send(answer)
                continue
            told = answer(peer, message)
            if inspect.isawaitable(told):
                await told
            else:
                assert isinstance(told, bytes)
                peer.send(told)


def said(value: Any, *fields: str, status: str = "200 OK", of: str = JSON) -> bytes:
    """An answer with a value in the form that its type names."""
    body = orjson.dumps(value) if "json" in of else msgpack.packb(value)
    return ok(body, f"Content-Type: {of}", *fields, status=status)


def echo(peer: Peer, message: Message) -> bytes:
    """The request's own body and type."""
    return ok(message.body, f"Content-Type: {message['content-type']}")


class Rig:
    """A running remora with one client connected."""

    def __init__(self, running: Running, server: Server) -> None:
        self.running = running
        self.server = server
        self._client: Client | None = None

    async def client(self) -> Client:
        if self._client is None:
            self._client = await self.running.connect()
        return self._client

    async def ask(
        self, body: bytes | None, *fields: str, target: str = "/v1/embeddings",
        method: str = "POST",
    ) -> Message:  # fmt: skip
        return await (await self.client()).exchange(method, target, *fields, body=body)

    async def pack(self, value: Any, *fields: str, target: str = "/v1/embeddings") -> Message:
        """Sends `value` in MessagePack and accepts nothing else, unless `fields` say otherwise."""
        if not any(field.startswith("Accept:") for field in fields):
            fields = (f"Accept: {MSGPACK}", *fields)
        return await self.ask(
            msgpack.packb(value), f"Content-Type: {MSGPACK}", *fields, target=target
        )

    async def json(self, value: Any, *fields: str, target: str = "/v1/embeddings") -> Message:
        return await self.ask(orjson.dumps(value), f"Content-Type: {JSON}", *fields, target=target)

    def count(self, name: str, **labels: str) -> float:
        return self.running.server.telemetry.registry.get_sample_value(name, labels) or 0.0


def unpacked(message: Message) -> Any:
    assert message["content-type"] == MSGPACK, message["content-type"]
    return msgpack.unpackb(message.body)
