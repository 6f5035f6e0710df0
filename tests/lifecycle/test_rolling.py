"""A rolling restart under load loses no request."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .client import Client, Lost, get
from .conftest import Serve
from .process import PATIENCE, Remora
from .upstream import PIECE

CLIENTS = 6
POLL = 0.1
"""Seconds between two looks at readiness, as a kubelet's probe and a Service's update take."""
QUIET = 0.5
"""Seconds that a process serves on after its signal: several POLLs."""


@dataclass
class Pod:
    """One process of the two, and what the Service knows of it."""

    remora: Remora
    address: str
    admin: str
    ready: bool = False

    async def look(self) -> None:
        try:
            self.ready = (await get(self.admin, "/readyz")).status == 200
        except (OSError, Lost):
            self.ready = False


@dataclass
class Service:
    """Sends each new connection to a pod that was ready when last asked.

    A connection stays with its pod, ready or not: that is how a Kubernetes Service does it.
    """

    pods: list[Pod] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    """By the address that gave them."""
    last: int = 0
    """Answers that said `close`."""

    async def poll(self) -> None:
        while True:
            await asyncio.gather(*(pod.look() for pod in self.pods))
            await asyncio.sleep(POLL)

    async def connect(self) -> tuple[str, Client]:
        pod = random.choice([pod for pod in self.pods if pod.ready])
        return pod.address, await Client.to(pod.address)

    async def load(self, path: str, expected: bytes) -> None:
        """One client: one connection, used for some requests or until an answer says `close`."""
        while True:
            client = None
            try:
                address, client = await self.connect()
                for _ in range(random.randint(5, 30)):
                    await asyncio.sleep(random.uniform(0.01, 0.03))
                    answer = await client.get(path, "GET" if path == "/trickle" else "POST", b"{}")
                    assert (answer.status, answer.body) == (200, expected)
                    self.answers[address] += 1
                    if answer.last:
                        self.last += 1
                        break
            except (Lost, OSError, AssertionError) as error:
                self.failures.append(repr(error))
            finally:
                if client is not None:
                    await client.close()


async def start(serve: Serve, room: Path, number: int) -> Pod:
    """A process that is ready."""
    admin = f"unix:{room}/admin-{number}"
    drain = f"{{quiet: {round(QUIET * 1000)}ms, timeout: 5s}}"
    remora = await serve(admin=admin, drain=drain)
    (address,) = await remora.serving()
    pod = Pod(remora, address, admin)
    await pod.look()
    assert pod.ready
    return pod


async def test_no_request_is_lost(serve: Serve, room: Path) -> None:
    """Two processes, one after the other restarted twice, keep-alive clients all the while: not one
    request fails, a reset of a kept connection before any byte among the failures.
    """
    service = Service([await start(serve, room, number) for number in range(2)])
    loads = [("/v1/chat", b"ok")] * (CLIENTS - 2) + [("/trickle", PIECE * 2)] * 2
    work = [asyncio.ensure_future(service.load(*load)) for load in loads]
    work.append(asyncio.ensure_future(service.poll()))
    addresses = [pod.address for pod in service.pods]
    try:
        for number in range(2, 6):
            old = service.pods[number % 2]
            old.remora.send()
            assert await old.remora.ended() == 0
            service.pods[number % 2] = pod = await start(serve, room, number)
            addresses.append(pod.address)
            async with asyncio.timeout(PATIENCE):
                while not service.answers[pod.address]:
                    await asyncio.sleep(POLL)
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    assert service.failures == []
    assert all(service.answers[address] for address in addresses), service.answers
    assert service.last >= CLIENTS, "the restarts moved no client"
