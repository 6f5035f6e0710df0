"""The files of conf/: each loads as it stands, and keeps what its comments say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from middleware.core.quota import parse_limits
from proxy.config import Config
from proxy.loader import load, load_text

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "conf").glob("*.yaml"))
SERVERS = ("vllm", "tgi", "tei", "triton", "llamacpp", "kserve")
"""Files for one server of a kind."""
LANGUAGE = ("vllm", "tgi", "llamacpp", "gateway")


def conf(name: str, **environment: str) -> Config:
    return load(ROOT / "conf" / f"{name}.yaml", environment)


def chains(file: Config) -> Iterator[list[Any]]:
    """Every chain of a file, the top one first."""
    yield list(file.chain)
    for route in file.routes:
        if route.chain is not None:
            yield list(route.chain)


def layers(name: str) -> dict[str, Any]:
    """Keys of each layer of a file's top chain; of two with a name, the first one's."""
    found: dict[str, Any] = {}
    for one in conf(name).chain:
        found.setdefault(one.name, one.config)
    return found


def through(file: Config) -> set[str]:
    """Paths of the routes with nothing between client and server."""
    return {
        route.match.path for route in file.routes if route.chain is not None and not route.chain
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_loads_with_nothing_in_the_environment(path: Path) -> None:
    """What it takes from there has a default."""
    assert load(path, {}).upstreams["default"].endpoints


def order() -> list[str]:
    """The layers in the order of docs/order.md."""
    page = (ROOT / "docs" / "order.md").read_text()
    return re.findall(r"^\| \[(\w+)\]\(", page, re.MULTILINE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_chains_are_in_the_order_of_the_page(path: Path) -> None:
    """docs/order.md has one order, and every file keeps it."""
    places = {name: place for place, name in enumerate(order())}
    for chain in chains(load(path, {})):
        at = [places[one.name] for one in chain]
        assert at == sorted(at), [one.name for one in chain]


def test_the_page_has_an_order_that_every_layer_accepts() -> None:
    """A chain of all of them, as docs/order.md has them, is not refused."""
    *names, balance = order()
    assert balance == "balance"
    file = "upstreams: {default: {endpoints: ['http://127.0.0.1:8000']}}\nchain: "
    assert [one.name for one in load_text(f"{file}[{', '.join(names)}]", "all", {}).chain] == names


@pytest.mark.parametrize("name", SERVERS)
def test_what_watches_the_server_sees_the_server(name: str) -> None:
    """Health and metrics pass with no layer, before the routes that have some."""
    file = conf(name)
    open_ = through(file)
    assert "/metrics" in open_
    assert open_ & {"/health", "/v2/health/*"}
    assert all(route.api == "plain" for route in file.routes if route.match.path in open_)


@pytest.mark.parametrize("name", SERVERS)
def test_it_bounds_what_waits_and_leaves_a_sick_server_alone(name: str) -> None:
    """Every chain ends with `concurrency` and `circuit_breaker`; nobody is refused for a number
    that nobody chose: there is no `rate_limit` and no `auth`."""
    for chain in chains(conf(name)):
        names = [one.name for one in chain]
        if names:
            assert names[0] == "access_log" and names[-2:] == ["concurrency", "circuit_breaker"]
            assert not {"rate_limit", "auth", "retry"} & set(names)


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_generation_in_one_piece_is_not_slow(name: str) -> None:
    """The first byte of an answer that is not streamed comes when all of it is computed."""
    breaker = layers(name)["circuit_breaker"]
    assert breaker.slow_ratio is None or breaker.slow_after >= 60
    timeouts = conf(name).upstreams["default"].timeouts
    assert timeouts.first_byte is not None and timeouts.first_byte > breaker.slow_after
    assert timeouts.total is None


def test_only_where_the_server_does_not_batch_is_anything_merged() -> None:
    """One model of Triton, KServe's v1, and the file that is for it."""
    merged = {
        path.stem
        for path in FILES
        for chain in chains(load(path, {}))
        if any(one.name == "aggregate" for one in chain)
    }
    assert merged == {"aggregate", "kserve", "triton"}
    (route,) = [one for one in conf("triton", MODEL="bert").routes if one.match.methods]
    assert route.match.path == "/v2/models/bert/infer"


@pytest.mark.parametrize(
    ("name", "statuses"), [("llamacpp", {500, 501}), ("triton", {500}), ("kserve", {500})]
)
def test_a_wrong_request_does_not_shut_out_others(name: str, statuses: set[int]) -> None:
    """Where the server answers 500 to what a client did wrong, that says nothing of the server."""
    for chain in chains(conf(name)):
        for one in chain:
            if one.name == "circuit_breaker":
                assert set(one.config.neutral) == {429, 503} | statuses


def test_the_gateway_knows_nobody_until_it_is_told() -> None:
    """Keys are digests from the environment, and the defaults are digests of nothing."""
    keys = layers("gateway")["auth"].keys
    assert [int(key.sha256, 16) for key in keys] == [1, 2]
    assert all(key.key is None and key.file is None for key in keys)
    told = conf("gateway", SEARCH_KEY_SHA256="a" * 64).chain[1].config
    assert told.keys[0].sha256 == "a" * 64  # type: ignore[attr-defined]


def test_the_gateway_shares_what_replicas_of_it_must_agree_on() -> None:
    """Limits, answers and open circuits are in Redis; a key's own limits are of requests alone."""
    chain = conf("gateway").chain
    shared = [one.name for one in chain if "redis" in str(getattr(one.config, "store", ""))]
    assert shared == ["rate_limit", "rate_limit", "circuit_breaker"]
    assert layers("gateway")["cache"].stores == ["memory", "redis"]
    limits = [one.config for one in chain if one.name == "rate_limit"]
    assert [(one.cost, one.own_limits) for one in limits] == [("requests", True), ("tokens", False)]
    for key in layers("gateway")["auth"].keys:
        for limit in key.limits or ():
            assert parse_limits(limit)
