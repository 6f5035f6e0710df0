"""A server that answers what it is told, and a client that reads what it gets."""

from __future__ import annotations

import gzip
from typing import Any

import brotli
import zstandard

from tests.road.scripted import Peer
from tests.road.wire import Message, ok

COMPRESS = "middleware.compress:Compress"
JSON = "content-type: application/json"
LONG = b'{"text": "' + b"remora " * 1000 + b'"}'

ENCODE: dict[str, Any] = {
    "gzip": gzip.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def decode(coding: str | None, body: bytes) -> bytes:
    """What a client makes of a whole body."""
    if coding == "gzip":
        return gzip.decompress(body)
    if coding == "br":
        whole: bytes = brotli.decompress(body)
        return whole
    if coding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return body


class Incremental:
    """What a client makes of a body as it comes."""

    def __init__(self, coding: str) -> None:
        if coding == "gzip":
            import zlib

            self.feed = zlib.decompressobj(31).decompress
        elif coding == "br":
            self.feed = brotli.Decompressor().process
        else:
            self.feed = zstandard.ZstdDecompressor().decompressobj().decompress


class Server:
    """A script for `upstream`: gives one answer to everything, and keeps what it was asked."""

    def __init__(self, answer: bytes | None = None) -> None:
        self.answer = answer if answer is not None else ok(LONG, JSON)
        self.asked: list[Message] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            self.asked.append(await peer.request())
            peer.send(self.answer)
