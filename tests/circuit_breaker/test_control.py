"""`GET /circuit_breaker`, opening and closing by hand, and what the metrics tell."""

from __future__ import annotations

import json

import pytest

from middleware.circuit_breaker.layer import CircuitOpen
from proxy.assembly import RouteInfo
from proxy.chain import ControlRefused
from proxy.server import Server
from tests.cache.test_control import administered, get
from tests.contract.road import ModelServer, client, post, remora

from .stage import QUICK, A, B, Stage


async def shown(stage: Stage) -> dict[tuple[str, str], dict[str, object]]:
    controls = stage.env.controls
    told = controls.told("circuit_breaker", [controls.show("circuit_breaker")])
    return {(one["route"], one["endpoint"]): one for one in told["circuits"]}


async def act(stage: Stage, action: str, **query: str) -> dict[str, object]:
    return await stage.env.controls.act("circuit_breaker", action, query)


async def test_what_it_tells() -> None:
    """Of each circuit its state, what its window holds, and when it is tried again."""
    stage = await Stage(A, B).start()
    await stage.ask()
    await stage.fail(2)
    circuits = await shown(stage)
    assert circuits["r", A] == {
        "route": "r", "upstream": "default", "endpoint": A, "state": {"closed": 1}, "held": 0,
        "calls": 3, "failures": 2, "slow": 0, "in_a_row": 2, "retry_in": 0.0,
    }  # fmt: skip
    await stage.fail(3)
    stage.now += 1.5
    circuits = await shown(stage)
    assert list(circuits) == [("r", A), ("r", B)], "those that are not closed come first"
    assert (circuits["r", A]["state"], circuits["r", A]["retry_in"]) == ({"open": 1}, 3.5)


async def test_workers_are_added_up() -> None:
    """One entry for a circuit, with the number of workers in each state."""
    first, second = await Stage(**QUICK).start(), await Stage(**QUICK).start()
    await first.ask()
    await second.fail()
    controls = first.env.controls
    parts = [one.env.controls.show("circuit_breaker") for one in (first, second)]
    (one,) = controls.told("circuit_breaker", parts)["circuits"]
    assert one["state"] == {"closed": 1, "open": 1}
    assert (one["calls"], one["retry_in"]) == (1, 5.0)


async def test_by_hand() -> None:
    """Held open until it is closed, also an endpoint that nobody has asked for yet; closing takes
    effect at once.
    """
    stage = await Stage(A, B).start()
    assert await act(stage, "open", endpoint=A) == {"opened": 1}
    stage.now += 1000
    await stage.ask()
    assert stage.chosen == [B]
    assert (await shown(stage))["r", A]["held"] == 1
    assert await act(stage, "open", route="r") == {"opened": 2}
    with pytest.raises(CircuitOpen) as caught:
        await stage.ask()
    assert caught.value.retry_after == 60
    assert await act(stage, "close", endpoint=B, upstream="default") == {"closed": 1}
    await stage.ask()
    assert await act(stage, "close", all="1") == {"closed": 2}
    await stage.ask()
    assert stage.chosen == [B, B, A]
    assert await act(stage, "open", route="other") == {"opened": 0}
    assert await act(stage, "close", endpoint="http://none:1") == {"closed": 0}


async def test_closing_by_hand_what_had_opened_by_itself() -> None:
    """The next requests are let through, and judged anew."""
    stage = await Stage(**QUICK).start()
    await stage.fail()
    await act(stage, "close", route="r")
    await stage.fail()
    assert stage.circuit().state == "open"


@pytest.mark.parametrize(("scope", "where"), [("route", {"route": "r"}), ("upstream", {})])
async def test_where_endpoints_have_none_of_their_own(scope: str, where: dict[str, str]) -> None:
    """The route's or the upstream's is meant; an endpoint names nothing."""
    stage = await Stage(scope=scope).start()
    assert await act(stage, "open", endpoint=A) == {"opened": 0}
    assert await act(stage, "open", upstream="default", **where) == {"opened": 1}
    with pytest.raises(CircuitOpen):
        await stage.ask()
    assert await act(stage, "close", all="1") == {"closed": 1}
    await stage.ask()


@pytest.mark.parametrize(
    ("action", "query"),
    [("shut", {"all": "1"}), ("open", {}), ("open", {"all": "yes"}), ("open", {"host": "a"}),
     ("open", {"route": ""}), ("open", {"all": "1", "route": "r"})],
)  # fmt: skip
async def test_what_is_refused(action: str, query: dict[str, str]) -> None:
    """What is not known is told with what is, and nothing is done."""
    stage = await Stage().start()
    await stage.ask()
    with pytest.raises(ControlRefused, match=r"POST /circuit_breaker/open|\?all=1"):
        await stage.env.controls.act("circuit_breaker", action, query)
    assert stage.circuit().state == "closed"


async def test_metrics() -> None:
    """States, changes and probes of each circuit; requests refused, of each route."""
    stage = await Stage(**QUICK).start()
    stage.layer.bind(RouteInfo("quiet", "default"), stage._balance)
    labels = {"route": "r", "upstream": "default", "endpoint": A}
    await stage.ask()
    assert stage.sample("state", **labels, state="closed") == 1
    await stage.fail()
    for _ in range(3):
        with pytest.raises(CircuitOpen):
            await stage.ask()
    states = [stage.sample("state", **labels, state=one) for one in ("closed", "half-open", "open")]
    assert states == [0, 0, 1]
    stage.now += 5
    await stage.ask()
    changes = {one: stage.sample("transitions_total", **labels, to=one)
               for one in ("closed", "half-open", "open")}  # fmt: skip
    assert changes == {"closed": 1, "half-open": 1, "open": 1}
    assert stage.sample("probes_total", **labels) == 1
    assert stage.sample("refused_total", route="r", upstream="default") == 3
    assert stage.sample("refused_total", route="quiet", upstream="default") == 0
    assert stage.sample("fallbacks_total", route="r", upstream="default") == 0


async def test_on_the_admin_port() -> None:
    """As an operator has it: opened by hand, a client gets 503 at once; closed, it is served."""

    async def asked(server: Server) -> bytes:
        async with client(server) as user:
            await user.send(post("/v1/embeddings"))
            return (await user.read_answer())[0].partition(b"\r\n")[0]

    async with (
        ModelServer().listening() as model,
        remora(model.url, ["circuit_breaker"]) as server,
        administered(server) as address,
    ):
        path = f"/circuit_breaker/open?endpoint={model.url}"
        assert await get(address, path, "POST") == (200, {"opened": 1})
        assert await asked(server) == b"HTTP/1.1 503 Service Unavailable"
        status, told = await get(address, "/circuit_breaker")
        assert status == 200 and told["circuits"][0]["state"] == {"open": 1}
        assert told["routes"] == {"/*": {"refused": 1, "fell_back": 0}}
        assert json.dumps(told).count(model.url) == 1
        assert await get(address, "/circuit_breaker/close?all=1", "POST") == (200, {"closed": 1})
        async with client(server) as user:
            await user.send(post("/v1/embeddings"))
            await (await model.asked()).answer(b"{}")
            assert (await user.read_answer())[0].startswith(b"HTTP/1.1 200 ")
