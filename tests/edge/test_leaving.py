"""Whether a client has left whose bytes nobody reads."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator

import pytest

from proxy.edge import leaving
from proxy.edge.leaving import has_left

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A client's end and ours, with bytes on the way that are never read."""
    if request.param == "unix":
        client, ours = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            ours, _ = server.accept()
    client.sendall(b"x" * 1000)
    with client, ours:
        yield client, ours


def test_a_client_that_is_there(pair: Pair) -> None:
    """However much of it is unread."""
    assert not has_left(pair[1].fileno())


@pytest.mark.parametrize("how", ["close", "shutdown", "reset"])
def test_a_client_that_has_left(pair: Pair, how: str) -> None:
    """Closed, half-closed or reset: behind bytes that are unread."""
    client, ours = pair
    if how == "shutdown":
        client.shutdown(socket.SHUT_WR)
    elif how == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how != "shutdown":
        client.close()
    comes = select.poll()
    comes.register(ours.fileno(), select.POLLRDHUP)
    comes.poll(10_000)  # a busy kernel may take its time
    assert has_left(ours.fileno())


def test_elsewhere_it_is_not_known(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a way to ask, a client counts as being there."""
    monkeypatch.setattr(leaving.sys, "platform", "darwin")
    pair[0].close()
    assert not has_left(pair[1].fileno())
