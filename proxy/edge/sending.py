"""Whether a client takes what is written to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class SendWatch:
    """Made when a client first lets its buffer fill up. `give_up` is called when it then takes
    no byte for `timeout` seconds (None: never).
    """

    __slots__ = ("_free", "_give_up", "_loop", "_timeout", "_timer", "_transport", "_unwritten")

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        timeout: float | None,
        give_up: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._timeout = timeout
        self._give_up = give_up
        self._timer: asyncio.TimerHandle | None = None
        self._unwritten = 0
        self._free: asyncio.Future[None] | None = None

    @property
    def blocked(self) -> bool:
        return self._free is not None

    def block(self) -> None:
        """The buffer is full."""
        if self._free is None:
            self._free = self._loop.create_future()
        if self._timeout is not None and self._timer is None:
            self._timer = self._loop.call_later(0, self._begin)

    def release(self) -> None:
        """The buffer has room again, or the client is gone."""
        free, self._free = self._free, None
        if free is not None and not free.done():
            free.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def wait(self) -> None:
        """Until `release`; at once when not blocked."""
        if self._free is not None:
            await self._free

    def _begin(self) -> None:
        # A turn after `block`: what had been read for this client is in the buffer by now.
        assert self._timeout is not None
        self._unwritten = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._timeout, self._look)

    def _look(self) -> None:
        self._timer = None
        unwritten = self._transport.get_write_buffer_size()
        if unwritten >= self._unwritten or self._timeout is None:
            self._give_up()
            return
        self._unwritten = unwritten
        self._timer = self._loop.call_later(self._timeout, self._look)
