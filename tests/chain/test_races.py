"""A client that leaves in the very moment in which something else happens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy import config
from proxy.exchange import Request, Response
from proxy.upstream.endpoint import endpoints
from proxy.upstream.http1 import UpstreamConnection
from proxy.upstream.pool import Pool
from tests.chain.conftest import MakeModel
from tests.road.wire import ok, soon, until


class Wire(asyncio.Transport):
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: Any) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    close = abort


def pool_of(url: str) -> Pool:
    upstream = config.Upstream(endpoints=[url])
    loop = asyncio.get_running_loop()
    (endpoint,) = endpoints("default", upstream)
    return Pool(endpoint, loop, upstream.pool, upstream.timeouts, upstream.limits)


def get() -> Request:
    return Request(b"GET", b"/", [(b"host", b"a")])


async def test_a_connection_that_went_on_to_another_request() -> None:
    """Whoever is cancelled when his answer was whole already leaves the next exchange alone."""
    pool = pool_of("http://127.0.0.1:1")
    connection = UpstreamConnection(pool, asyncio.get_running_loop())
    connection.connection_made(Wire())
    pool.open = 1
    left = asyncio.ensure_future(connection.exchange(get(), None))
    await asyncio.sleep(0)
    following = asyncio.ensure_future(pool.send(get()))
    connection.data_received(ok(b"first"))
    left.cancel()
    await asyncio.wait([left])
    connection.data_received(ok(b"second"))
    assert (await soon(following)).body == b"second"
    pool.close()


async def test_a_connection_that_nobody_wants_any_more(
    model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is cancelled when a connection was made for him gives up its place in the pool."""
    server = await model()
    pool = pool_of(server.url)
    made = UpstreamConnection.connection_made

    def connection_made(self: UpstreamConnection, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        asking.cancel()

    monkeypatch.setattr(UpstreamConnection, "connection_made", connection_made)
    asking: asyncio.Future[Response] = asyncio.ensure_future(pool.send(get()))
    with pytest.raises(asyncio.CancelledError):
        await soon(asking)
    await until(lambda: not pool.open and not server.busy)
    pool.close()
