"""The wheel, and the command it installs, run with nothing else of this project on the path."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as the Dockerfile builds it."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel and its dependencies, and without this tree."""
    folder = tmp_path_factory.mktemp("image") / "remora"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    command += ["--disable-pip-version-check", "--no-index", "--no-deps", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
    # A path in a .pth is searched last and its own .pth files are not read, so neither this tree
    # nor its editable install is found through it: only the dependencies are.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def bare() -> Mapping[str, str]:
    """An environment in which nothing points at this tree."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "COV", "REMORA"))}  # fmt: skip


def test_the_wheel_holds_both_packages_and_nothing_else(wheel: Path) -> None:
    """Every module of proxy/ and middleware/ is in it, and no test, document or cache."""
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT))
               for package in ("proxy", "middleware")
               for path in (ROOT / package).rglob("*.py")}  # fmt: skip
    assert modules <= names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"proxy", "middleware", f"remora-{PROJECT['version']}.dist-info"}
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_carries_the_command_the_licence_and_the_dependencies(wheel: Path) -> None:
    """`remora` is proxy.cli:main; the metadata asks for what pyproject.toml asks for."""
    with zipfile.ZipFile(wheel) as archive:
        info = f"remora-{PROJECT['version']}.dist-info"
        entry = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
        assert f"{info}/licenses/LICENSE" in archive.namelist()
    assert re.search(r"^remora *= *proxy\.cli:main$", entry, re.MULTILINE)
    wanted = {re.split(r"[<>=!~;\[ ]", each)[0] for each in PROJECT["dependencies"]}
    asked = {re.split(r"[<>=!~;\[ ]", line.removeprefix("Requires-Dist: "))[0]
             for line in metadata.splitlines()
             if line.startswith("Requires-Dist: ") and "extra ==" not in line}  # fmt: skip
    assert asked == wanted


def test_the_installed_command_runs_without_this_tree(installed: Path, tmp_path: Path) -> None:
    """`remora --version` works from the wheel alone, imported from where it was installed."""
    found = subprocess.run(
        [installed / "python", "-c", "import proxy, middleware; print(proxy.__file__)"],
        cwd=tmp_path, env=bare(), capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert Path(found.stdout.strip()).is_relative_to(installed.parent)
    done = subprocess.run(
        [installed / "remora", "--version"],
        cwd=tmp_path, env=bare(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert PROJECT["version"] in done.stdout


def test_the_installed_command_serves_and_ends_as_a_container_does(
    installed: Path, tmp_path: Path
) -> None:
    """Two workers serve, the probes answer, SIGTERM ends all with 0, and no file is left behind.

    TMPDIR stands for the image's /tmp; the rest of its root is read-only.
    """
    listen, admin = free_port(), free_port()
    file = tmp_path / "remora.yaml"
    file.write_text(
        f"listen: 127.0.0.1:{listen}\n"
        f"admin: 127.0.0.1:{admin}\n"
        "workers: 2\n"
        "upstreams: {default: {endpoints: ['http://127.0.0.1:9']}}\n"
        "drain: {quiet: 0s, timeout: 1s}\n"
    )
    root, tmp = tmp_path / "root", tmp_path / "tmp"
    root.mkdir()
    tmp.mkdir()
    before = files(installed.parent)
    environ = {**bare(), "HOME": str(root), "TMPDIR": str(tmp), "PYTHONDONTWRITEBYTECODE": "1"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [installed / "remora", "serve", "-c", file],
            cwd=root, env=environ, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        for probe in ("/healthz", "/readyz", "/metrics"):
            wait_for(f"http://127.0.0.1:{admin}{probe}", process, tmp_path / "log")
        # One worker answers for both: the other may still be starting.
        while (tmp_path / "log").read_text().count("serving on") < 2:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, (tmp_path / "log").read_text()
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    assert files(root) == files(tmp) == {}
    assert files(installed.parent) == before


def files(folder: Path) -> dict[Path, int]:
    """When each file below `folder` was last changed."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until `url` answers 200; a process that ended or 20 s are a failure."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{url} did not answer:\n{log.read_text()}")
