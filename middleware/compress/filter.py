"""A body compressed on its way."""

from __future__ import annotations

from .codings import Encoder


class Compressing:
    """A BodyFilter. live: each piece can be read at once, so no event waits for the next one.

    taken, given: bytes so far, before and after.
    """

    __slots__ = ("_encoder", "_last", "_live", "given", "taken")

    def __init__(self, encoder: Encoder, live: bool) -> None:
        self._encoder = encoder
        self._live = live
        self._last = b""
        self.taken = 0
        self.given = 0

    @property
    def between_events(self) -> bool:
        """Whether an event of an event stream could follow what was fed."""
        return not self._last or self._last.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))

    def feed(self, chunk: bytes) -> bytes:
        if not chunk:
            return b""
        self._last = chunk if len(chunk) > 3 else self._last[-3:] + chunk
        out = self._encoder.feed(chunk)
        if self._live:
            out += self._encoder.flush()
        self.taken += len(chunk)
        self.given += len(out)
        return out

    def end(self) -> bytes:
        out = self._encoder.end()
        self.given += len(out)
        return out
