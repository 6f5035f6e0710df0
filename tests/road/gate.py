"""An upstream that answers when it is told to."""

from __future__ import annotations

import asyncio

from tests.conftest import Running
from tests.road.scripted import Peer
from tests.road.wire import Client, Message, ok, until


class Gate:
    """A script that notes requests in the order they came, and answers each when told to."""

    def __init__(self) -> None:
        self.targets: list[bytes] = []
        self.held: dict[bytes, asyncio.Event] = {}

    async def script(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            self.targets.append(request.target)
            event = self.held.setdefault(request.target, asyncio.Event())
            await event.wait()
            peer.send(ok(b"%d" % peer.number))

    def answer(self, target: bytes) -> None:
        self.held.setdefault(target, asyncio.Event()).set()

    async def came(self, *targets: bytes) -> None:
        await until(lambda: all(target in self.targets for target in targets))


async def ask(running: Running, target: str) -> tuple[Client, asyncio.Task[Message]]:
    """A client of its own that has asked; its answer is on the way."""
    client = await running.connect()
    client.ask("GET", target)
    return client, asyncio.create_task(client.answer())
