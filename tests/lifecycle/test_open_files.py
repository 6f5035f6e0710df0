"""How many files a process may have open, which is how many connections it can hold."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Serve

LIMITS = resource.getrlimit(resource.RLIMIT_NOFILE)


@pytest.fixture
def few() -> Iterator[int]:
    """So many, of those that begin here; they may raise it themselves."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, LIMITS[1]))
    yield 256
    resource.setrlimit(resource.RLIMIT_NOFILE, LIMITS)


def allowed(pid: int) -> tuple[str, str]:
    """The soft and the hard limit of a process."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    words = next(line for line in lines if line.startswith("Max open files")).split()
    return words[3], words[4]


async def test_the_limit_is_raised(serve: Serve, few: int) -> None:
    """A process that was started with few open files takes all that it may have."""
    remora = await serve(limits="{connections: 100}")
    await remora.serving()
    assert allowed(remora.pid) == (str(LIMITS[1]), str(LIMITS[1]))
    assert not any("ulimit" in line for line in remora.lines)


async def test_too_few(serve: Serve) -> None:
    """Where the file allows more connections than the system does, that is said at start."""
    remora = await serve(limits=f"{{connections: {LIMITS[1] + 1}}}")
    await remora.serving()
    assert any("ulimit -Hn" in line and str(LIMITS[1]) in line for line in remora.lines)
