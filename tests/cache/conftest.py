"""The cache on a clock of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.cache.rig import CACHE, Answer, Clock, Origin, Rig
from tests.conftest import Serve, UpstreamMaker

MakeRig = Callable[..., Awaitable[Rig]]
"""`await rig(*answers, chain=…, file={…}, **keys of the cache)`"""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What layers take for time. It stands still until told."""
    clock = Clock()
    monkeypatch.setattr("proxy.env.monotonic", clock)
    return clock


@pytest.fixture
def rig(serve: Serve, upstream: UpstreamMaker, clock: Clock) -> MakeRig:
    """Starts an origin with a remora before it, its chain the cache alone."""

    async def start(*answers: Answer, file: dict[str, Any] | None = None, **keys: Any) -> Rig:
        origin = Origin(*answers)
        chain = [{CACHE: keys}]
        running = await serve(await upstream(origin), **{"chain": chain, **(file or {})})
        return Rig(running, origin, clock)

    return start
