"""One look at an endpoint's health, over a connection of its own."""

from __future__ import annotations

import asyncio

from .. import config
from ..errors import ProxyError
from ..exchange import Request, Stream
from .endpoint import Endpoint
from .pool import Pool
from .settings import Health


class Check:
    """Asks as a client would: a new connection, a GET, a status. A pool of one, so that what it
    does is never counted among the requests that the endpoint has.
    """

    def __init__(
        self, endpoint: Endpoint, settings: Health, limits: config.ResponseLimits,
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._headers = [
            (b"Host", endpoint.authority), (b"User-Agent", b"remora"), (b"Connection", b"close"),
        ]  # fmt: skip
        # One timeout over all of it is enough.
        timeouts = config.Timeouts(connect=settings.timeout, first_byte=None, idle=None, total=None)
        bounds = config.Pool(max_connections=1, max_idle=0)
        self._pool = Pool(endpoint, loop, bounds, timeouts, limits)

    async def run(self) -> str | None:
        """None where it passed, else why it did not."""
        request = Request(b"GET", self._settings.path.encode(), self._headers)
        try:
            async with asyncio.timeout(self._settings.timeout):
                response = await self._pool.send(request)
        except TimeoutError:
            return f"no answer within {self._settings.timeout:g} s"
        except ProxyError as error:
            # Whoever reads the log knows the endpoint already.
            how = error.detail.removeprefix(self._pool.endpoint.name).removeprefix(": ")
            return how or error.message
        finally:
            request.finish()
        if isinstance(response.body, Stream):
            response.body.abort()  # the status was all
        return None if 200 <= response.status < 300 else f"it answered {response.status}"

    def close(self) -> None:
        self._pool.close()
