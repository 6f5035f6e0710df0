"""Many slow clients at once are all answered."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator

import pytest

from tests.conftest import Serve, UpstreamMaker
from tests.road.scripted import Peer
from tests.road.wire import Client, head, ok

CLIENTS = 1000
FILES = 4 * CLIENTS


@pytest.fixture
def many_files() -> Iterator[None]:
    """Lets this process open enough files; fails where the system does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        if hard != resource.RLIM_INFINITY and hard < FILES:
            pytest.fail(f"{FILES} open files are needed; raise the hard limit: ulimit -Hn {FILES}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_thousand_slow_clients(
    serve: Serve, upstream: UpstreamMaker, many_files: None
) -> None:
    """1,000 clients send their heads a byte at a time, all at once; each gets its own answer, and
    no more than max_connections go upstream.
    """

    async def script(peer: Peer) -> None:
        while True:
            message = await peer.request()
            peer.send(ok(message.target))

    server = await upstream(script)
    running = await serve(server, pool={"max_connections": 50})
    clients: list[Client] = []
    for _ in range(CLIENTS):
        clients.append(await running.connect())
    assert len(running.server.edge.connections) == CLIENTS
    heads = [head(f"GET /{number:04} HTTP/1.1", "Host: h") for number in range(CLIENTS)]
    for at in range(len(heads[0])):
        for client, raw in zip(clients, heads, strict=True):
            client.send(raw[at : at + 1])
        await asyncio.sleep(0)  # a byte each, then remora's turn
    answers = await asyncio.gather(*(client.answer() for client in clients))
    assert [answer.body for answer in answers] == [b"/%04d" % n for n in range(CLIENTS)]
    assert server.made <= 50
