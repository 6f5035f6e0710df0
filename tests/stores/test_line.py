"""One connection that callers share: what leaves together, and that nobody disturbs another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Connection
from redis.exceptions import ConnectionError, ResponseError

from proxy.stores import line as module
from proxy.stores.line import Line


class Wire(Connection):
    """Keeps each write."""

    def __init__(self, port: int) -> None:
        super().__init__(host="127.0.0.1", port=port, protocol=2, socket_timeout=None)
        self.driver_info = None
        self.writes = asyncio.Queue[bytes]()

    async def send_packed_command(
        self, command: Iterable[bytes], check_health: bool = True
    ) -> None:
        self.writes.put_nowait(b"".join(command))
        await super().send_packed_command(command, check_health)


class Peer:
    """The other end, which says what a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.read = reader
        self.say = writer.write
        self.close = writer.close


def packed(*commands: bytes) -> bytes:
    return b"".join(b"*1\r\n$%d\r\n%b\r\n" % (len(one), one) for one in commands)


@asynccontextmanager
async def connected(calls: int = 8) -> AsyncIterator[tuple[Line, Wire, Peer]]:
    ends = asyncio.Queue[Peer]()
    server = await asyncio.start_server(lambda *two: ends.put_nowait(Peer(*two)), "127.0.0.1", 0)
    wire = Wire(server.sockets[0].getsockname()[1])
    await wire.connect()
    line = Line(wire, calls)
    peer = await ends.get()
    try:
        yield line, wire, peer
    finally:
        await line.close()
        peer.close()
        server.close()


pytestmark = [pytest.mark.usefixtures("loop_watch"), pytest.mark.timeout(60)]


async def test_one_turn_is_one_write() -> None:
    """The commands of one turn leave together and in order; a lone one leaves in its own."""
    async with connected() as (line, wire, peer):
        replies = [line.ask((b"%d" % n,)) for n in range(5)]
        assert await wire.writes.get() == packed(b"0", b"1", b"2", b"3", b"4")
        lone = line.ask((b"5",))
        assert await wire.writes.get() == packed(b"5")
        peer.say(b":0\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n")
        assert [await reply for reply in [*replies, lone]] == [0, 1, 2, 3, 4, 5]
        assert wire.writes.empty()


async def test_a_write_that_takes_long() -> None:
    """What is asked meanwhile leaves after it, together and in order."""
    large = b"x" * 16_000_000
    async with connected() as (line, wire, peer):
        replies = [line.ask((large,))]
        assert await wire.writes.get() == packed(large)
        for n in range(3):
            replies.append(line.ask((b"%d" % n,)))
            await asyncio.sleep(0)
        assert wire.writes.empty()
        behind = packed(b"0", b"1", b"2")
        assert await peer.read.readexactly(len(packed(large))) == packed(large)
        assert await peer.read.readexactly(len(behind)) == behind
        assert await wire.writes.get() == behind
        peer.say(b":0\r\n:1\r\n:2\r\n:3\r\n")
        assert [await reply for reply in replies] == [0, 1, 2, 3]


async def test_an_error_is_of_one_command() -> None:
    """Those before and behind it have their own replies."""
    async with connected() as (line, _, peer):
        before, wrong, behind = [line.ask((b"x",)) for _ in range(3)]
        peer.say(b"+OK\r\n-ERR wrong\r\n$2\r\n\r\n\r\n")
        assert (await before, await behind) == (b"OK", b"\r\n")
        with pytest.raises(ResponseError, match="wrong"):
            await wrong
        assert line.open


async def test_whoever_leaves_takes_nobodys_reply() -> None:
    """The reply to a command whose caller has left is passed over."""
    async with connected() as (line, _, peer):
        replies = [line.ask((b"x",)) for _ in range(6)]
        for reply in replies[::2]:
            reply.cancel()
        await asyncio.sleep(0)
        peer.say(b"-ERR\r\n" + b"".join(b":%d\r\n" % n for n in range(1, 6)))
        assert [await reply for reply in replies[1::2]] == [1, 3, 5]


ENDS: dict[str, Callable[[Peer], Any]] = {
    "lost": lambda peer: peer.close(),
    "lost in a reply": lambda peer: (peer.say(b"$10\r\nhalf"), peer.close()),
    "not Redis": lambda peer: peer.say(b"HTTP/1.1 400 Bad Request\r\n"),
    "not a number": lambda peer: peer.say(b":one\r\n"),
    "not yet there": lambda peer: peer.say(b"-LOADING Redis is loading\r\n"),
}


@pytest.mark.parametrize("how", [*ENDS, "closed"])
async def test_its_end_is_told_to_all_who_wait(how: str) -> None:
    """At once, also to those whose command has not left; none can be asked then."""
    async with connected() as (line, wire, peer):
        waiting = [line.ask((b"x",))]
        await wire.writes.get()
        waiting += [line.ask((b"y",)), line.ask((b"z",))]
        if how in ENDS:
            ENDS[how](peer)
        else:
            await line.close()
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, Exception) for one in told)
        with pytest.raises(ConnectionError):
            line.ask((b"z",))
        assert not line.open and not wire.is_connected


async def test_closed_before_its_first_turn() -> None:
    """Also a connection that nobody has used yet is let go, and its tasks have ended then."""
    ends = asyncio.Queue[Peer]()
    server = await asyncio.start_server(lambda *two: ends.put_nowait(Peer(*two)), "127.0.0.1", 0)
    wire = Wire(server.sockets[0].getsockname()[1])
    await wire.connect()
    await Line(wire, 8).close()
    left = [task for task in asyncio.all_tasks() if "Redis" in task.get_name()]
    peer = await ends.get()
    rest = await asyncio.wait_for(peer.read.read(), 20)
    peer.close()
    server.close()
    assert not left and rest == b""


async def test_a_reply_that_nobody_asked_for() -> None:
    """Whose it is cannot be told, so the connection is of no use; what came before it holds."""
    async with connected() as (line, _, peer):
        reply = line.ask((b"x",))
        peer.say(b":1\r\n:2\r\n")
        assert await reply == 1
        while line.open:
            await asyncio.sleep(0)
        with pytest.raises(ConnectionError):
            line.ask((b"y",))


async def test_callers_who_leave_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that answers nobody owes so many replies at most; then it is closed."""
    monkeypatch.setattr(module, "MAX_LEFT", 10)
    async with connected(calls=3) as (line, wire, _):
        for _ in range(13):
            line.ask((b"x",)).cancel()
        assert line.open
        with pytest.raises(ConnectionError):
            line.ask((b"x",))
        assert not line.open
        await line.close()
        assert not wire.is_connected
