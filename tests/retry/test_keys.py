"""The keys of `retry`, and where the layer stands."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from middleware.core.budget import RetryBudget
from middleware.core.latencies import KEPT
from middleware.retry import Retry
from middleware.retry.config import HedgeKeys, RetryConfig
from proxy.assembly import RouteInfo
from proxy.chain import ChainOrder, check_order
from proxy.env import Env
from proxy.exchange import Request, Response
from proxy.file.schema import schema
from proxy.loader import ConfigError, load_text
from proxy.telemetry import Telemetry

FILE = "upstreams: {{default: {{endpoints: ['http://127.0.0.1:1']}}}}\nchain: {}\n"


def read(keys: str) -> RetryConfig:
    config = load_text(FILE.format(f"[{{retry: {{{keys}}}}}]"), "x.yaml", {}).chain[0].config
    assert isinstance(config, RetryConfig)
    return config


def test_defaults() -> None:
    """Three attempts, 50 ms and half as much again, a fifth of the requests, no hedge."""
    config = read("")
    assert config.attempts == 3
    assert config.on == ["connect", "reset", "stream", 502, 503, 504]
    assert (config.backoff.first, config.backoff.factor, config.backoff.cap) == (0.05, 1.5, 1.0)
    assert (config.budget.ratio, config.budget.window, config.budget.floor) == (0.2, 10.0, 10)
    assert (config.hedge, config.timeout) == ("off", None)


def test_the_reference_shows_every_key() -> None:
    """In a comment of conf/reference.yaml each key stands with its default."""
    text = (Path(__file__).parents[2] / "conf" / "reference.yaml").read_text()
    (shown,) = re.findall(r"^# (- retry:.*\n(?:#     .*\n)+)", text, re.MULTILINE)
    lines = [line.removeprefix("# ") for line in shown.splitlines()]
    chain = "\n".join(f"  {line}" for line in lines)
    config = load_text(FILE.format(f"\n{chain}"), "x.yaml", {}).chain[0].config
    assert config == RetryConfig()
    for part in (config, config.backoff, config.budget):
        assert part.model_fields_set == set(type(part).model_fields)


@pytest.mark.parametrize(
    ("keys", "quantile", "seconds"),
    [("{}", 0.95, None), ("{after: p50}", 0.5, None), ("{after: 200ms}", None, 0.2)],
)
def test_when_a_hedge_is_sent(keys: str, quantile: float | None, seconds: float | None) -> None:
    """Behind a quantile, p95 by default, or a time."""
    hedge = read(f"hedge: {keys}").hedge
    assert isinstance(hedge, HedgeKeys)
    assert hedge.quantile == quantile
    if seconds is not None:
        assert hedge.seconds == seconds


@pytest.mark.parametrize("off", ["off", "'off'", "false"])
def test_off(off: str) -> None:
    """`off` in each of its forms, to the loader and to the schema."""
    assert read(f"hedge: {off}").hedge == "off"
    keys = {"hedge": False if off != "'off'" else "off", "timeout": "off"}
    assert complaints(keys) == []


def complaints(keys: dict[str, Any]) -> list[str]:
    file = {"upstreams": {"default": {"endpoints": ["http://127.0.0.1:1"]}}}
    file["chain"] = [{"retry": keys}]  # type: ignore[assignment]
    validator = jsonschema.Draft202012Validator(schema())
    return [error.json_path for error in validator.iter_errors(file)]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("attempts: 0", "chain[0].retry.attempts: 1 or more is expected"),
        ("attempts: 11", "chain[0].retry.attempts: 10 or less is expected"),
        ("on: [conect]", "chain[0].retry.on[0]"),
        ("on: [404]", "chain[0].retry.on[0]"),
        ("backoff: {first: 5}", "a bare number has no unit"),
        ("backoff: {factor: 0.5}", "1 or more is expected"),
        ("backoff: {jitter: 2}", "1 or less is expected"),
        ("budget: {ratio: -1}", "0 or more is expected"),
        ("budget: {window: 0s}", "more than 0 is expected"),
        ("hedge: {after: p0}", "is not a duration"),
        ("hedge: {after: p100}", "is not a duration"),
        ("hedge: {after: 0s}", "more than 0 is expected"),
        ("hedge: {after: 5}", "write p95 or 200ms"),
        ("hedge: {min_calls: 0}", "1 or more is expected"),
        (f"hedge: {{min_calls: {KEPT + 1}}}", f"{KEPT} or less is expected"),
        ("backoff: {first: 1001ms}", "`first` is over `cap`"),
        ("attempts: 1, hedge: {}", "`hedge` needs `attempts` of 2 or more"),
        ("repeat: never", "idempotent or all is expected"),
        ("first_event: off", "is not a duration"),
        ("retries: 3", "retries"),
    ],
)
def test_mistakes(keys: str, told: str) -> None:
    """Each is refused with its place and what is expected there."""
    with pytest.raises(ConfigError) as caught:
        read(keys)
    assert told in str(caught.value)


def test_the_schema_takes_every_form() -> None:
    """What the file may say, an editor does not underline."""
    good = {
        "on": ["connect", 503], "backoff": {"first": "1s"}, "budget": {"floor": 0},
        "hedge": {"after": "p90"}, "timeout": "3s",
    }  # fmt: skip
    assert complaints(good) == []
    assert complaints({"hedge": {"after": "p100"}}) == ["$.chain[0]"]
    assert complaints({"on": [418]}) == ["$.chain[0]"]


@pytest.mark.parametrize("other", Retry.after)
def test_it_stands_inside(other: str) -> None:
    """Of what answers or refuses by itself."""
    check_order([other, "retry"], [Other, Retry])
    with pytest.raises(ChainOrder, match="must come after"):
        check_order(["retry", other], [Retry, Other])


def test_it_stands_outside_of_the_breaker() -> None:
    """So that each attempt passes it; and once."""
    check_order(["retry", "circuit_breaker"], [Retry, Other])
    with pytest.raises(ChainOrder, match="must come before"):
        check_order(["circuit_breaker", "retry"], [Other, Retry])
    with pytest.raises(ChainOrder, match="only once"):
        check_order(["retry", "retry"], [Retry, Retry])


class Other:
    """A layer that asks for no place."""


async def next_one(request: Request) -> Response:
    raise AssertionError("nobody calls this")


@pytest.mark.parametrize("keys", [{"enabled": False}, {"attempts": 1}])
async def test_off_it_is_not_there(keys: dict[str, Any]) -> None:
    """Switched off, or with one attempt in all, `bind` gives back what it got."""
    layer = Retry(RetryConfig(**keys), Env(asyncio.get_running_loop(), Telemetry()))
    assert layer.bind(RouteInfo("r", "default"), next_one) is next_one


async def test_a_budget_is_an_upstreams() -> None:
    """Routes of a chain that lead to one upstream share its budget; others have their own."""
    layer = Retry(RetryConfig(), Env(asyncio.get_running_loop(), Telemetry()))
    bound = [
        layer.bind(RouteInfo(name, upstream), next_one)
        for name, upstream in (("a", "one"), ("b", "one"), ("c", "two"))
    ]
    budgets: list[RetryBudget] = [handler.__self__._budget for handler in bound]  # type: ignore[attr-defined]
    assert budgets[0] is budgets[1]
    assert budgets[0] is not budgets[2]
