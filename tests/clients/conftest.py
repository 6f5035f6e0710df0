from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from proxy.demo.child import Child, free_port
from tests.demo.servers import llama, model, standin

__all__ = ["llama", "model", "remora", "standin"]


@pytest.fixture
def remora() -> Iterator[Callable[[str], str]]:
    """`remora(upstream_url)` starts `remora serve --upstream` and gives the URL it listens at."""
    with ExitStack() as stack:

        def start(upstream: str) -> str:
            port = free_port()
            argv = [sys.executable, "-m", "proxy", "serve", "--upstream", upstream]
            argv += ["--listen", f"127.0.0.1:{port}", "--admin", "off"]
            return stack.enter_context(Child("remora", argv, port)).url

        yield start
