"""The bench itself works: it runs, verifies what it measures, and reports what it could not."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.bench import costs, hits, load, report, wire
from tests.bench.layers import Noop
from tests.bench.peers import Running, free_port
from tests.bench.scenarios import Column, Row, Table

ROOT = Path(__file__).parents[1]
LIMIT = 50
"""Seconds that a quick run may take."""


def test_a_quick_run_fills_every_table(tmp_path: Path) -> None:
    """`--quick` measures remora and the naive proxy in every scenario and writes page and chart."""
    figures = tmp_path / "figures.json"
    words = ["--quick", "--only", "remora,naive", "--out", tmp_path, "--json", figures]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench", *map(str, words)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        printed, told = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.terminate()  # it stops its proxies
        pytest.fail(f"no end within {LIMIT} s: {process.communicate()[1]}")
    assert process.returncode == 0, told

    tables = json.loads(figures.read_text())["tables"]
    assert list(tables) == ["pass", "sse", "idle", "layers", "cache", "costs", "merging"]
    for name in ("pass", "sse", "idle"):
        assert list(tables[name]) == ["naive", "remora"]
    assert len(tables["layers"]) == 3
    assert list(tables["cache"]) == [hits.GET, hits.POST, hits.REDIS]
    assert list(tables["costs"]) == list(costs.LAYERS)
    assert tables["cache"][hits.REDIS].pop("helper")[0] >= 0
    for row in (row for table in tables.values() for row in table.values()):
        assert isinstance(row, dict), row
        assert all(len(values) == 1 and math.isfinite(values[0]) for values in row.values())
    assert all(row["cpu"][0] > 0 for row in tables["pass"].values())
    # 64 streams of 500 events a second: a proxy that loses events does not get here at all.
    assert all(row["rate"][0] > 1000 for row in tables["sse"].values())

    page = (tmp_path / "bench.md").read_text()
    assert page == printed
    assert page.count("\n| remora |") == 5  # the head of the targets, and a row in each table
    assert page.count("\n| naive |") == 3
    assert ElementTree.parse(tmp_path / "bench.svg").findall(".//{*}rect[@class='own']")


def test_a_proxy_that_is_absent_is_a_row_that_says_why() -> None:
    """A failed row keeps its place and its reason in the page, and has no bar in the chart."""
    absent = Row("nginx", failed="not installed: apt-get install nginx-light")
    rows = [absent, Row("remora", {"cpu": [20.0, 30.0, 22.0]})]
    tables = {"pass": Table("pass", "A & B", (Column("cpu", "CPU us", 1),), rows)}
    page = report.markdown(tables, {})
    assert "| nginx | no result: not installed: apt-get install nginx-light |" in page
    assert "| remora | 22.0 (20.0 to 30.0) | - | - |" in page
    chart = ElementTree.fromstring(report.svg(tables))
    assert "nginx" not in "".join(chart.itertext())


@pytest.mark.parametrize(
    "answer",
    [
        wire.ANSWER.replace(b"200 OK", b"502 Bad Gateway"),
        wire.ANSWER.replace(b"assistant", b"ASSISTANT"),
        wire.ANSWER.replace(b"Length: 437", b"Length: 436"),
    ],
    ids=["status", "body", "length"],
)
async def test_the_load_refuses_a_wrong_answer(answer: bytes) -> None:
    """A status, a body or a length that is not the backend's ends that proxy's measurement."""

    class Wrong(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(answer)

    server = await asyncio.get_running_loop().create_server(Wrong, "127.0.0.1", 0)
    target = load.Target(server.sockets[0].getsockname()[1])
    args = argparse.Namespace(
        kind="pass", target=[target], backend=0, connections=1, seconds=0.2, warmup=0.1
    )
    try:
        (result,) = await load.main(args)
    finally:
        server.close()
    assert result["error"].startswith("WrongAnswerError: not the backend's")


async def test_a_hit_that_the_backend_hears_of_is_none(tmp_path: Path) -> None:
    """What asks the backend in the measured window has no figure, right though its answers are."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.backend", str(port)]
    running = Running(command, port, min(os.sched_getaffinity(0)), tmp_path / "backend.log")
    args = argparse.Namespace(
        kind="hits", target=[load.Target(port, request="page")], backend=0, counter=port,
        connections=1, seconds=0.2, warmup=0.1,
    )  # fmt: skip
    try:
        (result,) = await load.main(args)
    finally:
        running.stop()
    assert "requests: these were no hits" in result["error"]


def test_the_bench_sends_what_it_says() -> None:
    """The requests carry 385 bytes of JSON and the answer 437, as the page says; each connection
    asks a cache for something of its own.
    """
    calls = [wire.request(), wire.request(stream_events=1234)]
    calls += [wire.REQUESTS["embeddings"](number) for number in (0, 31)]
    for request in calls:
        body = request.partition(b"\r\n\r\n")[2]
        assert len(body) == 385
        assert json.loads(body)["model"] == "tiny"
    assert len(set(calls)) == len(calls)
    assert wire.REQUESTS["page"](0) != wire.REQUESTS["page"](31)
    assert wire.PAGE.endswith(wire.ANSWER_BODY)
    assert len(json.dumps(json.loads(wire.ANSWER_BODY), separators=(",", ":"))) == 437


def test_the_no_op_layer_is_out_of_the_handler_when_off() -> None:
    """`on: false` gives back the same handler; else a new one."""

    async def upstream(request: Any) -> Any:
        return request

    env: Any = None
    assert Noop(Noop.Config(on=False), env).bind(env, upstream) is upstream
    assert Noop(Noop.Config(), env).bind(env, upstream) is not upstream
