"""Lists of numbers as binary in MessagePack, and back: extension type ARRAY.

Its payload: one byte for the type of a number ("e", "f" or "d", as Python's `struct` has them: 2,
4 or 8 bytes, IEEE 754), one byte with the number of dimensions, each dimension in 4 bytes, then
the numbers, the last dimension fastest. Everything is little-endian.
"""

from __future__ import annotations

import struct
from math import prod
from typing import Any, Literal

from msgpack import ExtType

ARRAY = 65
"""The extension type: "A"."""
FEW = 16
"""Numbers below which a list stays a list."""
MAX_DIMENSIONS = 8

Code = Literal["e", "f"]
_SIZES = {b"e": 2, b"f": 4, b"d": 8}
_WIDER: dict[Code, tuple[Code, ...]] = {"e": ("e", "f"), "f": ("f",)}


class BadArray(ValueError):
    """A payload that is no array, or one of more numbers than may be."""


class _Array:
    """A list that may become binary. held: what it was made of."""

    __slots__ = ("code", "data", "floats", "held", "shape")

    def __init__(
        self, held: list[Any], code: str, shape: tuple[int, ...], data: bytes, floats: bool
    ) -> None:
        self.held = held
        self.code = code
        self.shape = shape
        self.data = data
        self.floats = floats


def packed(value: Any, code: Code, flags: bool = True) -> Any:
    """`value` with ExtType in the place of each list of FEW numbers or more.

    Such a list holds numbers alone, at least one with a fraction or an exponent, or lists of them
    that are all of one shape: those become one array. A number that is too large for "e" makes
    its list one of "f"; one too large for "f" leaves it a list. flags: whether `value` may hold
    true or false, which are no numbers. Lists and objects of `value` are changed in place.
    """
    return _settled(_folded(value, code, flags))


def _folded(value: Any, code: Code, flags: bool) -> Any:
    kind = type(value)
    if kind is dict:
        for key, one in value.items():
            if type(one) is list or type(one) is dict:
                value[key] = _settled(_folded(one, code, flags))
        return value
    if kind is not list or not value:
        return value
    first = type(value[0])
    if first is float or first is int:
        return _row(value, code, flags) or _each(value, code, flags)
    return _each(value, code, flags)


def _row(value: list[Any], code: Code, flags: bool) -> _Array | None:
    if flags and bool in set(map(type, value)):
        return None
    for wide in _WIDER[code]:
        try:
            data = struct.pack(f"<{len(value)}{wide}", *value)
        except OverflowError:
            continue
        except struct.error:
            return None
        return _Array(value, wide, (len(value),), data, float in set(map(type, value)))
    return None


def _each(value: list[Any], code: Code, flags: bool) -> Any:
    inner = [_folded(one, code, flags) for one in value]
    first = inner[0]
    if type(first) is _Array and all(
        type(one) is _Array and one.shape == first.shape and one.code == first.code
        for one in inner
    ):  # fmt: skip
        data = b"".join([one.data for one in inner])
        floats = any(one.floats for one in inner)
        return _Array(value, first.code, (len(inner), *first.shape), data, floats)
    return [_settled(one) for one in inner]


def _settled(value: Any) -> Any:
    if type(value) is not _Array:
        return value
    # A dimension is 32 bits; and what holds integers alone loses nothing as it is.
    if not value.floats or prod(value.shape) < FEW or len(value.shape) > MAX_DIMENSIONS:
        return value.held
    sizes = struct.pack(f"<{len(value.shape)}I", *value.shape)
    return ExtType(ARRAY, value.code.encode() + bytes((len(value.shape),)) + sizes + value.data)


def unpacked(payload: bytes, most: int) -> tuple[list[Any], int]:
    """The nested lists of an array, and how many numbers and lists that are; `most` at most.

    Raises BadArray.
    """
    size = _SIZES.get(payload[:1])
    if size is None or len(payload) < 2 or not 1 <= payload[1] <= MAX_DIMENSIONS:
        raise BadArray("an array with a head that is none")
    start = 2 + 4 * payload[1]
    if len(payload) < start:
        raise BadArray("an array with a head that is none")
    shape = struct.unpack_from(f"<{payload[1]}I", payload, 2)
    count = prod(shape)
    if count == 0 or len(payload) - start != count * size:
        raise BadArray("an array that is not of its own size")
    cost = sum(prod(shape[: depth + 1]) for depth in range(len(shape)))
    if cost > most:
        raise BadArray("more numbers in arrays than may be converted")
    value: list[Any] = list(struct.unpack_from(f"<{count}{payload[:1].decode()}", payload, start))
    for length in shape[:0:-1]:
        value = [value[at : at + length] for at in range(0, len(value), length)]
    return value, cost
