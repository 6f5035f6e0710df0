"""When the first event of a stream comes."""

from __future__ import annotations

from collections.abc import Callable


class FirstByte:
    """A BodyFilter that passes everything on, and tells of the first byte once."""

    observes = True
    __slots__ = ("_came",)

    def __init__(self, came: Callable[[], None]) -> None:
        self._came: Callable[[], None] | None = came

    def feed(self, chunk: bytes) -> bytes:
        if self._came is not None and chunk:
            came, self._came = self._came, None
            came()
        return chunk

    def end(self) -> bytes:
        return b""
