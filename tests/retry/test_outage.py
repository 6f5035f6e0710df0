"""Retries do not multiply an outage, and hide that of one endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import ConnectFailed, ProxyError, UpstreamClosed
from tests.retry.conftest import MakeRig
from tests.retry.rig import (
    ANSWER,
    CHAT,
    DONE,
    QUESTION,
    STREAM,
    Behaviour,
    Endpoint,
    event,
    resets,
    streams,
)
from tests.retry.stage import Call, Stage
from tests.road.scripted import Peer
from tests.road.wire import Gone, Message, until

WINDOW = 10.0
SLOTS = 10


def dead(call: Call) -> None:
    call.fail(UpstreamClosed("gone"))


def refused(call: Call) -> None:
    call.fail(ConnectFailed("refused"))


def busy(call: Call) -> None:
    call.answer(503)


def sick(call: Call) -> None:
    call.begin()
    assert call.stream is not None
    call.stream.end()


OUTAGES = [dead, refused, busy, sick]


async def offer(
    steps: Sequence[tuple[float, int, int]], ratio: float, floor: int, attempts: int
) -> tuple[int, int, int]:
    """(offered, sent upstream, windows begun) of an outage: each step lets time pass, then sends
    so many requests at once, to an upstream that fails in one of the OUTAGES.
    """
    budget = {"ratio": ratio, "floor": floor, "window": WINDOW}
    stage = Stage(budget=budget, attempts=attempts)
    first = int(stage.now / (WINDOW / SLOTS))
    offered = 0
    for passed, count, kind in steps:
        stage.now += passed
        stage.play = OUTAGES[kind]
        requests = [stage.request(b"/v1/chat/completions", STREAM) for _ in range(count)]
        tries = [stage.layer.handle(request) for request in requests]
        for result in await asyncio.gather(*tries, return_exceptions=True):
            assert not isinstance(result, BaseException) or isinstance(result, ProxyError)
        offered += count
    slots = int(stage.now / (WINDOW / SLOTS)) - first + 1
    return offered, len(stage.calls), -(-slots // SLOTS)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.01, 0.5, 3.0, 10.0, 60.0]), st.integers(0, 12),
                  st.integers(0, len(OUTAGES) - 1)),
        max_size=25,
    ),
    st.sampled_from([0.0, 0.2, 0.5]), st.integers(0, 4), st.integers(2, 10),
)  # fmt: skip
def test_an_outage_is_not_multiplied(
    steps: list[tuple[float, int, int]], ratio: float, floor: int, attempts: int
) -> None:
    """However requests come and however the upstream fails, however many attempts the file
    allows: it is sent at most (1 + ratio) times what was offered, and `floor` a window.
    """
    offered, sent, windows = asyncio.run(offer(steps, ratio, floor, attempts))
    assert sent <= offered + ratio * offered + floor * windows + 1e-9


async def test_a_full_outage() -> None:
    """Ten minutes at 10 requests a second, all failing: 20 % more than offered, and the floor."""
    steps = [(0.1, 1, turn % len(OUTAGES)) for turn in range(6000)]
    offered, sent, windows = await offer(steps, 0.2, 10, 3)
    assert (offered, windows) == (6000, 60)
    assert offered * 1.2 <= sent <= offered * 1.2 + 10 * windows


async def test_light_traffic_is_retried() -> None:
    """A request a minute has all its attempts: the floor is for it."""
    offered, sent, _ = await offer([(60.0, 1, 0)] * 20, 0.2, 10, 3)
    assert (offered, sent) == (20, 60)


# -- one of four


def paced(behaviour: Behaviour) -> Behaviour:
    """Answers after a few turns of the loop, so that some requests are always under way."""

    async def behave(peer: Peer, message: Message) -> None:
        await asyncio.sleep(0.002)
        if peer.writer.transport.is_closing():
            raise Gone("killed meanwhile")
        await behaviour(peer, message)

    return behave


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_one_of_four_is_killed_under_load(rig: MakeRig, stream: bool) -> None:
    """In the midst of it, connections reset and the port closed: no request fails."""
    behaviour = paced(streams(event("a"), DONE) if stream else ANSWER)
    one = await rig(*[Endpoint(behaviour) for _ in range(4)], backoff={"first": "5ms"})
    victim = one.upstreams[0]
    statuses: list[int] = []
    retried = 0
    target, body = (CHAT, STREAM) if stream else ("/v1/embeddings", QUESTION)

    async def client(requests: int) -> None:
        nonlocal retried
        connection = await one.running.connect()
        for _ in range(requests):
            answer = await connection.exchange("POST", target, body=body)
            statuses.append(answer.status if DONE in answer.body or not stream else 0)
            retried += answer["x-remora-attempts"] is not None

    load = [asyncio.ensure_future(client(60)) for _ in range(16)]
    await until(lambda: len(statuses) > 200)
    assert victim._server is not None
    victim._server.close()
    one.endpoints[0].behaviours = [resets]
    for peer in victim.peers:
        peer.abort()
    await asyncio.gather(*load)
    assert statuses == [200] * 960
    assert retried > 0
