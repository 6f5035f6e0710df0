"""Which endpoint of an upstream gets a request."""

from __future__ import annotations

from collections.abc import Sequence

from ..chain import Handler
from ..exchange import Request, Response
from ..headers import with_host
from .pool import Pool


def sender(pools: Sequence[Pool], host: str) -> Handler:
    """The handler at the end of a chain. host: `preserve` the client's, or the `upstream`'s own.

    With one endpoint and the client's Host it is the pool's own method: nothing to choose.
    """
    if len(pools) == 1 and host == "preserve":
        return pools[0].send

    turn = 0

    async def send(request: Request) -> Response:
        nonlocal turn
        turn = (turn + 1) % len(pools)
        # Equals take turns, else the first endpoint would get all of a light load.
        pool = min((*pools[turn:], *pools[:turn]), key=lambda one: one.busy)
        if host == "upstream":
            request.headers = with_host(request.headers, pool.endpoint.authority)
        return await pool.send(request)

    return send
