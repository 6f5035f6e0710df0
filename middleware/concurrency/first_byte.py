"""When the first event of a stream comes."""

from __future__ import annotations

from collections.abc import Callable


class FirstByte:
    """A BodyFilter that passes everything on, and tells of the first byte once."""

    observes = True
    __slots__ = ("_tell", "came")

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self.came = False

    def feed(self, chunk: bytes) -> bytes:
        if not self.came and chunk:
            self.came = True
            self._tell()
        return chunk

    def end(self) -> bytes:
        return b""
