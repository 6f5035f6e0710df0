"""`python -m tests.bench.outage`: one endpoint of four goes wrong under load, and comes back.

Client, remora and endpoints run in one process, over sockets. Requests come at a fixed rate,
whatever becomes of those before them. For each kind of outage and each configuration: how many
requests failed, how long the endpoint still got some, and how long until it got its part again.
Times are scaled down: the keys stand in WATCHED and BREAKER below.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

from proxy import registry
from proxy.loader import load_text
from proxy.server import Server
from proxy.upstream.group import Group
from tests.road.wire import Client, Gone

FAULTS = ("killed", "hung", "slow", "500", "deaf")
BODY = b'{"model":"m","input":"a text that is embedded"}'
ANSWER = b'{"object":"list","data":[],"model":"m"}'
TICK = 0.02
"""Seconds between two looks at what the endpoint gets."""
SILENT = 0.25
"""Seconds without a request after which an endpoint counts as left alone."""

FILE = """
listen: 127.0.0.1:0
admin: off
drain: {quiet: 0s, timeout: 1s}
upstreams:
  default:
    endpoints: [%s]
    timeouts: {connect: 500ms, first_byte: 1s}
    %s
chain: [%s]
"""
WATCHED = """
    health: {interval: 250ms, timeout: 250ms, unhealthy_after: 2, healthy_after: 2}
    eject: {consecutive: 5, time: 500ms, max_time: 15s}
    slow_start: 500ms
"""
UNWATCHED = "eject: off"
BREAKER = "{min_calls: 10, consecutive: 5, open_for: 500ms, slow_after: 50ms, window: 1s}"


@dataclass(frozen=True)
class Setup:
    """name: what the table calls it. layers: of the chain, outermost first."""

    name: str
    watched: bool = True
    layers: tuple[str, ...] = ()

    def file(self, urls: Sequence[str]) -> str:
        keys = {"circuit_breaker": BREAKER}
        chain = ", ".join(f"{{{one}: {keys.get(one, '{}')}}}" for one in self.layers)
        return FILE % (", ".join(urls), WATCHED if self.watched else UNWATCHED, chain)


SETUPS = (
    Setup("least_outstanding alone", watched=False),
    Setup("with health and eject"),
    Setup("and retry, circuit_breaker", layers=("retry", "circuit_breaker")),
)


@dataclass(frozen=True)
class Load:
    """rate: requests a second. service: seconds that an endpoint takes. Seconds before, during and
    after the outage. patience: seconds after which a client gives up.
    """

    rate: float = 300.0
    service: float = 0.01
    before: float = 1.0
    during: float = 3.0
    after: float = 3.0
    patience: float = 3.0


class Connection(asyncio.Protocol):
    """One connection of an endpoint: an answer for each request, as its endpoint feels."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.endpoint.connections.add(self)
        if self.endpoint.fault == "deaf":
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.endpoint.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            check = self._data.startswith(b"GET /health")
            size = end + 4 + (0 if check else len(BODY))
            if len(self._data) < size:
                return
            self._data = self._data[size:]
            self._answer(check)

    def _answer(self, check: bool) -> None:
        endpoint = self.endpoint
        fault = endpoint.fault
        if fault == "hung":
            return
        delay = endpoint.service * (10 if fault == "slow" else 1)
        # Its front is well while its engine fails: checks alone would never find it.
        status = b"500 Internal Server Error" if fault == "500" and not check else b"200 OK"
        fields = b"Content-Type: application/json\r\nContent-Length: %d" % len(ANSWER)
        answer = b"HTTP/1.1 %b\r\n%b\r\n\r\n%b" % (status, fields, ANSWER)
        asyncio.get_running_loop().call_later(delay, self._write, answer)

    def _write(self, answer: bytes) -> None:
        if not self.transport.is_closing() and self.endpoint.fault not in ("hung", "deaf"):
            self.transport.write(answer)


class Endpoint:
    """A server of which the bench says how it feels."""

    def __init__(self, service: float) -> None:
        self.service = service
        self.fault = ""
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), "127.0.0.1", self.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._drop()

    def _drop(self) -> None:
        for one in list(self.connections):
            one.transport.abort()

    async def fail(self, fault: str) -> None:
        self.fault = fault
        if fault == "killed":
            self.stop()
        if fault == "deaf":
            for one in self.connections:
                one.transport.pause_reading()

    async def recover(self) -> None:
        """As after a restart: what was open before is gone."""
        killed = self.fault == "killed"
        self.fault = ""
        self._drop()
        if killed:
            await self.start()


@dataclass
class Result:
    """Times in seconds; None: it never happened. left_alone: from the outage until the endpoint got
    no more. returned: from its recovery until it got half its part again. failures: by status, 0
    for none at all. share: of the requests, which the endpoint got during the outage.
    """

    requests: int = 0
    failures: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    left_alone: float | None = None
    returned: float | None = None
    share: float = 0.0

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def percentile(self, share: float) -> float:
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))]


