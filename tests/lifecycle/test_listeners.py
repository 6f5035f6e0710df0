"""Where remora listens, and what happens when it cannot."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from proxy.address import Address, parse_address
from proxy.lifecycle import bind_all
from proxy.loader import load_text
from proxy.server import CannotListen, bind, remove_paths

from .client import get
from .conftest import Serve
from .process import command


async def test_several_at_once(serve: Serve, room: Path) -> None:
    """TCP, IPv6 and a unix socket serve side by side, and the socket's file goes at the end."""
    path = room / "client"
    remora = await serve(listen=f'["127.0.0.1:0", "[::1]:0", "unix:{path}"]')
    addresses = await remora.serving()
    assert [address.rpartition(":")[0] for address in addresses] == ["127.0.0.1", "[::1]", "unix"]
    for address in addresses:
        assert (await get(address)).body == b"ok", address
    assert path.is_socket() and (room / "admin").is_socket()
    remora.send()
    assert await remora.ended() == 0
    assert not path.exists() and not (room / "admin").exists()


async def test_stale_socket_file(serve: Serve, room: Path) -> None:
    """A socket file that its owner left behind does not stand in the way."""
    path = room / "client"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    remora = await serve(listen=f"unix:{path}")
    await remora.serving()
    assert (await get(f"unix:{path}")).status == 200


async def test_live_socket_file(serve: Serve, room: Path) -> None:
    """A socket file that somebody serves is refused in one line, and goes on being served."""
    path = room / "client"
    first = await serve(listen=f"unix:{path}")
    await first.serving()
    second = await serve(listen=f"unix:{path}", admin="off")
    assert await second.ended() == 1
    assert second.lines == [f"remora: cannot listen on unix:{path}: the address is in use"]
    assert (await get(f"unix:{path}")).status == 200


async def test_port_in_use(serve: Serve) -> None:
    """A port in use ends the command with status 1 and one line that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        remora = await serve(listen=address)
        assert await remora.ended() == 1
    assert remora.lines == [f"remora: cannot listen on {address}: the address is in use"]


async def test_needs_c_extensions() -> None:
    """Without aiohttp's C extensions nothing starts, and the line says what to do."""
    async with command(
        "serve", "--upstream", "http://127.0.0.1:1", env={"AIOHTTP_NO_EXTENSIONS": "1"}
    ) as remora:
        assert await remora.ended() == 1
    assert len(remora.lines) == 1
    assert "unset AIOHTTP_NO_EXTENSIONS" in remora.lines[0]


def test_a_file_that_is_no_socket_is_kept(room: Path) -> None:
    """Only sockets are cleared: a file of somebody's own is refused and stays."""
    path = room / "data"
    path.write_text("mine")
    with pytest.raises(CannotListen, match="the address is in use"):
        bind(Address("", 0, str(path)))
    assert path.read_text() == "mine"


def test_a_successor_keeps_its_file(room: Path) -> None:
    """A process that ends takes its own socket file away, not the one bound after it."""
    place = Address("", 0, str(room / "client"))
    bind(place).close()
    with bind(place):
        remove_paths([place])
        assert (room / "client").is_socket()
    remove_paths([place])
    assert not (room / "client").exists()


def test_all_or_nothing(room: Path) -> None:
    """When the second listener cannot be bound, the first one's file does not stay behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = load_text(
            f'listen: ["unix:{room}/client", "127.0.0.1:{port}"]\n'
            'upstreams: {default: {endpoints: ["http://127.0.0.1:1"]}}\n',
            "test.yaml",
        )
        with pytest.raises(CannotListen):
            bind_all(file)
    assert not (room / "client").exists()


def test_wildcard_takes_both_families() -> None:
    """`:port` accepts IPv4 and IPv6 clients on one socket; `[::]:port` IPv6 alone."""
    with bind(parse_address(":0")) as both:
        port = both.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()
    with bind(parse_address("[::]:0")) as six:
        port = six.getsockname()[1]
        socket.create_connection(("::1", port), timeout=5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def test_wildcard_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel has no IPv6, `:port` serves IPv4."""
    real = socket.socket

    def without_ipv6(family: int = -1, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest)

    monkeypatch.setattr("proxy.server.socket.socket", without_ipv6)
    with bind(parse_address(":0")) as sock:
        assert sock.family == socket.AF_INET
