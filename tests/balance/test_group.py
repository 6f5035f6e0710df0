"""An upstream at work: checks, ejection and return, over real sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import generate_latest

from proxy.chain import ControlRefused
from proxy.errors import Unavailable
from proxy.upstream.group import Group
from proxy.upstream.pool import Pool
from tests.conftest import Running, Serve, UpstreamMaker
from tests.lifecycle.numbers import Numbers
from tests.road.gate import Gate as HeldUpstream
from tests.road.gate import ask
from tests.road.scripted import Peer
from tests.road.wire import Gone, ok, soon, until

from .rig import Gate, asked

CHECKS = {"interval": 0.02, "timeout": 2.0, "unhealthy_after": 2, "healthy_after": 2}
"""Seconds."""


class Server:
    """An endpoint that is well or not: what it answers, and how many asked. checks: of them, those
    of its health.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.status = "200 OK"
        self.health = "200 OK"
        self.resets = False
        self.silent = False
        self.requests = 0
        self.checks = 0

    async def script(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            check = request.target == b"/health"
            self.checks += check
            self.requests += not check
            if self.silent:
                await peer.ended(60)
                raise Gone("it was not answered")
            if self.resets and not check:
                peer.abort()
                return
            peer.send(ok(self.body, status=self.health if check else self.status))


Two = Callable[..., Any]


@pytest.fixture
def two(serve: Serve, upstream: UpstreamMaker) -> Two:
    """`await two(**keys of the upstream)`: remora, and two endpoints behind it."""

    async def start(**keys: Any) -> tuple[Running, Server, Server]:
        first, second = Server(b"first"), Server(b"second")
        urls = [(await upstream(one.script)).url for one in (first, second)]
        keys = {"balance": "round_robin", "slow_start": "off", **keys}
        return (
            await serve(urls[0], upstreams={"default": {"endpoints": urls, **keys}}),
            first, second,
        )  # fmt: skip

    return start


def group_of(running: Running) -> Group:
    assert running.server._assembly is not None
    return running.server._assembly._groups[0]


def states(running: Running) -> list[str]:
    group = group_of(running)
    return [member.state(group._env.clock()) for member in group.members]


async def bodies(running: Running, count: int = 6) -> set[bytes]:
    client = await running.connect()
    return {(await client.exchange()).body for _ in range(count)}


def told(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in record.getMessage() for record in caplog.records)


# -- checks


async def test_a_failed_check_takes_an_endpoint_out(
    two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    """Out after `unhealthy_after` in a row, in again after `healthy_after`: a line in the log each,
    and no request fails.
    """
    caplog.set_level(logging.INFO, "remora")
    running, first, second = await two(health=CHECKS)
    await until(lambda: first.checks > 2 and second.checks > 2)
    assert await bodies(running) == {b"first", b"second"}
    first.health = "503 Service Unavailable"
    await until(lambda: states(running) == ["unhealthy", "up"])
    assert await bodies(running) == {b"second"}
    assert told(caplog, "is unhealthy: it answered 503") == 1
    first.health = "204 No Content"
    await until(lambda: states(running) == ["up", "up"])
    assert await bodies(running) == {b"first", b"second"}
    assert told(caplog, "is healthy again") == 1


async def test_who_comes_back_from_an_ejection_begins_slowly(two: Two) -> None:
    """It has not all of its share at once."""
    keys = {"consecutive": 1, "time": 0.02, "max_time": 0.02}
    running, first, _ = await two(eject=keys, slow_start=3600)
    first.status = "500 Internal Server Error"
    await bodies(running, 2)
    first.status = "200 OK"
    await until(lambda: states(running) == ["slow_start", "up"])


async def test_who_passes_its_checks_again_begins_slowly(two: Two) -> None:
    """The same for one whose checks had failed."""
    running, first, _ = await two(health=CHECKS, slow_start=3600)
    first.health = "503 Service Unavailable"
    await until(lambda: states(running) == ["unhealthy", "up"])
    first.health = "200 OK"
    await until(lambda: states(running) == ["slow_start", "up"])


async def test_a_check_without_an_answer_fails(two: Two, caplog: pytest.LogCaptureFixture) -> None:
    """A server that accepts and says nothing is out when `timeout` is over."""
    running, first, _ = await two(health={**CHECKS, "timeout": 0.05})
    first.silent = True
    await until(lambda: states(running) == ["unhealthy", "up"])
    assert await bodies(running) == {b"second"}
    name = group_of(running).members[0].name
    assert told(caplog, f"{name} is unhealthy: no answer within 0.05 s") == 1


async def test_an_endpoint_that_is_away_at_the_start_is_out_at_once(
    serve: Serve, upstream: UpstreamMaker, caplog: pytest.LogCaptureFixture
) -> None:
    """The first check decides alone: a refused connection needs no second one. The log says why,
    the endpoint's address once.
    """
    server = Server(b"here")
    here = (await upstream(server.script)).url
    away = "http://127.0.0.1:1"
    checks = {**CHECKS, "unhealthy_after": 1000}
    running = await serve(here, upstreams={"default": {"endpoints": [away, here],
                                                       "health": checks}})  # fmt: skip
    await until(lambda: states(running) == ["unhealthy", "up"])
    assert await bodies(running) == {b"here"}
    assert told(caplog, f"{away} is unhealthy: [Errno 111] Connection refused") == 1


async def test_checks_are_no_requests(two: Two) -> None:
    """They use a connection of their own: nothing is in flight for the balancer, and no connection
    of the pool was made.
    """
    running, first, _ = await two(health=CHECKS)
    first.silent = True
    await until(lambda: first.checks)
    assert [member.busy for member in group_of(running).members] == [0, 0]
    assert [pool.opened for pool in group_of(running).pools] == [0, 0]


# -- ejection


async def test_failed_requests_take_an_endpoint_out(
    two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    """After `consecutive` failures it gets no more; then it is tried again, and one failure more is
    enough for twice the time.
    """
    caplog.set_level(logging.INFO, "remora")
    running, first, _ = await two(eject={"consecutive": 3, "time": 0.2})
    first.resets = True
    client = await running.connect()
    statuses = [(await client.exchange()).status for _ in range(12)]
    assert statuses.count(502) == first.requests == 3
    assert states(running) == ["ejected", "up"]
    assert told(caplog, "is ejected for 0.2 s: its requests fail") == 1
    await until(lambda: states(running) == ["up", "up"])
    assert told(caplog, "is in again after its ejection") == 1
    statuses = [(await client.exchange()).status for _ in range(6)]
    assert statuses.count(502) == 1
    assert told(caplog, "is ejected for 0.4 s") == 1
    first.resets = False
    await until(lambda: states(running) == ["up", "up"])
    assert await bodies(running) == {b"first", b"second"}


async def test_at_most_half_are_out(two: Two) -> None:
    """Where both fail one stays in: remora refuses no request by itself."""
    running, first, second = await two(eject={"consecutive": 1, "time": 60})
    first.status = second.status = "500 Internal Server Error"
    client = await running.connect()
    answers = [await client.exchange() for _ in range(6)]
    assert {answer.status for answer in answers} == {500}
    assert {answer.body for answer in answers} == {b"first", b"second"}
    assert sorted(states(running)) == ["ejected", "up"]


async def test_unhealthy_ones_count_for_the_half(two: Two) -> None:
    """With one of two out by its checks, the other is not ejected."""
    running, first, second = await two(health=CHECKS, eject={"consecutive": 1, "time": 60})
    first.health = "500 Internal Server Error"
    await until(lambda: states(running) == ["unhealthy", "up"])
    second.status = "500 Internal Server Error"
    client = await running.connect()
    assert [(await client.exchange()).body for _ in range(3)] == [b"second"] * 3
    assert states(running) == ["unhealthy", "up"]


async def test_one_that_was_away_does_not_sit_out_its_ejection(two: Two) -> None:
    """Checks that fail and then pass again say that it was restarted."""
    running, first, _ = await two(health=CHECKS, eject={"consecutive": 1, "time": 60})
    await until(lambda: first.checks > 1)
    first.resets = True
    client = await running.connect()
    await client.exchange()
    await client.exchange()
    assert states(running) == ["ejected", "up"]
    first.health = "500 Internal Server Error"
    await until(lambda: states(running) == ["unhealthy", "up"])
    first.resets, first.health = False, "200 OK"
    await until(lambda: states(running) == ["up", "up"])
    assert await bodies(running) == {b"first", b"second"}


async def test_an_ejection_that_is_off(two: Two) -> None:
    """`eject: off`: however often it fails, it gets its share."""
    running, first, _ = await two(eject="off")
    first.resets = True
    client = await running.connect()
    assert [(await client.exchange()).status for _ in range(40)].count(502) == 20


# -- nobody in


async def test_nobody_in(two: Two, caplog: pytest.LogCaptureFixture) -> None:
    """Where all checks fail requests go on as if there were none: the checks may be wrong."""
    running, first, second = await two(health=CHECKS)
    first.health = second.health = "404 Not Found"
    await until(lambda: states(running) == ["unhealthy", "unhealthy"])
    assert await bodies(running) == {b"first", b"second"}
    group_of(running)._arrange()
    assert told(caplog, "no endpoint is in; the least bad are tried") == 1, "once, while it lasts"
    first.health = "200 OK"
    await until(lambda: states(running) == ["up", "unhealthy"])
    first.health = "404 Not Found"
    await until(lambda: states(running) == ["unhealthy", "unhealthy"])
    assert told(caplog, "no endpoint is in; the least bad are tried") == 2


# -- one endpoint


async def test_one_plain_endpoint_is_its_pools_own_method(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """Nothing to choose and nothing that watches: no balancer stands on the way."""
    url = (await upstream(Server(b"one").script)).url
    running = await serve(url)
    handler: Any = group_of(running).handler
    assert handler.__func__ is Pool.send and handler.__self__ is running.pool
    request = asked()
    await handler(request)
    assert request.endpoint == url


async def test_one_endpoint_asks_the_gate(serve: Serve, upstream: UpstreamMaker) -> None:
    """It is asked and told, and may refuse."""
    server = Server(b"one")
    url = (await upstream(server.script)).url
    handler = group_of(await serve(url)).handler
    gate = Gate()
    await handler(asked(gate=gate))
    assert (gate.asked, gate.taken) == ([url], [url])
    gate = Gate(url)
    with pytest.raises(Unavailable) as caught:
        await handler(asked(gate=gate))
    assert (caught.value.status, caught.value.code) == (503, "no_endpoint")
    assert gate.taken == [] and server.requests == 1


async def test_several_ask_the_gate_once(two: Two) -> None:
    """The pool does not ask again what the balancer has asked."""
    running, _, _ = await two()
    gate = Gate()
    await group_of(running).handler(asked(gate=gate))
    assert len(gate.asked) == 2 and len(gate.taken) == 1


# -- balance by load, over sockets


async def test_a_slow_endpoint_gets_less(serve: Serve, upstream: UpstreamMaker) -> None:
    """Least outstanding counts what is in flight: who holds requests gets no more of them."""
    held, quick = HeldUpstream(), Server(b"quick")
    urls = [(await upstream(script)).url for script in (held.script, quick.script)]
    running = await serve(urls[0], upstreams={"default": {"endpoints": urls}})
    tasks = []
    while not held.targets:
        tasks.append((await ask(running, f"/{len(tasks)}"))[1])
        await until(lambda: len(held.targets) + quick.requests == len(tasks))
    for _ in range(4):
        assert (await (await running.connect()).exchange()).body == b"quick"
    held.answer(held.targets[0])
    await soon(asyncio.gather(*tasks))


# -- what it tells


async def test_metrics(two: Two) -> None:
    """State, picks, ejections and failed checks of each endpoint."""
    running, first, _ = await two(health=CHECKS, eject={"consecutive": 1, "time": 60})
    one, other = (member.name for member in group_of(running).members)
    first.status = "500 Internal Server Error"
    client = await running.connect()
    for _ in range(4):
        await client.exchange()
    first.health = "500 Internal Server Error"
    await until(lambda: states(running) == ["unhealthy", "up"])
    tell = Numbers(generate_latest(running.server.telemetry.registry).decode())

    def number(name: str, endpoint: str, **labels: str) -> float | None:
        return tell(f"remora_upstream_{name}", upstream="default", endpoint=endpoint, **labels)

    assert (number("picks_total", one), number("picks_total", other)) == (1, 3)
    assert (number("ejections_total", one), number("ejections_total", other)) == (1, 0)
    assert (number("failed_checks_total", one) or 0) >= 2
    assert number("failed_checks_total", other) == 0
    assert number("endpoint_state", one, state="unhealthy") == 1
    assert number("endpoint_state", one, state="up") == 0
    assert number("endpoint_state", other, state="up") == 1
    assert number("connections_opened_total", other) == 1


async def test_the_admin_port(two: Two) -> None:
    """`GET /upstreams` shows each endpoint's state; where workers differ, how many see what."""
    running, first, _ = await two(eject={"consecutive": 1, "time": 60})
    first.resets = True
    client = await running.connect()
    for _ in range(2):
        await client.exchange()
    controls = running.server.controls
    shown = controls.show("upstreams")
    one, other = (member.name for member in group_of(running).members)
    answer = controls.told("upstreams", [shown])["default"]
    assert answer == {
        one: {"state": "ejected", "in_flight": 0, "picks": 1, "ejections": 1, "failed_checks": 0},
        other: {"state": "up", "in_flight": 0, "picks": 1, "ejections": 0, "failed_checks": 0},
    }
    fellow = {"default": {one: {**shown["default"][one], "states": {"up": 1}}}}
    both = controls.told("upstreams", [shown, fellow])["default"][one]
    assert (both["states"], both["picks"]) == ({"ejected": 1, "up": 1}, 2)
    with pytest.raises(ControlRefused):
        await controls.act("upstreams", "purge", {})
