"""What is served when it is no longer fresh, and what is not."""

from __future__ import annotations

import asyncio

import pytest

from tests.cache.conftest import MakeRig
from tests.cache.rig import hit, numbered, status
from tests.road.scripted import Peer
from tests.road.wire import CHUNKED_HEAD, Message, ok, until

ERRORS = ["500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable",
          "504 Gateway Timeout"]  # fmt: skip


async def test_a_stale_answer_is_not_served(rig: MakeRig) -> None:
    """From the second that `ttl` ends, the upstream is asked."""
    one = await rig(ttl=60)
    await one.ask()
    one.clock.advance(59.9)
    assert hit(await one.ask())
    one.clock.advance(0.2)
    again = await one.ask()
    assert again.body == b'{"answer":2}'
    assert status(again) == {"fwd": "stale"}
    assert hit(await one.ask())


async def test_within_grace_nobody_waits(rig: MakeRig) -> None:
    """A stale answer is served at once; one call, however many ask, brings the next."""
    release = asyncio.Event()

    async def slow(peer: Peer, _: Message) -> None:
        await release.wait()
        peer.send(numbered(2))

    one = await rig(numbered(1), slow, numbered(3), ttl=60, grace=30)
    await one.ask()
    one.clock.advance(70)
    for _ in range(5):
        old = await one.ask()
        assert old.body == b'{"answer":1}' and hit(old)
        assert int(status(old)["ttl"]) < 0
    await until(lambda: one.origin.count == 2)
    release.set()
    await until(lambda: not one.cache.flights)
    assert (await one.ask()).body == b'{"answer":2}'
    assert one.origin.count == 2


async def test_beyond_grace_one_waits(rig: MakeRig) -> None:
    """Past the window an answer is not served."""
    one = await rig(ttl=60, grace=30)
    await one.ask()
    one.clock.advance(91)
    assert (await one.ask()).body == b'{"answer":2}'


async def test_a_failed_refresh_leaves_the_old_one(rig: MakeRig) -> None:
    """Within grace an upstream that fails does no harm, and is asked again by the next client."""
    one = await rig(numbered(1), ok(b"{}", status=ERRORS[0]), numbered(3), ttl=60, grace=30)
    await one.ask()
    one.clock.advance(70)
    assert (await one.ask()).body == b'{"answer":1}'
    await until(lambda: one.origin.count == 2 and not one.cache.flights)
    assert (await one.ask()).body == b'{"answer":1}'
    await until(lambda: one.origin.count == 3 and not one.cache.flights)
    assert (await one.ask()).body == b'{"answer":3}'


async def test_a_refresh_too_large_to_keep_is_given_up(rig: MakeRig) -> None:
    """Nobody waits for a refresh: once it cannot be stored, its upstream is let go."""
    gone = asyncio.Event()

    async def endless(peer: Peer, _: Message) -> None:
        peer.send(CHUNKED_HEAD)
        try:
            while True:
                peer.send(b"2710\r\n" + bytes(10_000) + b"\r\n")
                await peer.flush()
        finally:
            gone.set()

    one = await rig(numbered(1), endless, ttl=60, grace=30, max_entry_bytes=100_000)
    await one.ask()
    one.clock.advance(70)
    await one.ask()
    await asyncio.wait_for(gone.wait(), 5)
    await until(lambda: not one.cache.flights)


async def test_a_read_only_client_refreshes_nothing(rig: MakeRig) -> None:
    """Within grace a client that may not write sets off no call whose answer nobody would get."""
    one = await rig(ttl=60, grace=30)
    await one.ask()
    one.clock.advance(70)
    for _ in range(3):
        assert hit(await one.ask(None, "X-Remora-Cache: read-only"))
    assert (await one.ask(None, "Cache-Control: no-cache")).status == 200
    assert one.origin.count == 2


@pytest.mark.parametrize("status_line", ERRORS)
async def test_an_old_answer_stands_in_for_an_error(rig: MakeRig, status_line: str) -> None:
    """Within `stale_if_error` a failing upstream is not seen."""
    one = await rig(numbered(1), ok(b"{}", status=status_line), ttl=60, stale_if_error=600)
    await one.ask()
    one.clock.advance(500)
    old = await one.ask()
    assert old.status == 200 and old.body == b'{"answer":1}'
    assert status(old)["fwd"] == "stale" and hit(old)
    one.clock.advance(200)
    assert (await one.ask()).status == int(status_line[:3])


async def test_an_old_answer_stands_in_for_no_answer(rig: MakeRig) -> None:
    """So it is where the upstream cannot be reached or breaks off before its head."""

    async def breaks(peer: Peer, _: Message) -> None:
        peer.abort()

    one = await rig(numbered(1), breaks, ttl=60, stale_if_error=600)
    await one.ask()
    one.clock.advance(500)
    assert (await one.ask()).body == b'{"answer":1}'


@pytest.mark.parametrize("status_line", ["400 Bad Request", "404 Not Found", "429 Slow Down"])
async def test_a_clients_own_error_is_told(rig: MakeRig, status_line: str) -> None:
    """What the upstream refuses is no failure of its own."""
    one = await rig(numbered(1), ok(b"{}", status=status_line), ttl=60, stale_if_error=600)
    await one.ask()
    one.clock.advance(100)
    assert (await one.ask()).status == int(status_line[:3])


async def test_without_a_window_an_error_is_told(rig: MakeRig) -> None:
    """By default nothing stale stands in."""
    one = await rig(numbered(1), ok(b"{}", status=ERRORS[2]), ttl=60)
    await one.ask()
    one.clock.advance(61)
    assert (await one.ask()).status == 503


async def test_a_hot_answer_is_renewed_before_its_end(rig: MakeRig) -> None:
    """Under `refresh_ahead` a hit in the last share of a life brings the next answer."""
    one = await rig(ttl=100, refresh_ahead=0.2)
    await one.ask()
    one.clock.advance(79)
    assert hit(await one.ask())
    assert one.origin.count == 1
    one.clock.advance(2)
    assert (await one.ask()).body == b'{"answer":1}'
    await until(lambda: one.origin.count == 2 and not one.cache.flights)
    one.clock.advance(50)
    assert (await one.ask()).body == b'{"answer":2}'
    assert one.origin.count == 2