class Clients:
    """Keep-alive connections, as many as there are requests at once."""

    def __init__(self, address: tuple[str, int], patience: float) -> None:
        self._address = address
        self._patience = patience
        self._free: list[Client] = []

    async def ask(self, result: Result) -> None:
        result.requests += 1
        began = time.monotonic()
        status = 0
        client = self._free.pop() if self._free else await Client.connect(self._address)
        try:
            async with asyncio.timeout(self._patience):
                answer = await client.exchange(
                    "POST", "/v1/embeddings", "Content-Type: application/json", body=BODY
                )
            status = answer.status
            self._free.append(client)
        except (Gone, TimeoutError):
            client.abort()
        if status != 200:
            result.failures[status] = result.failures.get(status, 0) + 1
        result.latencies.append(time.monotonic() - began)

    def close(self) -> None:
        for client in self._free:
            client.abort()


async def _watch(group: Group, seen: list[tuple[float, list[int]]]) -> None:
    """Notes how often each endpoint was chosen, as time goes on."""
    while True:
        seen.append((time.monotonic(), [member.picks for member in group.members]))
        await asyncio.sleep(TICK)


def _left_alone(seen: list[tuple[float, list[int]]], start: float, end: float) -> float | None:
    """Seconds from `start` until the first endpoint got none for SILENT seconds."""
    since, picks = start, None
    for at, counts in seen:
        if not start <= at <= end:
            continue
        if counts[0] != picks:
            since, picks = at, counts[0]
        elif at - since >= SILENT:
            return since - start
    return None


def _returned(seen: list[tuple[float, list[int]]], start: float) -> float | None:
    """Seconds from `start` until the first endpoint got, within SILENT, half of what the others
    got on average.
    """
    span = round(SILENT / TICK)
    for (_, old), (at, new) in zip(seen, seen[span:], strict=False):
        if at < start + SILENT:
            continue
        gained = [after - before for before, after in zip(old, new, strict=True)]
        others = sum(gained[1:]) / (len(gained) - 1)
        if others and gained[0] >= others / 2:
            return at - SILENT - start
    return None


async def outage(fault: str, setup: Setup, load: Load, endpoints: int = 4) -> Result:
    """One run."""
    servers = [Endpoint(load.service) for _ in range(endpoints)]
    for one in servers:
        await one.start()
    remora = Server(load_text(setup.file([one.url for one in servers]), "bench", {}))
    await remora.start()
    assert remora._assembly is not None
    group = remora._assembly._groups[0]
    host, _, port = remora.addresses[0].rpartition(":")
    clients = Clients((host, int(port)), load.patience)
    result = Result()
    seen: list[tuple[float, list[int]]] = []
    watch = asyncio.create_task(_watch(group, seen))
    tasks: list[asyncio.Task[Any]] = []
    failed = recovered = 0.0
    picks = [0, 0]
    try:
        began = due = time.monotonic()
        while (now := time.monotonic()) < began + load.before + load.during + load.after:
            if not failed and now >= began + load.before:
                failed = now
                picks = [group.members[0].picks, sum(one.picks for one in group.members)]
                await servers[0].fail(fault)
            if not recovered and now >= began + load.before + load.during:
                recovered = now
                after = [group.members[0].picks, sum(one.picks for one in group.members)]
                result.share = (after[0] - picks[0]) / max(1, after[1] - picks[1])
                await servers[0].recover()
            while due <= now:
                due += 1 / load.rate
                tasks.append(asyncio.create_task(clients.ask(result)))
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*tasks)
    finally:
        watch.cancel()
        clients.close()
        await remora.stop()
        for one in servers:
            one.stop()
    result.left_alone = _left_alone(seen, failed, recovered)
    result.returned = _returned(seen, recovered)
    return result


def setups() -> list[Setup]:
    """Those whose layers are installed."""
    known = registry.names()
    return [setup for setup in SETUPS if set(setup.layers) <= set(known)]


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.outage", description=__doc__)
    parser.add_argument("--fault", default=",".join(FAULTS), help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--rate", type=float, default=Load.rate, help="requests a second")
    parser.add_argument("--during", type=float, default=Load.during, help="seconds of outage")
    parser.add_argument("--verbose", action="store_true", help="what the failures were")
    args = parser.parse_args()
    load = Load(rate=args.rate, during=args.during)
    left_out = [setup.name for setup in SETUPS if setup not in setups()]
    if left_out:
        print(f"not installed, left out: {', '.join(left_out)}\n")
    print(f"4 endpoints of {load.service * 1000:g} ms, {load.rate:g} requests/s, one is out for "
          f"{load.during:g} s\n")  # fmt: skip
    print("| outage | configuration | requests | failed | left alone after | back after "
          "| its share meanwhile | p50 | p99 |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for fault in args.fault.split(","):
        for setup in setups():
            one = await outage(fault, setup, load)
            cells = [
                fault, setup.name, str(one.requests), str(one.failed), _seconds(one.left_alone),
                _seconds(one.returned), f"{one.share:.1%}",
                *(f"{one.percentile(share) * 1000:.0f} ms" for share in (0.5, 0.99)),
            ]  # fmt: skip
            print("|", " | ".join(cells), "|", one.failures if args.verbose else "", flush=True)


if __name__ == "__main__":
    uvloop.run(main())
