"""`python -m tests.bench.aggregate` measures what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.aggregate import BATCHES, MS_PER_TEXT, milliseconds

ROOT = Path(__file__).parents[2]


def test_a_short_run() -> None:
    """Every answer is checked against its own text, with the layer and without, in each form."""
    arms = {"tei": ["direct", "remora", "aggregate", "batches"], "openai": ["aggregate"]}
    for form, names in (arms | {"kserve": ["aggregate"]}).items():
        words = ["--form", form, "--concurrency", "8", "--seconds", "0.2", "--slow", "0.1"]
        words += ["--only", ",".join(names)]
        command = [sys.executable, "-m", "tests.bench.aggregate", *words]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)
        assert run.returncode == 0, run.stderr
        rows = re.findall(r"^(\w+) +8 +([0-9.]+)", run.stdout, re.MULTILINE)
        assert [name for name, _ in rows] == names
        assert all(float(rate) > 0 for _, rate in rows)


def test_the_scripted_server_is_as_slow_as_it_was_measured() -> None:
    """At each measured batch; between them no larger batch is faster."""
    for size, each in zip(BATCHES, MS_PER_TEXT, strict=True):
        assert milliseconds(size) == pytest.approx(size * each)
    told = [milliseconds(size) for size in range(1, 65)]
    assert told == sorted(told)
