"""Who may be chosen: states, gates, what a request avoids, and slow start."""

from __future__ import annotations

from collections import Counter

import pytest

from proxy.errors import ConnectFailed, Unavailable, UpstreamClosed, UpstreamTimeout
from proxy.exchange import Request, Response, Stream
from proxy.upstream.balance import Balancer

from .rig import Gate, Stage, asked


def fails(error: Exception) -> object:
    def give(request: Request) -> Response:
        raise error

    return give


async def test_a_request_knows_its_endpoint() -> None:
    """Its name is on the request when the answer is there, and when there is none."""
    stage = Stage(1)
    request = asked()
    await stage.balancer.send(request)
    assert request.endpoint == stage.names[0]
    stage.pools[0].give = fails(ConnectFailed("no"))  # type: ignore[assignment]
    request = asked()
    with pytest.raises(ConnectFailed):
        await stage.balancer.send(request)
    assert request.endpoint == stage.names[0]


# -- who is in


async def test_who_is_out_gets_nothing() -> None:
    """Ejected or unhealthy, it is not chosen while another is in."""
    stage = Stage(4, health={})
    stage.eject(1)
    stage.fail_checks(2)
    assert {await stage.chosen() for _ in range(20)} == {0, 3}


async def test_where_nobody_is_in_the_least_bad_are_tried() -> None:
    """First those whose requests failed but whose checks pass, then all whose checks fail."""
    stage = Stage(3, health={})
    stage.eject(0)
    stage.fail_checks(1, 2)
    assert {await stage.chosen() for _ in range(9)} == {0}
    stage.fail_checks(0)
    assert {await stage.chosen() for _ in range(9)} == {0, 1, 2}
    assert stage.balancer.last_resorts == 18


# -- gates


async def test_a_gate_is_asked_and_told() -> None:
    """It is asked for each endpoint that is in, and told the one chosen, after that."""
    stage = Stage(3)
    gate = Gate(stage.names[0], stage.names[2])
    assert await stage.chosen(gate=gate) == 1
    assert gate.asked == stage.names
    assert gate.taken == [stage.names[1]]


async def test_where_the_gate_refuses_who_is_in_another_is_tried() -> None:
    """An endpoint that is out and that the gate admits is better than none."""
    stage = Stage(2)
    stage.eject(1)
    assert await stage.chosen(gate=Gate(stage.names[0])) == 1


async def test_where_the_gate_refuses_all_nothing_is_sent() -> None:
    """503 `no_endpoint` with a Retry-After, and the gate is told of none."""
    stage = Stage(2)
    gate = Gate(*stage.names)
    with pytest.raises(Unavailable) as caught:
        await stage.balancer.send(asked(gate=gate))
    assert (caught.value.status, caught.value.code) == (503, "no_endpoint")
    assert caught.value.retry_after
    assert not gate.taken and not any(pool.sent for pool in stage.pools)


# -- what failed a request already


async def test_avoided_while_another_is_left() -> None:
    """A retry goes elsewhere; where all failed already it takes one of them all the same."""
    stage = Stage(3)
    avoid = frozenset(stage.names[:2])
    assert {await stage.chosen(avoid=avoid) for _ in range(9)} == {2}
    assert {await stage.chosen(avoid=frozenset(stage.names)) for _ in range(9)} == {0, 1, 2}


async def test_avoided_before_out() -> None:
    """One that failed once is tried again before one that is out for failing always."""
    stage = Stage(2)
    stage.eject(1)
    assert await stage.chosen(avoid=frozenset(stage.names[:1])) == 0


async def test_avoided_and_a_gate() -> None:
    """What the gate admits counts before what is avoided."""
    stage = Stage(3)
    gate = Gate(stage.names[2])
    assert await stage.chosen(gate=gate, avoid=frozenset(stage.names[:1])) == 1
    assert await stage.chosen(gate=Gate(*stage.names[1:]), avoid=frozenset(stage.names[:1])) == 0


# -- what requests tell


async def faults(stage: Stage, times: int = 5) -> list[str]:
    """Sends; the names of members that became due."""
    for _ in range(times):
        try:
            await stage.balancer.send(asked())
        except UpstreamClosed:
            pass
    return [member.name for member in stage.due]


@pytest.mark.parametrize("status", [500, 502, 504, 507])
async def test_answers_that_are_faults(status: int) -> None:
    """5xx in a row make an endpoint due."""
    stage = Stage(1, eject={"consecutive": 5})
    stage.pools[0].give = lambda request: Response(status, [], b"")
    assert await faults(stage, 4) == []
    assert await faults(stage, 1) == stage.names


@pytest.mark.parametrize("status", [429, 503])
async def test_back_pressure_is_neither(status: int) -> None:
    """It makes nobody due, and takes back no fault."""
    stage = Stage(1, eject={"consecutive": 2})
    stage.pools[0].give = lambda request: Response(500, [], b"")
    await faults(stage, 1)
    stage.pools[0].give = lambda request: Response(status, [], b"")
    assert await faults(stage, 5) == []
    stage.pools[0].give = lambda request: Response(500, [], b"")
    assert await faults(stage, 1) == stage.names


