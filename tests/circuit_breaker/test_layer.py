"""What the layer makes of its circuits: who is refused, with what, and who is asked instead."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from middleware.circuit_breaker import CircuitBreaker, circuits
from middleware.circuit_breaker.circuits import FORGET_AFTER, MAX_CIRCUITS
from middleware.circuit_breaker.layer import CircuitOpen
from proxy.assembly import RouteInfo
from proxy.chain import check_order
from proxy.errors import Unavailable
from proxy.exchange import Request, Response

from .stage import QUICK, A, B, Stage, raises, says


async def test_a_sick_endpoint_is_left_alone() -> None:
    """The others take its requests; after `open_for` one probe finds out, and brings it back."""
    stage = Stage(A, B, **QUICK)
    await stage.fail()
    for _ in range(5):
        await stage.ask()
    assert stage.chosen == [A] + [B] * 5
    stage.now += 5
    await stage.ask()
    assert stage.chosen[-1] == A and stage.circuit().state == "closed"


async def test_where_none_is_left_the_answer_is_at_once() -> None:
    """503 `circuit_open`, with the time until the first of them is tried again; nobody is asked."""
    stage = Stage(A, B, **QUICK)
    await stage.fail()
    stage.now += 2
    await stage.fail(endpoint=B)
    asked = len(stage.chosen)
    with pytest.raises(CircuitOpen) as caught:
        await stage.ask()
    error = caught.value
    assert (error.status, error.code, error.retry_after) == (503, "circuit_open", 3.0)
    assert len(stage.chosen) == asked
    assert isinstance(error, Unavailable)


async def test_retry_after_agrees_with_what_happens_next() -> None:
    """A request is refused until then, and let through then."""
    stage = Stage(**QUICK)
    await stage.fail()
    with pytest.raises(CircuitOpen) as caught:
        await stage.ask()
    assert caught.value.retry_after is not None
    stage.now += caught.value.retry_after - 0.001
    with pytest.raises(CircuitOpen):
        await stage.ask()
    stage.now += 0.002
    assert (await stage.ask()).status == 200


async def test_a_balancer_that_finds_none_for_its_own_reasons() -> None:
    """Its error is not replaced where the gate has refused nobody, or where it is another one."""
    stage = Stage()
    stage.answers.clear()
    with pytest.raises(Unavailable, match="none") as caught:
        await stage.ask()
    assert caught.value.code == "no_endpoint"
    stage = Stage(A, B, **QUICK)
    await stage.fail()
    stage.answers[B] = raises(Unavailable("busy", code="upstream_pool_full"))
    with pytest.raises(Unavailable, match="busy"):
        await stage.ask()

    async def asks_and_refuses(request: Request) -> Response:
        assert request.gate is not None and not request.gate.admits(A)
        raise Unavailable("for another reason", code="full")

    with pytest.raises(Unavailable, match="for another reason"):
        await stage.layer.bind(RouteInfo("r", "default"), asks_and_refuses)(
            Request(b"GET", b"/", [])
        )


@pytest.mark.parametrize(
    ("scope", "states"),
    [
        ("endpoint", {("r", A): "open", ("s", A): "closed", ("s", B): None}),
        ("route", {("r", ""): "open", ("s", ""): "closed"}),
        ("upstream", {("", ""): "open"}),
    ],
)
async def test_what_has_a_circuit_of_its_own(scope: str, states: dict[Any, str | None]) -> None:
    """An endpoint for each route, a route, or the upstream of several."""
    stage = Stage(A, scope=scope, **QUICK)
    other = stage.bind("s")
    await stage.ask(other)
    await stage.fail()
    found = {
        (place.route, endpoint): circuit.state for place, endpoint, circuit in stage.layer.circuits
    }
    assert found == {key: state for key, state in states.items() if state is not None}
    if scope == "upstream":
        with pytest.raises(CircuitOpen):
            await stage.ask(other)
    else:
        await stage.ask(other)


@pytest.mark.parametrize("scope", ["endpoint", "route", "upstream"])
async def test_while_it_is_open_the_fallback_is_asked(scope: str) -> None:
    """Without the gate of this upstream; its answer is the answer, and is not judged."""
    stage = await Stage(scope=scope, fallback="backup", **QUICK).start()
    await stage.fail()
    assert (await stage.ask()).body == b"backup"
    (request,) = stage.fell_back
    assert request.gate is None
    labels = {"route": "r", "upstream": "default"}
    assert stage.sample("refused_total", **labels) == 1
    assert stage.sample("fallbacks_total", **labels) == 1
    stage.now += 5
    await stage.ask()
    assert len(stage.fell_back) == 1


async def test_a_stored_answer_goes_before_the_fallback() -> None:
    """Where an outer layer has one, it is told that the circuit is open, and gives it."""
    stage = Stage(fallback="backup", **QUICK)
    await stage.fail()
    request = Request(b"POST", b"/", [])
    request.has_stale = True
    with pytest.raises(CircuitOpen):
        await stage.handler(request.fork())
    assert not stage.fell_back


async def test_no_upstream_falls_back_to_itself() -> None:
    """A route to the fallback, in a chain shared with others, gets the 503."""
    stage = Stage(fallback="backup", **QUICK)
    handler = stage.bind("r", "backup")
    await stage.fail(handler=handler)
    with pytest.raises(CircuitOpen):
        await stage.ask(handler)


async def test_what_the_file_must_have() -> None:
    """A fallback or a store that is not there is refused when the layer is made."""
    with pytest.raises(ValueError, match="no upstream `nowhere`"):
        Stage(fallback="nowhere")
    with pytest.raises(ValueError, match="to use the store `redis`"):
        Stage(store="redis")
    with pytest.raises(ValueError, match="`max_open_for` is less"):
        CircuitBreaker.Config(open_for=10, max_open_for=5)
    Stage(fallback="nowhere", store="redis", enabled=False)


@pytest.mark.parametrize("key", ["error_ratio", "slow_ratio", "consecutive"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "much"])
def test_ratios_and_counts(key: str, value: Any) -> None:
    """Shares of one and counts from one; anything else is refused."""
    with pytest.raises(ValueError):
        CircuitBreaker.Config(**{key: value})


@pytest.mark.parametrize("status", [200, 304, 399, 600])
def test_a_success_cannot_be_neutral(status: int) -> None:
    """A half-open circuit would never close again."""
    with pytest.raises(ValueError, match="neutral"):
        CircuitBreaker.Config(neutral=[503, status])


def test_each_way_of_opening_can_be_off() -> None:
    """`off`, and what YAML 1.1 makes of it."""
    for off in ("off", False):
        config = CircuitBreaker.Config(error_ratio=off, slow_ratio=off, consecutive=off)
        rules = config.rules
        assert (rules.error_ratio, rules.slow_ratio, rules.consecutive) == (None, None, None)


def test_its_place_in_a_chain() -> None:
    """Innermost; another order is refused."""
    names = ["auth", "rate_limit", "compress", "transcode", "cache", "prefetch", "aggregate",
             "concurrency", "retry"]  # fmt: skip
    for name in names:
        check_order([name, "circuit_breaker"], [object, CircuitBreaker])
        with pytest.raises(ValueError, match=f"`circuit_breaker` must come after `{name}`"):
            check_order(["circuit_breaker", name], [CircuitBreaker, object])


async def test_one_line_for_each_change(caplog: pytest.LogCaptureFixture) -> None:
    """Which circuit, what it is now, for how long and why; requests write none."""
    caplog.set_level(logging.INFO, "remora")
    stage = Stage(**QUICK)
    await stage.fail()
    for _ in range(3):
        with pytest.raises(CircuitOpen):
            await stage.ask()
    stage.now += 5
    await stage.ask()
    who = f"circuit breaker of route r, {A}: "
    assert [record.getMessage() for record in caplog.records] == [
        who + "open for 5 s: 1 calls in a row failed",
        who + "half-open: tried again after 5.0 s",
        who + "closed: 1 probes succeeded",
    ]


async def test_one_that_is_chosen_twice_is_taken_once() -> None:
    """A balancer that changes its mind gives the first endpoint's permit back."""
    stage = Stage(A, B, **QUICK)
    await stage.fail()
    stage.now += 5

    async def fickle(request: Request) -> Response:
        assert request.gate is not None and request.gate.admits(A)
        request.gate.chosen(A)
        assert not stage.circuit(A).admits(stage.now)
        request.gate.chosen(B)
        return Response(200, [])

    await stage.layer.bind(RouteInfo("r", "default"), fickle)(Request(b"GET", b"/", []))
    assert stage.circuit(A).state == "half-open" and stage.circuit(A).admits(stage.now)
    assert stage.circuit(B).window.calls == 1


