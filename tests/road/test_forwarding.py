"""What a file asks to be told, and to whom; and that nothing is told where it does not ask."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve, UpstreamMaker, configuration
from tests.road.scripted import Peer, Upstream
from tests.road.wire import Client, Message, ok

CLAIMS = (
    "X-Forwarded-For: 10.0.0.1, 192.0.2.7",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: front.test",
    "Forwarded: for=192.0.2.60;proto=https",
    "X-Real-IP: 192.0.2.1",
)
LOOPBACK = ["127.0.0.0/8"]


class Recorder:
    """Answers, and keeps what it was sent."""

    def __init__(self) -> None:
        self.seen: list[Message] = []

    async def script(self, peer: Peer) -> None:
        while True:
            self.seen.append(await peer.request())
            peer.send(ok())

    def values(self, name: str) -> list[str]:
        """All values of a field of the last request."""
        return [
            value.decode() for key, value in self.seen[-1].headers
            if key.lower() == name.lower().encode()
        ]  # fmt: skip


async def told(
    serve: Serve, upstream: UpstreamMaker, *fields: str, version: str = "1.1", **keys: Any
) -> Recorder:
    """What the upstream saw of a request with these fields."""
    recorder = Recorder()
    running = await serve(await upstream(recorder.script), **keys)
    answer = await (await running.connect()).exchange("GET", "/", *fields, version=version)
    assert answer.status == 200
    return recorder


async def test_off(serve: Serve, upstream: UpstreamMaker) -> None:
    """Without `forwarded` nothing is added and nothing taken away, whoever is trusted."""
    for trusted in ([], LOOPBACK):
        recorder = await told(serve, upstream, *CLAIMS, trusted_proxies=trusted)
        lines = [b": ".join(pair).decode() for pair in recorder.seen[-1].headers]
        assert lines == ["Host: remora.test", *CLAIMS]


async def test_x_forwarded(serve: Serve, upstream: UpstreamMaker) -> None:
    """The upstream learns address, scheme and host; what a stranger claimed of them is gone."""
    for claims in ((), CLAIMS):
        recorder = await told(serve, upstream, *claims, forwarded="x-forwarded")
        assert recorder.values("x-forwarded-for") == ["127.0.0.1"]
        assert recorder.values("x-forwarded-proto") == ["http"]
        assert recorder.values("x-forwarded-host") == ["remora.test"]
        assert recorder.values("forwarded") == []
        assert recorder.values("x-real-ip") == (["192.0.2.1"] if claims else [])


async def test_x_forwarded_from_a_trusted_proxy(serve: Serve, upstream: UpstreamMaker) -> None:
    """What a trusted proxy says is kept, and the address it came from appended."""
    recorder = await told(
        serve, upstream, *CLAIMS, forwarded="x-forwarded", trusted_proxies=LOOPBACK
    )
    assert recorder.values("x-forwarded-for") == ["10.0.0.1, 192.0.2.7, 127.0.0.1"]
    assert recorder.values("x-forwarded-proto") == ["https"]
    assert recorder.values("x-forwarded-host") == ["front.test"]


async def test_forwarded(serve: Serve, upstream: UpstreamMaker) -> None:
    """RFC 7239: one element of our own, a stranger's claims gone, a trusted proxy's kept."""
    own = 'for=127.0.0.1;host="remora.test";proto=http'
    for claims in ((), CLAIMS):
        recorder = await told(serve, upstream, *claims, forwarded="forwarded")
        assert recorder.values("forwarded") == [own]
        assert recorder.values("x-forwarded-for") == []
    recorder = await told(serve, upstream, *CLAIMS, forwarded="forwarded", trusted_proxies=LOOPBACK)
    assert recorder.values("forwarded") == [f"for=192.0.2.60;proto=https, {own}"]


async def test_over_a_unix_socket(upstream: UpstreamMaker, tmp_path: Path) -> None:
    """A client without an address is `unknown`, and believed where any proxy is trusted."""
    from proxy.server import Server

    for trusted, expected in (([], "unknown"), (LOOPBACK, "10.0.0.1, 192.0.2.7, unknown")):
        recorder = Recorder()
        server: Upstream = await upstream(recorder.script)
        remora = Server(configuration(
            server, listen=f"unix:{tmp_path}/s", forwarded="x-forwarded", trusted_proxies=trusted,
        ))  # fmt: skip
        await remora.start()
        client = await Client.connect(f"{tmp_path}/s")
        await client.exchange("GET", "/", *CLAIMS)
        client.close()
        await remora.stop()
        assert recorder.values("x-forwarded-for") == [expected]


@pytest.mark.parametrize(
    ("trusted", "client"),
    [
        ([], "127.0.0.1"),
        (LOOPBACK, "192.0.2.7"),
        (["127.0.0.1", "192.0.2.0/24"], "10.0.0.1"),
        (["192.0.2.0/24"], "127.0.0.1"),
    ],
    ids=["nobody", "the peer", "the peer and one before", "not the peer"],
)
async def test_who_the_client_is(
    serve: Serve, upstream: UpstreamMaker, trusted: list[str], client: str
) -> None:
    """Layers see as client the last address that no trusted proxy vouches past."""
    from tests.road.layers import Witness

    recorder = Recorder()
    running = await serve(
        await upstream(recorder.script), trusted_proxies=trusted,
        chain=["tests.road.layers:Witness"],
    )  # fmt: skip
    await (await running.connect()).exchange("GET", "/", *CLAIMS)
    assert running.layer(Witness).requests[0].client == client


@pytest.mark.parametrize("mode", ["preserve", "upstream"])
async def test_host(serve: Serve, upstream: UpstreamMaker, mode: str) -> None:
    """The upstream sees the client's Host, or with `host: upstream` its own, in the same place."""
    recorder = Recorder()
    server = await upstream(recorder.script)
    client = await (await serve(server, host=mode)).connect()
    await client.exchange("GET", "/", "X-A: b")
    own = "{}:{}".format(*server.address)
    expected = own if mode == "upstream" else "remora.test"
    assert recorder.seen[0].headers == [(b"Host", expected.encode()), (b"X-A", b"b")]


