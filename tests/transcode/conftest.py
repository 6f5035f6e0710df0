from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.conftest import Serve, UpstreamMaker
from tests.transcode.rig import Answer, Rig, Server

MakeRig = Callable[..., Awaitable[Rig]]
"""`await rig(answer, ..., inside=[], outside=[], **keys of the layer)`"""


@pytest.fixture
async def rig(serve: Serve, upstream: UpstreamMaker) -> MakeRig:
    async def make(
        *answers: Answer, inside: list[Any] | None = None, outside: list[Any] | None = None,
        **keys: Any,
    ) -> Rig:  # fmt: skip
        server = Server(*answers)
        chain = [*(outside or []), {"transcode": keys}, *(inside or [])]
        return Rig(await serve(await upstream(server), chain=chain), server)

    return make
