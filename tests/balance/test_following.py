"""A name whose addresses come and go: each is an endpoint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import generate_latest

from proxy.upstream import names
from tests.conftest import Running, Serve
from tests.lifecycle.numbers import Numbers
from tests.road.gate import ask
from tests.road.scripted import Peer, Upstream
from tests.road.wire import ok, soon, until

from .test_group import group_of

ADDRESSES = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]


class Pods:
    """Servers on one port of several addresses, and a resolver that says which there are."""

    def __init__(self) -> None:
        self.found: list[str] | Exception = []
        self.lookups = 0
        self.servers: dict[str, Upstream] = {}
        self.held = asyncio.Event()
        self.hosts: list[str | None] = []
        self.port = 0

    async def start(self) -> None:
        for address in ADDRESSES:
            one = self.servers[address] = Upstream(self._script(address))
            one._server = await asyncio.start_server(one._accepted, address, self.port)
            self.port = one._server.sockets[0].getsockname()[1]

    def _script(self, address: str) -> Any:
        async def script(peer: Peer) -> None:
            while True:
                request = await peer.request()
                self.hosts.append(request["host"])
                if request.target == b"/hold":
                    await self.held.wait()
                peer.send(ok(address.encode()))

        return script

    async def look_up(self, host: str, port: int) -> list[str]:
        assert (host, port) == ("pods.test", self.port)
        self.lookups += 1
        if isinstance(self.found, Exception):
            raise self.found
        return list(self.found)

    async def settle(self) -> None:
        """Until a look-up that began after this call was taken up."""
        seen = self.lookups
        await until(lambda: self.lookups >= seen + 2)


@pytest_asyncio.fixture
async def pods(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pods]:
    one = Pods()
    await one.start()
    monkeypatch.setattr(names, "look_up", one.look_up)
    yield one
    for server in one.servers.values():
        await server.stop()


async def follow(serve: Serve, pods: Pods, **keys: Any) -> Running:
    url = f"http://pods.test:{pods.port}"
    resolve = {"interval": 0.02, **keys.pop("resolve", {})}
    default = {"endpoints": [url], "resolve": resolve, "slow_start": "off", **keys}
    file = {"host": keys.pop("host")} if "host" in keys else {}
    default.pop("host", None)
    return await serve(url, upstreams={"default": default}, **file)


async def answered(running: Running, count: int = 12) -> set[str]:
    client = await running.connect()
    return {(await client.exchange()).body.decode() for _ in range(count)}


def members(running: Running) -> list[str]:
    return [member.pool.endpoint.host for member in group_of(running).members]


async def test_each_address_is_an_endpoint(
    serve: Serve, pods: Pods, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests are spread over them; who joins gets some, who leaves gets none. One line each."""
    caplog.set_level(logging.INFO, "remora")
    pods.found = ADDRESSES[:2]
    running = await follow(serve, pods)
    await until(lambda: members(running) == ADDRESSES[:2])
    assert await answered(running) == set(ADDRESSES[:2])
    pods.found = ADDRESSES[1:]
    await until(lambda: members(running) == ADDRESSES[1:])
    assert await answered(running) == set(ADDRESSES[1:])
    await pods.settle()
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition("has ")[2] for line in lines if "addresses" in line] == [
        "2 addresses: 2 joined, 0 left", "2 addresses: 1 joined, 1 left",
    ]  # fmt: skip


async def test_who_leaves_finishes_what_it_has(serve: Serve, pods: Pods) -> None:
    """A request in flight is answered after its endpoint has left; then its connection closes."""
    pods.found = ADDRESSES[:1]
    running = await follow(serve, pods)
    await until(lambda: members(running) == ADDRESSES[:1])
    _, answer = await ask(running, "/hold")
    await until(lambda: pods.hosts)
    pods.found = ADDRESSES[1:2]
    await until(lambda: members(running) == ADDRESSES[1:2])
    assert await answered(running) == {ADDRESSES[1]}
    assert pods.servers[ADDRESSES[0]].open == 1
    assert len(group_of(running).pools) == 2
    pods.held.set()
    assert (await soon(answer)).body.decode() == ADDRESSES[0]
    await until(lambda: pods.servers[ADDRESSES[0]].open == 0)
    await until(lambda: len(group_of(running).pools) == 1)


