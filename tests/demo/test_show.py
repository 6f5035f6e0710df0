"""`remora demo`, as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.demo import repeats

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-m", "proxy", "demo"]


def environment(tmp_path: Path, **modules: str) -> dict[str, str]:
    """Variables for the demo: temporary files in `tmp_path`, and `modules` in place of others."""
    folder = tmp_path / "modules"
    folder.mkdir()
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    (tmp_path / "tmp").mkdir()
    return {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "TMPDIR": str(tmp_path / "tmp")}


def left_running(tmp_path: Path) -> list[str]:
    """Command lines of processes that still name the demo's temporary folder."""
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in lines.stdout.splitlines() if str(tmp_path / "tmp") in line]


def test_every_step_on_llama_cpp(model: Path, tmp_path: Path) -> None:
    """The demo ends with 0, shows each step, and leaves neither file nor process."""
    run = subprocess.run(
        DEMO, capture_output=True, text=True, env=environment(tmp_path), timeout=50
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.findall(r"^\[(\d)/9\]", run.stdout, re.M) == list("123456789")
    assert "llama.cpp: http://127.0.0.1:" in run.stdout
    assert re.search(r"stopped generating \d+\.\d ms later", run.stdout)
    assert re.search(r"remora added -?\d+\.\d\d ms", run.stdout)
    generated = [int(number) for number in re.findall(r"answers/s, (\d+) generated", run.stdout)]
    assert generated[0] == repeats.REQUESTS
    assert generated[1] == len(set(repeats.workload())), "each prompt was asked once, and once only"
    assert "every answer is the one that the model gave without the cache" in run.stdout
    merged = [float(size) for size in re.findall(r"([\d.]+) texts a call", run.stdout)]
    assert merged[0] == 1.0 < merged[1]
    assert re.search(r"computed alone: no number differs by more than \de-\d\d", run.stdout)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert left_running(tmp_path) == []


def test_the_stand_in_where_there_is_no_wheel(tmp_path: Path) -> None:
    """Without xllamacpp the demo says so and runs the same steps on the stand-in."""
    env = environment(tmp_path, xllamacpp="raise ImportError('no wheel for this machine')")
    run = subprocess.run(DEMO, capture_output=True, text=True, env=env, timeout=50)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "llama.cpp cannot run here: ImportError: no wheel for this machine" in run.stdout
    assert "the stand-in: http://127.0.0.1:" in run.stdout
    assert re.findall(r"^\[(\d)/9\]", run.stdout, re.M) == list("123456789")


def test_a_failure_is_told_and_cleaned_up(model: Path, tmp_path: Path) -> None:
    """A server that cannot start ends the demo with 1, its words on stderr, nothing left."""
    env = environment(
        tmp_path,
        xllamacpp="class CommonParams:\n  def __init__(self): raise SystemExit('out of luck')",
    )
    run = subprocess.run(DEMO, capture_output=True, text=True, env=env, timeout=50)
    assert run.returncode == 1
    assert "the demo failed: llama.cpp ended with status 1" in run.stderr
    assert "out of luck" in run.stderr
    assert "Traceback" not in run.stderr
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cleans_up(
    model: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """Ctrl-C and SIGTERM end the demo with 128 + the signal, and nothing is left."""
    demo = subprocess.Popen(
        DEMO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(tmp_path),
    )
    with demo:
        assert demo.stdout is not None
        try:
            for line in demo.stdout:
                if "llama.cpp: http" in line:
                    break
            demo.send_signal(number)
            rest = demo.stdout.read()
            assert demo.wait(20) == status, rest
        finally:
            demo.kill()
    assert "everything it started is stopped" in rest
    assert list((tmp_path / "tmp").iterdir()) == []
    deadline = time.monotonic() + 20
    while left_running(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_running(tmp_path) == []
