"""zstd (RFC 8878), for values of which many fit into a store that is short of memory."""

from __future__ import annotations

import zstandard

LEVEL = 1
"""Fastest: it runs on the event loop. JSON of floats shrinks to about half at any level."""


class Zstd:
    """over: bytes under which compressing is not worth its time; None: never compress."""

    def __init__(self, over: int | None) -> None:
        self._over = over
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()

    def compress(self, data: bytes) -> bytes:
        """One frame; or `data` itself where it is short."""
        if self._over is None or len(data) < self._over:
            return data
        return self._compressor.compress(data)

    def decompress(self, data: bytes, most: int) -> bytes:
        """Raises ValueError where it is no frame, or holds more than `most` bytes."""
        try:
            # The frame says how much to allocate, and whoever wrote it may lie.
            if not 0 <= zstandard.frame_content_size(data) <= most:
                raise ValueError("the frame is over the bound, or does not tell its size")
            return self._decompressor.decompress(data)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
