"""The admin port: what it tells, and to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from pydantic import SecretStr

from proxy.address import parse_address
from proxy.admin import Admin, Sum
from proxy.lifecycle import addresses, bind_all
from proxy.loader import load_text
from proxy.server import Server, bind

from .client import Client, get
from .conftest import Front, Serve
from .numbers import Numbers, numbers
from .upstream import PIECE, Upstream

ROUTES = "[{name: chat, match: {path: /v1/*}}, {match: {path: /slow}}, {match: {path: /never}}]"

Administer = Callable[..., Awaitable[str]]
"""`await administer(server, token=None)`"""


@pytest.fixture
async def administer() -> AsyncIterator[Administer]:
    """`await administer(server)`: where its admin port is."""
    async with AsyncExitStack() as stack:

        async def administer(server: Server, token: str | None = None) -> str:
            sock = bind(parse_address("127.0.0.1:0"))
            address = f"127.0.0.1:{sock.getsockname()[1]}"
            secret = None if token is None else SecretStr(token)
            admin = Admin(server.telemetry, lambda: server.ready, sock, token=secret)
            await admin.start()
            stack.push_async_callback(admin.stop)
            return address

        yield administer


async def until(admin: str, name: str, value: float, **labels: str) -> None:
    """Waits for a number: what ends an exchange runs after its client has the last byte."""
    async with asyncio.timeout(5):
        while (await numbers(admin))(name, **labels) != value:
            await asyncio.sleep(0.01)


async def test_pages(front: Front, administer: Administer) -> None:
    """/healthz says alive, /readyz follows readiness, and there is nothing else."""
    server = await front()
    admin = await administer(server)
    assert (await get(admin, "/healthz")).status == 200
    assert (await get(admin, "/readyz")).status == 200
    server.ready = False
    assert (await get(admin, "/readyz")).status == 503
    assert (await get(admin, "/healthz")).status == 200
    assert (await get(admin, "/")).status == 404


async def test_requests_are_counted(front: Front, administer: Administer) -> None:
    """Requests by route and status, their times and bytes, are what was asked."""
    server = await front(
        routes='[{name: chat, match: {path: /v1/*}}, {match: {path: "/status/*"}}]'
    )
    admin = await administer(server)
    async with await Client.to(server.addresses[0]) as client:
        for path in ("/v1/a", "/v1/b", "/v1/b", "/status/404", "/status/503", "/elsewhere"):
            await client.get(path)
    await until(admin, "remora_client_connections", 0)
    told = await numbers(admin)
    assert told("remora_requests_total", route="chat", status="200") == 3
    assert told("remora_requests_total", route="/status/*", status="404") == 1
    assert told("remora_requests_total", route="/status/*", status="503") == 1
    assert told("remora_requests_total", route="other", status="404") == 1
    assert told("remora_response_bytes_total", route="chat") == 3 * len(b"ok")
    assert told("remora_response_bytes_total", route="/status/*") == 0
    for name in ("remora_request_duration_seconds", "remora_first_byte_seconds"):
        assert told(f"{name}_count", route="chat") == 3
        assert told(f"{name}_bucket", route="chat", le="+Inf") == 3
        assert 0 < (told(f"{name}_sum", route="chat") or 0) < 5
    assert told("remora_requests_in_flight", route="chat") == 0
    assert told("remora_requests_cancelled_total", route="chat") == 0


async def test_stream_is_in_flight(
    front: Front, administer: Administer, upstream: Upstream, url: str
) -> None:
    """A stream counts as in flight and its upstream connection as busy, until it has ended."""
    server = await front(routes=ROUTES)
    admin = await administer(server)
    pool = {"upstream": "default", "endpoint": url}
    async with await Client.to(server.addresses[0]) as client:
        begun = await client.begin("/slow")
        told = await numbers(admin)
        assert told("remora_requests_in_flight", route="/slow") == 1
        assert told("remora_upstream_connections", state="busy", **pool) == 1
        assert told("remora_upstream_connections", state="idle", **pool) == 0
        assert told("remora_upstream_connections_opened_total", **pool) == 1
        assert told("remora_upstream_waiting", **pool) == 0
        assert told("remora_client_connections") == 1
        upstream.go.set()
        await client.rest(begun)
        await until(admin, "remora_requests_in_flight", 0, route="/slow")
    told = await numbers(admin)
    assert told("remora_response_bytes_total", route="/slow") == len(PIECE) * 2
    assert told("remora_upstream_connections", state="busy", **pool) == 0
    assert told("remora_upstream_connections", state="idle", **pool) == 1


async def test_waiting_for_a_connection(
    front: Front, administer: Administer, upstream: Upstream, url: str
) -> None:
    """A request that waits for a connection to the upstream is told as waiting."""
    server = await front(
        upstreams=f'{{default: {{endpoints: ["{url}"], pool: {{max_connections: 1}}}}}}'
    )
    admin = await administer(server)
    pool = {"upstream": "default", "endpoint": url}
    async with await Client.to(server.addresses[0]) as slow:
        begun = await slow.begin("/slow")
        second = asyncio.ensure_future(get(server.addresses[0]))
        await until(admin, "remora_upstream_waiting", 1, **pool)
        upstream.go.set()
        await slow.rest(begun)
        assert (await second).status == 200
    assert (await numbers(admin))("remora_upstream_waiting", **pool) == 0


async def test_clients_that_leave(front: Front, administer: Administer, upstream: Upstream) -> None:
    """One that leaves amid a stream counts as cancelled with its status, one before it with 0."""
    server = await front(routes=ROUTES)
    admin = await administer(server)
    async with await Client.to(server.addresses[0]) as client:
        await client.begin("/slow")
    await until(admin, "remora_requests_cancelled_total", 1, route="/slow")
    waiting = asyncio.ensure_future(get(server.addresses[0], "/never"))
    await upstream.asked.wait()
    waiting.cancel()
    await until(admin, "remora_requests_cancelled_total", 1, route="/never")
    told = await numbers(admin)
    assert told("remora_requests_total", route="/slow", status="200") == 1
    assert told("remora_requests_total", route="/never", status="0") == 1


async def test_hostile_paths_add_no_labels(front: Front, administer: Administer) -> None:
    """What clients write never becomes a label: paths, methods and hosts add no series."""
    server = await front(routes="[{name: chat, match: {path: /v1/*}}]")
    admin = await administer(server)
    async with await Client.to(server.addresses[0]) as client:
        await client.get("/v1/a")
        await client.get("/a")
        before = set((await numbers(admin)).samples)
        for number in range(20):
            await client.get(f'/v1/{number}"}}\\n{{x="{number}')
            await client.get(f"/{number}?{number}={number}")
            for method in ("PUT", "PATCH", "DELETE", "PROPFIND"):
                await client.get(f"/v1/{number}", method=method)
    assert set((await numbers(admin)).samples) == before


async def test_never_on_the_clients_port(front: Front) -> None:
    """A client that asks for /metrics, /healthz or /readyz is answered by its upstream."""
    server = await front()
    for path in ("/metrics", "/healthz", "/readyz"):
        assert (await get(server.addresses[0], path)).body == b"ok"


async def test_admin_off(serve: Serve, file: Callable[..., str]) -> None:
    """`admin: off` binds nothing besides the listeners, and remora serves without it."""
    assert bind_all_admin(file(admin="off", listen="127.0.0.1:0")) is None
    remora = await serve(admin="off")
    (address,) = await remora.serving()
    assert (await get(address)).status == 200
    remora.send()
    assert await remora.ended() == 0


def bind_all_admin(text: str) -> object:
    file = load_text(text, "test.yaml")
    sockets = bind_all(file)
    assert len(addresses(file)) == 1
    sockets.close()
    return sockets.admin


def test_sum_of_workers() -> None:
    """Counters of several workers add up, label by label; when they were made does not."""
    texts = []
    for count in (2, 3):
        registry = CollectorRegistry()
        counter = Counter("remora_hits", "Hits.", ["route"], registry=registry)
        counter.labels("a").inc(count)
        counter.labels(f"only-{count}").inc()
        texts.append(generate_latest(registry).decode())
    created = [Numbers(text)("remora_hits_created", route="a") for text in texts]
    told = Numbers(generate_latest(Sum(texts)).decode())
    assert told("remora_hits_total", route="a") == 5
    assert told("remora_hits_total", route="only-2") == 1
    assert told("remora_hits_total", route="only-3") == 1
    assert told("remora_hits_created", route="a") == created[0]


async def test_a_token_guards_all_but_the_probes(front: Front, administer: Administer) -> None:
    """Numbers and control are for whoever has it; a kubelet, which has none, still gets its
    answers.
    """
    admin = await administer(await front(), token="secret-token")
    for path in ("/healthz", "/readyz"):
        assert (await get(admin, path)).status == 200
    for path in ("/metrics", "/cache", "/nothing", "//metrics", "/metrics/../healthz"):
        refused = await get(admin, path)
        assert refused.status == 401, path
        assert b"remora_" not in refused.body
    for sent in (
        "secret-token", "Bearer", "Bearer secret-toke", "Bearer secret-token2",
        "Basic secret-token", "Bearer secret-token secret-token",
    ):  # fmt: skip
        assert (await get(admin, "/metrics", None, f"Authorization: {sent}")).status == 401
    assert (await get(admin, "/metrics", None, "Authorization: bearer secret-token")).status == 200
    answer = await get(admin, "/metrics", None, "Authorization: Bearer secret-token")
    assert b"remora_requests_in_flight" in answer.body
