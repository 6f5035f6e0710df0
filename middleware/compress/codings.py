"""Content codings (RFC 9110 section 8.4.1): gzip from zlib, br and zstd where they are installed.

Each is imported when it is first used: a file that names one pays for that one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol

GZIP_LEVEL = 5
BR_QUALITY = 4
ZSTD_LEVEL = 3
"""Where the next step costs more time than it saves bytes of JSON: tests/bench/compress.py."""

_GZIP = 31  # window bits: the largest, with gzip's head and checksum
_MODULES = {"gzip": "zlib", "br": "brotli", "zstd": "zstandard"}

CODINGS = ("zstd", "br", "gzip")
"""In the order of preference where a client takes several alike."""

MAX_MEMBERS = 10_000
"""Bodies that one may be made of: each takes its time, and an empty one 9 bytes."""


class Malformed(ValueError):
    """A body is not what its Content-Encoding says."""


class TooLarge(ValueError):
    """A body holds more than it may."""


class Encoder(Protocol):
    """One body on its way: `flush` makes all that was fed readable, `end` closes it."""

    def feed(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...
    def end(self) -> bytes: ...


def installed(coding: str) -> bool:
    """Whether the library of a coding is there."""
    return find_spec(_MODULES[coding]) is not None


def encoder(coding: str) -> Encoder:
    """For one body."""
    return _ENCODERS[coding]()


class _Gzip:
    def __init__(self) -> None:
        self._it = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP)
        self.feed = self._it.compress

    def flush(self) -> bytes:
        return self._it.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._it.flush()


class _Br:
    def __init__(self) -> None:
        import brotli

        it = brotli.Compressor(quality=BR_QUALITY)
        self.feed: Callable[[bytes], bytes] = it.process
        self.flush: Callable[[], bytes] = it.flush
        self.end: Callable[[], bytes] = it.finish


class _Zstd:
    def __init__(self) -> None:
        import zstandard

        self._it = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
        self._block = zstandard.COMPRESSOBJ_FLUSH_BLOCK
        self.feed = self._it.compress

    def flush(self) -> bytes:
        return self._it.flush(self._block)

    def end(self) -> bytes:
        return self._it.flush()


_ENCODERS: dict[str, Callable[[], Encoder]] = {"gzip": _Gzip, "br": _Br, "zstd": _Zstd}


def expand(coding: str, body: bytes, most: int) -> bytes:
    """What `body` holds. Raises Malformed; TooLarge over `most` bytes, before they are made."""
    try:
        return _EXPANDERS[coding](body, most)
    except _errors(coding) as error:
        raise Malformed(f"the body is no {coding}: {error}") from None


def _errors(coding: str) -> Any:
    if coding == "gzip":
        return zlib.error
    if coding == "br":
        import brotli

        return brotli.error
    import zstandard

    return zstandard.ZstdError


def _members(body: bytes, coding: str, begin: Callable[[], Any], most: int | None) -> bytes:
    """What bodies of one coding that follow one another hold together. begin: makes what reads
    one. most: for a reader that can stop; None: the caller knows that it is not too much.
    """
    parts: list[bytes] = []
    left = most
    view, at = memoryview(body), 0
    for _ in range(MAX_MEMBERS):
        it, step = begin(), 1024
        while not it.eof:
            piece = view[at : at + step]
            if not piece:
                raise Malformed(f"the body is no {coding}: it breaks off")
            if left is None:
                parts.append(it.decompress(piece))
            else:
                parts.append(it.decompress(piece, left + 1))
                left -= len(parts[-1])
                if left < 0:
                    raise TooLarge
            at += len(piece)
            # A reader copies what is left of its piece: of all the body, it would do so each time.
            step *= 2
        at -= len(it.unused_data)
        if at == len(body):
            return b"".join(parts)
    raise Malformed(f"the body has over {MAX_MEMBERS} members")


def _gunzip(body: bytes, most: int) -> bytes:
    """Members that follow one another are one body (RFC 1952 section 2.2)."""
    return _members(body, "gzip", lambda: zlib.decompressobj(_GZIP), most)


def _unbr(body: bytes, most: int) -> bytes:
    import brotli

    it = brotli.Decompressor()
    parts = [it.process(body, output_buffer_limit=most + 1)]
    size = len(parts[0])
    while size <= most and not it.can_accept_more_data():
        parts.append(it.process(b"", output_buffer_limit=most + 1 - size))
        size += len(parts[-1])
    if size > most:
        raise TooLarge
    if not it.is_finished():
        raise Malformed("the body is no br: it breaks off")
    return b"".join(parts)


def _unzstd(body: bytes, most: int) -> bytes:
    """Frames that follow one another are one body (RFC 8878 section 3.1)."""
    import zstandard

    # 8 MiB of window at most: what every decoder must have (RFC 9659 section 3).
    it = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024)
    size = 0
    with it.stream_reader(body, read_across_frames=True) as reader:
        while part := reader.read(1 << 20):
            size += len(part)
            if size > most:
                raise TooLarge
    # That reader does not tell a frame that breaks off; this one has no bound of its own.
    return _members(body, "zstd", it.decompressobj, None)


_EXPANDERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gunzip,
    "br": _unbr,
    "zstd": _unzstd,
}
