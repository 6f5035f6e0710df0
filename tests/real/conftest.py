"""Servers and clients of their own environments, and remora in front, each a child process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .environments import Environment, InstallFailed
from .processes import Server, free_port

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

Install = Callable[[Environment], Path]
Run = Callable[[Server], Server]
Proxy = Callable[[str], Server]
Client = Callable[..., Any]


@pytest.fixture(scope="session")
def install(request: pytest.FixtureRequest) -> Install:
    """The Python of an environment, made on first use with pip's progress on the terminal."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def python_of(environment: Environment) -> Path:
        if not environment.ready:
            try:
                with capture.global_and_fixture_disabled():
                    environment.install()
            except InstallFailed as failed:
                pytest.fail(str(failed), pytrace=False)
        return environment.python

    return python_of


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Start a Server; it is ended after the module, the last one first."""
    with contextlib.ExitStack() as started:
        yield started.enter_context


@pytest.fixture(scope="module")
def proxy(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Proxy:
    """remora in front of an upstream's URL, as `remora serve --upstream` runs it."""

    def in_front_of(upstream: str) -> Server:
        port = free_port()
        command = [sys.executable, "-m", "proxy", "serve", "--upstream", upstream]
        command += ["--listen", f"127.0.0.1:{port}", "--admin", "off"]
        log = tmp_path_factory.mktemp("remora") / "log"
        return run(Server(command, port, log, environ={"PYTHONPATH": str(ROOT)}))

    return in_front_of


@pytest.fixture
def client(install: Install) -> Client:
    """Run tests/real/clients/SCRIPT in its own environment; gives the JSON that it printed."""

    def ask(environment: Environment, script: str, *arguments: str) -> Any:
        command = [str(install(environment)), str(HERE / "clients" / script), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    return ask