async def test_no_host(serve: Serve, upstream: UpstreamMaker) -> None:
    """An HTTP/1.0 request without Host gets the endpoint's: HTTP/1.1 cannot be sent without."""
    for mode in ("preserve", "upstream"):
        recorder = Recorder()
        server = await upstream(recorder.script)
        client = await (await serve(server, host=mode)).connect()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await client.answer()).status == 200
        assert recorder.values("host") == ["{}:{}".format(*server.address)]


async def test_trace_is_made(serve: Serve, upstream: UpstreamMaker) -> None:
    """`trace: make` gives what is missing, new for each request, and keeps what is there."""
    recorder = Recorder()
    client = await (await serve(await upstream(recorder.script), trace="make")).connect()
    made = set()
    for _ in range(3):
        await client.exchange()
        (trace,), (request,) = recorder.values("traceparent"), recorder.values("x-request-id")
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace)
        assert re.fullmatch("[0-9a-f]{32}", request)
        made |= {trace, request}
    assert len(made) == 6
    own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    await client.exchange("GET", "/", f"TraceParent: {own}", "X-Request-Id: mine")
    assert recorder.values("traceparent") == [own]
    assert recorder.values("x-request-id") == ["mine"]


async def test_trace_is_carried(serve: Serve, upstream: UpstreamMaker) -> None:
    """Otherwise both are carried on as they came, and none is made."""
    recorder = await told(serve, upstream)
    assert recorder.values("traceparent") == recorder.values("x-request-id") == []
    recorder = await told(serve, upstream, "traceparent: x", "X-REQUEST-ID: y", "tracestate: z")
    assert [pair[1] for pair in recorder.seen[-1].headers[1:]] == [b"x", b"y", b"z"]


async def test_routes(serve: Serve, upstream: UpstreamMaker) -> None:
    """The first route that takes method, host and path has the request; none at all is 404."""
    first, second = Recorder(), Recorder()
    one, two = await upstream(first.script), await upstream(second.script)
    running = await serve(
        one,
        upstreams={"default": {"endpoints": [one.url]}, "other": {"endpoints": [two.url]}},
        routes=[
            {"match": {"path": "/v1/*", "methods": ["POST"]}, "upstream": "other"},
            {"match": {"path": "/v1/*", "host": "model.test"}, "upstream": "other"},
            {"match": {"path": "/v1/*"}},
        ],
    )
    client = await running.connect()
    for method, target in (("POST", "/v1/a"), ("GET", "http://model.test/v1/b"), ("GET", "/v1/c")):
        assert (await client.exchange(method, target)).status == 200
    answer = await client.exchange("GET", "/other")
    assert (answer.status, answer["x-remora-error"]) == (404, "no_route")
    assert [one.target for one in second.seen] == [b"/v1/a", b"/v1/b"]
    assert [one.target for one in first.seen] == [b"/v1/c"]
    await asyncio.sleep(0)
