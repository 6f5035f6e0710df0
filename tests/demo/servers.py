"""Fixtures: the model and the servers of the demo, for the tests that need a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.demo.gguf import write_model
from proxy.demo.llama import LlamaServer, why_not
from proxy.demo.standin import StandIn


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's GGUF. Fails where llama.cpp is missing, with the way to get it."""
    reason = why_not()
    if reason is not None:
        pytest.fail(f"llama.cpp cannot run: {reason}; `make test` installs it (extra `demo`)")
    path = tmp_path_factory.mktemp("model") / "demo.gguf"
    write_model(path)
    return path


@pytest.fixture(scope="module")
def llama(model: Path) -> Iterator[LlamaServer]:
    """A llama.cpp server with 8 slots, idle."""
    with LlamaServer(model) as server:
        yield server


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    """A stand-in that says a word each 5 ms."""
    with StandIn(delay=0.005) as server:
        yield server
