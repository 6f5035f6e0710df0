"""A server that keeps what it was asked, behind a remora that asks for keys."""

from __future__ import annotations

from typing import Any

import orjson

from tests.conftest import Running
from tests.road.scripted import Peer
from tests.road.wire import Message, ok

AUTH = "middleware.auth:Auth"

ONE = "key-of-team-one-0123456789"
TWO = "key-of-team-two-0123456789"
KEYS = [{"name": "one", "key": ONE}, {"name": "two", "key": TWO}]

BEARER_ONE = f"authorization: Bearer {ONE}"


class Server:
    """A script for `upstream`: answers everything, and keeps it."""

    def __init__(self) -> None:
        self.asked: list[Message] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            self.asked.append(await peer.request())
            peer.send(ok(b'{"n":%d}' % len(self.asked), "content-type: application/json"))


async def ask(
    running: Running, *fields: str, body: Any = None, target: str = "/v1/completions",
    method: str = "POST", raw: bytes | None = None,
) -> Message:  # fmt: skip
    """One request on a connection of its own."""
    client = await running.connect()
    content = raw if raw is not None else orjson.dumps(body if body is not None else {})
    client.ask(method, target, *fields, body=content)
    return await client.answer(method)
