"""A bench that is told to end leaves nothing running."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench import cpu

ROOT = Path(__file__).parents[1]
LIMIT = 30.0
"""Seconds that starting or stopping may take on a busy machine."""

BENCHES = (
    "tests.bench --quick --only naive --scenario idle --no-write",
    "tests.bench.aggregate --only remora --concurrency 1 --seconds 60",
    "tests.bench.costs",
    "tests.bench.merge numpy --concurrency 1 --seconds 60",
    "tests.bench.overload",
)


def wait_for(what: Callable[[], bool], why: str) -> None:
    limit = time.monotonic() + LIMIT
    while not what():
        if time.monotonic() > limit:
            pytest.fail(why)
        time.sleep(0.02)


@pytest.mark.parametrize("words", BENCHES, ids=lambda words: words.split()[0].split(".")[-1])
def test_a_sigterm_ends_what_it_started(words: str) -> None:
    """Servers and proxies among them, whatever it was doing."""
    bench = subprocess.Popen(
        [sys.executable, "-m", *words.split()], cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    started: list[int] = []

    def has_started() -> bool:
        # Seen twice: by then the bench itself knows of it, too.
        before, started[:] = started[:], cpu.tree(bench.pid)[1:]
        return bool(set(before) & set(started))

    try:
        wait_for(has_started, "it started nothing")
        bench.terminate()
        assert bench.wait(LIMIT) == 143
        wait_for(lambda: not any(map(cpu.alive, started)), "what it started still runs")
    finally:
        bench.kill()
        bench.wait()
