"""A streamed request body on its way upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UpstreamClosed
from ..exchange import Headers, Stream
from ..headers import head_block

if TYPE_CHECKING:
    from .http1 import UpstreamConnection

REPLAY_BYTES = 64 * 1024
"""Of a streamed request body kept for the one retry that a stale connection may need."""


class BodyWriter:
    """Writes a streamed request body to a connection, framed as the client framed it."""

    __slots__ = ("_connection", "_error", "_kept", "_kept_size", "chunked", "ended", "stream",
                 "trailers")  # fmt: skip

    def __init__(self, stream: Stream, chunked: bool) -> None:
        self.stream = stream
        self.chunked = chunked
        self.ended = False
        self.trailers: Headers = []
        self._connection: UpstreamConnection | None = None
        self._kept: list[bytes] | None = []
        self._kept_size = 0
        self._error: Exception | None = None

    def attach(self, connection: UpstreamConnection) -> None:
        """From now on write to `connection`, first all that another one got in vain."""
        first = self._connection is None
        self._connection = connection
        if first:
            self.stream.pipe(self)
            return
        if self._error is not None:
            raise self._error
        if self._kept is None:
            raise connection.error(UpstreamClosed, "closed a kept connection amid a long body")
        for chunk in self._kept:
            connection.write_body(self._frame(chunk))
        if self.ended:
            self._write_end()
        else:
            self.stream.resume()

    @property
    def replayable(self) -> bool:
        return self._kept is not None

    def forget(self) -> None:
        """The endpoint has answered: nothing will be replayed."""
        self._kept = None

    def write(self, chunk: bytes) -> None:
        if self._kept is not None:
            self._kept_size += len(chunk)
            if self._kept_size > REPLAY_BYTES:
                self._kept = None
            else:
                self._kept.append(chunk)
        assert self._connection is not None
        self._connection.write_body(self._frame(chunk))

    def end(self, trailers: Headers) -> None:
        self.ended = True
        self.trailers = trailers
        self._write_end()

    def fail(self, error: Exception) -> None:
        """The client's body broke off: the endpoint must not take it for whole."""
        self._error = error
        assert self._connection is not None
        self._connection.request_failed(error)

    def _frame(self, chunk: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(chunk), chunk) if self.chunked else chunk

    def _write_end(self) -> None:
        assert self._connection is not None
        self._connection.body_sent(head_block(b"0", self.trailers) if self.chunked else b"")