@pytest.mark.parametrize("error", [OSError("no such host"), TimeoutError(), UnicodeError("label")])
async def test_a_failed_look_up_changes_nothing(
    serve: Serve, pods: Pods, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """The endpoints stay, and the log says so once, however long it lasts; nor does an empty answer
    change anything.
    """
    pods.found = ADDRESSES[:2]
    running = await follow(serve, pods)
    await until(lambda: len(members(running)) == 2)
    for found in (error, []):
        pods.found = found  # type: ignore[assignment]
        await pods.settle()
        await pods.settle()
        assert members(running) == ADDRESSES[:2]
    lines = [record.getMessage() for record in caplog.records]
    assert sum("cannot be looked up" in line for line in lines) == 1


async def test_before_the_first_answer_the_name_itself_is_the_endpoint(
    serve: Serve, pods: Pods
) -> None:
    """A resolver that is down when remora starts does not keep it from serving."""
    pods.found = OSError("down")
    running = await follow(serve, pods)
    await pods.settle()
    assert members(running) == ["pods.test"]
    pods.found = ADDRESSES[:1]
    await until(lambda: members(running) == ADDRESSES[:1])
    assert await answered(running) == {ADDRESSES[0]}


async def test_no_more_than_the_bound(serve: Serve, pods: Pods) -> None:
    """Of three addresses two are used, the same two each time."""
    pods.found = list(ADDRESSES)
    running = await follow(serve, pods, resolve={"max_members": 2})
    await until(lambda: members(running) == ADDRESSES[:2])
    pods.found = ADDRESSES[::-1]
    await pods.settle()
    assert members(running) == ADDRESSES[:2]


async def test_the_host_stays_the_name(serve: Serve, pods: Pods) -> None:
    """With `host: upstream` a server hears the name in the file, not its own address."""
    pods.found = ADDRESSES[:2]
    running = await follow(serve, pods, host="upstream")
    await until(lambda: len(members(running)) == 2)
    await answered(running, 4)
    assert set(pods.hosts) == {f"pods.test:{pods.port}"}


async def test_who_joins_is_checked_and_starts_slowly(serve: Serve, pods: Pods) -> None:
    """The first endpoints begin with their full share; a new one with a tenth, and it is out at
    once if its check fails.
    """
    pods.found = ADDRESSES[:1]
    health = {"interval": 0.02, "timeout": 5}
    running = await follow(serve, pods, slow_start="1h", health=health)
    group = group_of(running)
    await until(lambda: members(running) == ADDRESSES[:1])

    def states() -> list[str]:
        return [member.state(group._env.clock()) for member in group.members]

    assert states() == ["up"]
    pods.found = [ADDRESSES[0], ADDRESSES[1], "127.0.0.4"]
    await until(lambda: states() == ["up", "slow_start", "unhealthy"])


async def test_a_name_that_comes_back_is_told_once(serve: Serve, pods: Pods) -> None:
    """While the old one still finishes: no series of the metrics stands there twice."""
    pods.found = ADDRESSES[:1]
    running = await follow(serve, pods)
    await until(lambda: members(running) == ADDRESSES[:1])
    _, answer = await ask(running, "/hold")
    await until(lambda: pods.hosts)
    for found in (ADDRESSES[1:2], ADDRESSES[:1]):
        pods.found = found
        await until(lambda found=found: members(running) == found)
    assert len(group_of(running).pools) >= 2
    Numbers(generate_latest(running.server.telemetry.registry).decode())
    pods.held.set()
    await soon(answer)


async def test_two_names_of_one_server(
    serve: Serve, pods: Pods, caplog: pytest.LogCaptureFixture
) -> None:
    """An address that is an endpoint already does not become a second one, nor does it take up
    room under the bound; the log says of each change once what it was.
    """
    caplog.set_level(logging.INFO, "remora")
    pods.found = ADDRESSES[:1]
    urls = [f"http://{ADDRESSES[0]}:{pods.port}", f"http://pods.test:{pods.port}"]
    default = {"endpoints": urls, "resolve": {"interval": 0.02, "max_members": 1}}
    running = await serve(urls[0], upstreams={"default": default})
    await until(lambda: members(running) == ADDRESSES[:1])
    await pods.settle()
    pods.found = ADDRESSES[:2]
    await until(lambda: members(running) == ADDRESSES[:2])
    await pods.settle()
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition("has ")[2] for line in lines if "addresses" in line] == [
        "0 addresses: 0 joined, 0 left", "1 addresses: 1 joined, 0 left",
    ]  # fmt: skip
