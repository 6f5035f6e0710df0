"""The bench of merging works: it runs, checks what it measures, and asks what it says it asks."""

from __future__ import annotations

import asyncio
import itertools
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.bench.askers import Loop, Seen, WrongAnswerError
from tests.bench.workload import Again, request
from tests.conftest import UpstreamMaker
from tests.real.models import MODELS, text
from tests.road.scripted import answering
from tests.road.wire import ok

ROOT = Path(__file__).parents[1]


def test_a_quick_run_has_every_row() -> None:
    """The project's encoder direct, merged and in batches, and the workload that repeats itself."""
    words = ["numpy", "--rounds", "1", "--seconds", "1", "--concurrency", "8", "--repeats", "0.5"]
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench.merge", *words],
        capture_output=True, text=True, cwd=ROOT, timeout=45,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    rows = re.findall(r"^   8 (.{16}) +[\d,.]+ +[\d.]+ +\(.*\) ", run.stdout, re.M)
    first = ["direct", "aggregate", "client batches"]
    again = ["direct", "aggregate", "cache", "cache, aggregate"]
    assert [row.strip() for row in rows] == first + again
    assert re.search(r"hit ratio \d+\.\d%; bound ", run.stdout)


def test_a_share_of_requests_comes_again_the_old_ones_most() -> None:
    """Whatever is asked first comes most often, and new questions are the rest."""
    asked = Counter(itertools.islice(iter(Again(MODELS["numpy"], 0.4, 1)), 5000))
    assert len(asked) == pytest.approx(3000, rel=0.05)
    often = [count for _, count in asked.most_common()]
    assert often[0] > 5 * often[20] > 10
    first = request("/embed", {"inputs": text(10_000_000)})
    assert asked[first] == often[0]


def test_latencies_and_calls_are_added_up() -> None:
    """Two rounds are one longer round: rate over both, percentiles over all answers."""
    total = Seen()
    total.add(Seen(took=1.0, things=10, seconds=[0.001] * 10, calls=10))
    total.add(Seen(took=3.0, things=90, seconds=[0.002] * 90, calls=10, known=5))
    assert (total.rate, total.calls, total.known) == (25.0, 20, 5)
    assert (total.percentile(5), total.percentile(50), total.percentile(99)) == (1.0, 2.0, 2.0)


@pytest.mark.parametrize("status", ["422 Unprocessable Entity", "503 Service Unavailable"])
async def test_an_error_ends_the_run(upstream: UpstreamMaker, status: str) -> None:
    """What is not a 200 is no throughput."""
    server = await upstream(answering(ok(b"no", status=status)))
    loop = Loop(server.address[1], itertools.repeat(request("/embed", {"inputs": "a"})))
    await loop.open(2)
    try:
        with pytest.raises(WrongAnswerError, match=status):
            await loop.run(0.0, 0.05, lambda: 0.0)
    finally:
        loop.close()
        await asyncio.sleep(0)