async def test_endpoints_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """After FORGET_AFTER without a question, when another one comes, which then has their room;
    not while it is open.
    """
    monkeypatch.setattr(circuits, "MAX_CIRCUITS", 2)
    stage = Stage(A, B, consecutive=1, open_for=FORGET_AFTER * 2, max_open_for=FORGET_AFTER * 2)
    await stage.ask()
    stage.answers[A] = says(500)
    await stage.ask()
    stage.answers = {B: says(200)}
    await stage.ask()
    place = stage.layer.circuits.places["r", "default"]
    stage.now += FORGET_AFTER
    stage.answers = {"http://c:1": says(200)}
    await stage.ask()
    assert set(place.circuits) == {A, "http://c:1"}
    stage.now += FORGET_AFTER
    stage.answers = {"http://d:1": says(200)}
    await stage.ask()
    assert set(place.circuits) == {"http://d:1"}


async def test_there_are_no_more_of_them_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls to further endpoints pass, unjudged; those that are there work on."""
    assert MAX_CIRCUITS == 4096
    monkeypatch.setattr(circuits, "MAX_CIRCUITS", 3)
    stage = Stage(**QUICK)
    place = stage.layer.circuits.places["r", "default"]
    for number in range(6):
        stage.answers = {f"http://{number}:1": says(200)}
        await stage.fail(endpoint=f"http://{number}:1")
    assert list(place.circuits) == ["http://0:1", "http://1:1", "http://2:1"]
    await stage.ask()
    stage.answers = {"http://1:1": says(200)}
    with pytest.raises(CircuitOpen):
        await stage.ask()
    route = Stage(scope="route", **QUICK)
    monkeypatch.setattr(circuits, "MAX_CIRCUITS", 0)
    await route.fail(2)


async def test_switched_off_it_asks_for_nothing() -> None:
    """`next` itself, no numbers and no control."""
    stage = await Stage(enabled=False).start()
    assert stage.handler == stage._balance
    assert not stage.env.controls.names and not list(stage.telemetry._offered)