async def test_a_call_on_trial_is_neither() -> None:
    """That it fails tells of an item: it makes nobody due, and takes back no fault."""
    stage = Stage(1, eject={"consecutive": 2})
    stage.pools[0].give = lambda request: Response(500, [], b"")
    await faults(stage, 1)
    request = asked()
    request.on_trial = True
    for _ in range(3):
        await stage.balancer.send(request)
    assert stage.due == []
    assert await faults(stage, 1) == stage.names


@pytest.mark.parametrize("status", [200, 304, 400, 404, 422])
async def test_answers_that_are_successes(status: int) -> None:
    """The client's own mistakes among them: the row of faults begins anew."""
    stage = Stage(1, eject={"consecutive": 2})
    for _ in range(3):
        stage.pools[0].give = lambda request: Response(500, [], b"")
        await faults(stage, 1)
        stage.pools[0].give = lambda request: Response(status, [], b"")
        await faults(stage, 1)
    assert stage.due == []


async def test_transport_errors_are_faults() -> None:
    """Whatever the connection failed with; and the caller gets the error."""
    stage = Stage(1, eject={"consecutive": 1})
    for error in (ConnectFailed("a"), UpstreamClosed("b"), UpstreamTimeout("c")):
        stage.pools[0].give = fails(error)  # type: ignore[assignment]
        stage.due.clear()
        with pytest.raises(type(error)):
            await stage.balancer.send(asked())
        assert len(stage.due) == 1


async def test_what_is_not_the_endpoints_fault() -> None:
    """A pool that is full, and a client that left."""
    stage = Stage(1, eject={"consecutive": 1})
    stage.pools[0].give = fails(Unavailable("full"))  # type: ignore[assignment]
    with pytest.raises(Unavailable):
        await stage.balancer.send(asked())
    assert stage.due == []


@pytest.mark.parametrize(
    ("end", "cancelled", "due"),
    [("whole", False, 0), ("broken", False, 1), ("broken", True, 0), ("left", False, 0)],
)
async def test_a_stream_is_judged_at_its_end(end: str, cancelled: bool, due: int) -> None:
    """Broken off: a fault, unless it was the client who left. One left unread is neither."""
    stage = Stage(1, eject={"consecutive": 2})
    record = stage.members[0].ejection
    assert record is not None
    record.fault(0)
    body = Stream()
    stage.pools[0].give = lambda request: Response(200, [], body)
    request = asked()
    await stage.balancer.send(request)
    if end == "whole":
        body.end()
    elif end == "broken":
        body.fail(UpstreamClosed("gone"))
    request.outcome.cancelled = cancelled
    request.finish()
    assert len(stage.due) == due
    # After a success the fault before it no longer counts; after neither it does.
    assert record.fault(0) is (end != "whole")


# -- slow start


async def test_one_that_is_back_gets_a_small_share_at_first() -> None:
    """A tenth of its turns at once, half of them at half time, then all."""
    stage = Stage(2, slow_start=10, balance="round_robin")
    stage.members[1].back(stage.clock())
    stage.arrange()
    shares = []
    for _ in range(3):
        counts = Counter([await stage.chosen() for _ in range(200)])
        shares.append(counts[1] / 200)
        stage.clock.now += 5
    assert 0.03 <= shares[0] <= 0.12
    assert 0.2 <= shares[1] <= 0.5
    assert shares[2] == 0.5
    assert stage.balancer._calm, "the look at each endpoint goes on for ever"


async def test_the_only_one_gets_all() -> None:
    """Slow start leaves no request without an endpoint."""
    stage = Stage(1, slow_start=10)
    stage.members[0].back(stage.clock())
    stage.arrange()
    assert [await stage.chosen() for _ in range(5)] == [0] * 5


# -- policies by name


@pytest.mark.parametrize("name", ["least_outstanding", "round_robin", "power_of_two", "prefix",
                                  "session"])  # fmt: skip
async def test_every_policy_serves_everywhere(name: str) -> None:
    """With equal loads, and requests without prompt or session, each endpoint gets some."""
    stage = Stage(3, balance=name)
    assert {await stage.chosen() for _ in range(60)} == {0, 1, 2}


async def test_a_session_keeps_its_endpoint() -> None:
    """Until that is out; then it has another one, and its own again afterwards."""
    stage = Stage(4, balance="session", slow_start="off")
    fields = [(b"X-Session-Id", b"7")]
    first = await stage.chosen(headers=fields)
    assert {await stage.chosen(headers=fields) for _ in range(9)} == {first}
    stage.eject(first)
    second = {await stage.chosen(headers=fields) for _ in range(9)}
    assert len(second) == 1 and first not in second
    record = stage.members[first].ejection
    assert record is not None
    record.back(stage.clock())
    stage.arrange()
    assert await stage.chosen(headers=fields) == first


async def test_the_endpoints_own_host() -> None:
    """With `host: upstream` each gets the name that the file has for it."""
    stage = Stage(2)
    balancer = Balancer(stage.upstream.balance, "upstream", stage.clock, stage.due.append)
    balancer.arrange(stage.members, stage.clock())
    request = Request(b"GET", b"/", [(b"Host", b"remora")])
    await balancer.send(request)
    assert (
        request.header(b"host")
        == stage.members[stage.names.index(request.endpoint)].pool.endpoint.authority
    )
