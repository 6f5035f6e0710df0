"""An Entry as bytes, for a store that replicas of several versions share.

    magic 3 | version 1 | flags 1 | BLAKE2b-64 of flags and payload, 8 | payload

The payload is one MessagePack array of the Entry's fields in their order, or with the flag
COMPRESSED what `compress` made of it. What is read was written by whoever can write to the store:
nothing of it is believed before it is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from itertools import chain
from math import isfinite
from typing import Any

import msgpack

from .entry import Entry

MAGIC = b"RMR"
VERSION = 1
MOST = 64 * 1024 * 1024
"""Bytes of an envelope, and of its payload once decompressed."""

COMPRESSED = 1
_HEAD = len(MAGIC) + 2 + 8
_FIELDS = 16


class BadEnvelope(ValueError):
    """Poisoned, cut off, too large, or of another version: delete it and count a miss."""


def pack(entry: Entry, compress: Callable[[bytes], bytes] | None = None) -> bytes:
    """`compress` may give back what it got; its result is used where it is shorter."""
    payload: bytes = msgpack.packb(
        (
            entry.status,
            entry.reason,
            list(chain.from_iterable(entry.headers)),
            entry.body,
            entry.stored_at,
            entry.lifetime,
            entry.keep,
            entry.age,
            list(chain.from_iterable(entry.trailers)),
            list(chain.from_iterable(entry.vary)),
            entry.route,
            entry.model,
            entry.tags,
            entry.cost,
            entry.tokens,
            entry.pieces,
        ),
        unicode_errors="surrogatepass",
    )
    flags = 0
    if compress is not None and len(shorter := compress(payload)) < len(payload):
        payload, flags = shorter, COMPRESSED
    return b"%b%c%c%b%b" % (MAGIC, VERSION, flags, _checksum(flags, payload), payload)


def unpack(
    data: bytes, decompress: Callable[[bytes, int], bytes] | None = None, most: int = MOST
) -> Entry:
    """`decompress(payload, most)` raises ValueError over `most` bytes. Raises BadEnvelope."""
    if len(data) < _HEAD or data[:3] != MAGIC:
        raise BadEnvelope("not an envelope")
    if data[3] != VERSION:
        raise BadEnvelope(f"of version {data[3]}, not {VERSION}")
    if len(data) > most:
        raise BadEnvelope(f"{len(data)} bytes are over the bound of {most}")
    flags, payload = data[4], memoryview(data)[_HEAD:]
    if flags & ~COMPRESSED or data[5:_HEAD] != _checksum(flags, payload):
        raise BadEnvelope("the checksum does not fit")
    try:
        if flags:
            if decompress is None:
                raise ValueError("it is compressed, which cannot be undone here")
            payload = memoryview(decompress(bytes(payload), most))
        # Lengths are bounded by the payload's own; extension types are refused.
        return _entry(
            msgpack.unpackb(payload, use_list=True, max_ext_len=0, unicode_errors="surrogatepass")
        )
    except BadEnvelope:
        raise
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise BadEnvelope(str(error) or type(error).__name__) from error


def _checksum(flags: int, payload: bytes | memoryview) -> bytes:
    return blake2b(payload, digest_size=8, salt=bytes((flags,))).digest()


def _entry(fields: Any) -> Entry:
    if type(fields) is not list or len(fields) != _FIELDS:
        raise BadEnvelope("not the fields of an entry")
    status, reason, headers, body, stored_at, lifetime, keep, age = fields[:8]
    trailers, vary, route, model, tags, cost, tokens, pieces = fields[8:]
    return Entry(
        status=_whole(status, 100, 999),
        reason=_is(bytes, reason),
        headers=_headers(headers),
        body=_is(bytes, body),
        stored_at=_seconds(stored_at),
        lifetime=_seconds(lifetime),
        keep=_seconds(keep),
        age=_seconds(age),
        trailers=_headers(trailers),
        vary=_headers(vary),
        route=_is(str, route),
        model=_is(str, model),
        tags=tuple(_is(str, tag) for tag in _is(list, tags)),
        cost=_seconds(cost),
        tokens=_whole(tokens, 0, 2**63),
        pieces=_pieces(pieces, len(body)),
    )


def _is(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise BadEnvelope(f"{kind.__name__} is expected")
    return value


def _whole(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise BadEnvelope("a number is out of its range")
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (float, int) or not isfinite(value):
        raise BadEnvelope("seconds are a finite number")
    return float(value)


def _headers(value: Any) -> list[tuple[bytes, bytes]]:
    flat = _is(list, value)
    if len(flat) % 2 or any(type(one) is not bytes for one in flat):
        raise BadEnvelope("fields are pairs of bytes")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _pieces(value: Any, size: int) -> tuple[int, ...]:
    pieces = tuple(_whole(one, 1, size) for one in _is(list, value))
    if pieces and sum(pieces) != size:
        raise BadEnvelope("the pieces are not the body")
    return pieces
