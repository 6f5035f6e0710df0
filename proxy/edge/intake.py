"""A request body on its way in: from a connection's reader into the Stream that travels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..deadline import IdleTimer
from ..errors import ClientGone, ProxyError, RequestTimeout
from ..exchange import Stream

if TYPE_CHECKING:
    from .connection import ClientConnection
    from .parser import RequestReader


class Intake:
    """The Source of a body that was not whole when its head was read.

    timeout: seconds between two pieces, while the socket is read at all; over it the body fails
    with RequestTimeout. Whatever ends the body early, the answer is the connection's last.
    """

    __slots__ = ("_client", "_over", "_reader", "_timeout", "_timer", "stream")

    def __init__(self, client: ClientConnection, reader: RequestReader, timeout: float) -> None:
        self._client = client
        self._reader = reader
        self._timeout = timeout
        self._timer: IdleTimer | None = IdleTimer(client.loop, timeout, self._too_slow)
        self._over = False
        self.stream = Stream(self)

    def more(self) -> None:
        """Something was fed to the reader."""
        reader = self._reader
        if self._over or reader.done:
            return
        if self._timer is not None:
            self._timer.moved = True
        try:
            piece = reader.body()
        except ProxyError as error:
            self._end_early(error)
            return
        if piece:
            self.stream.feed(piece)
        if reader.done:
            self._stop()
            self.stream.end(reader.trailers)

    def left(self) -> None:
        """The exchange is over, or the client is gone: nothing more will come."""
        self._stop()
        self.stream.fail(ClientGone())

    def pause(self) -> None:
        self._client.pause()

    def resume(self) -> None:
        if self._timer is not None:
            self._timer.moved = True
        self._client.resume()

    def abort(self) -> None:
        """Nobody will read the rest."""
        self._stop()
        self._client.last_answer()

    def _end_early(self, error: ProxyError) -> None:
        self._stop()
        self._client.last_answer()
        self.stream.fail(error)

    def _too_slow(self) -> None:
        self._timer = None
        if self._client.held:  # the upstream is the slow one
            self._timer = IdleTimer(self._client.loop, self._timeout, self._too_slow)
        else:
            self._end_early(RequestTimeout("the request's body did not come in time"))

    def _stop(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
