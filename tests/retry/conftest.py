from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.conftest import Serve, UpstreamMaker
from tests.retry.rig import QUICK, Endpoint, Rig

MakeRig = Callable[..., Awaitable[Rig]]
"""`await rig(*endpoints, upstream={…}, layers=[…], **keys of retry)`"""


def refusing() -> str:
    """An address at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def rig(serve: Serve, upstream: UpstreamMaker) -> MakeRig:
    """Starts endpoints, None for one that refuses connections, with a remora before them."""

    async def start(
        *endpoints: Endpoint | None, upstream_keys: dict[str, Any] | None = None,
        inside: list[Any] | None = None, outside: list[Any] | None = None, **keys: Any,
    ) -> Rig:  # fmt: skip
        urls = []
        started = {}
        for one in endpoints:
            if one is None:
                urls.append(refusing())
                continue
            up = await upstream(one)
            urls.append(up.url)
            started[up] = one
        chain = [*(outside or []), {"retry": {**QUICK, **keys}}, *(inside or [])]
        running = await serve(
            urls[0],
            upstreams={"default": {"endpoints": urls, **(upstream_keys or {})}},
            chain=chain,
        )
        return Rig(running, started)

    return start
