from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from proxy.demo.child import Child, free_port
from tests.demo.servers import llama, model, standin

__all__ = ["llama", "model", "remora", "standin"]


@pytest.fixture(scope="module")
def remora() -> Iterator[Callable[[str], str]]:
    """`remora(upstream_url)` gives the URL of a `remora serve --upstream`, one an upstream."""
    with ExitStack() as stack:

        @cache
        def start(upstream: str) -> str:
            port = free_port()
            argv = [sys.executable, "-m", "proxy", "serve", "--upstream", upstream]
            argv += ["--listen", f"127.0.0.1:{port}", "--admin", "off"]
            # The second SIGTERM cuts the drain short: no client is left.
            return stack.enter_context(Child("remora", argv, port, grace=0.2)).url

        yield start
