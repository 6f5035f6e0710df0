"""A tensor of the Open Inference Protocol, as its text and its raw bytes say it, row by row.

A row is what belongs to one place of the first dimension. In JSON the numbers stand flat, row
after row, or nested as the shape says; with the binary tensor extension they follow the text, in
the order of the tensors, little-endian, and each element of BYTES behind four bytes of length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from ..shape import Untold
from .scan import Member, Reader, member, members, records, runs, words_or_elements

MAX_RANK = 8
"""Dimensions of a tensor."""

MAX_STRINGS = 65536
"""Elements of a BYTES tensor in binary: they are found one by one."""

_SPACE = b" \t\r\n"

_SIZES = {
    "BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2,
    "INT32": 4, "INT64": 8, "FP16": 2, "FP32": 4, "FP64": 8, "BF16": 2,
}  # fmt: skip


def _dims(raw: bytes, at: int) -> tuple[list[tuple[int, int]], int]:
    """Where each number of a shape stands, and where the shape ends."""
    found = _SHAPE.match(raw, at)
    if found is None:
        raise Untold
    end = found.end()
    return [size.span() for size in _SIZE.finditer(raw, at, end)], end


def _parameters(raw: bytes, at: int) -> tuple[list[Member], int]:
    return ([], at + 4) if raw.startswith(b"null", at) else members(raw, at)


_SHAPE = re.compile(rb"\[\s*+[0-9]{1,9}+\s*+(?:,\s*+[0-9]{1,9}+\s*+)*+\]")
_SIZE = re.compile(rb"[0-9]++")
_READERS: Mapping[bytes, Reader] = {
    b"shape": _dims, b"data": words_or_elements, b"parameters": _parameters,
}  # fmt: skip


def tensors(raw: bytes, at: int) -> tuple[list[Tensor], int]:
    """The tensors of the list that begins at `at`, and where it ends. Raises Untold."""
    read, end = records(raw, at, _READERS)
    return [_tensor(raw, held) for _, held, _ in read], end


class Tensor(NamedTuple):
    """row: elements of a row. dims: where each number of the shape stands. data: where the text has
    the elements. size: where binary_data_size stands; exactly one of data and size is there.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    row: int
    dims: list[tuple[int, int]]
    data: Member | None
    size: Member | None
    bytes_: int


def _tensor(raw: bytes, held: Sequence[Member]) -> Tensor:
    """Raises Untold for one that is malformed, or has its elements in shared memory."""
    name, datatype = (_text(raw, member(held, key)) for key in (b"name", b"datatype"))
    shape = member(held, b"shape")
    if shape is None:
        raise Untold
    dims = shape.read
    if len(dims) > MAX_RANK:
        raise Untold
    size = None
    data, parameters = member(held, b"data"), member(held, b"parameters")
    if parameters is not None:
        if any(one.key.startswith(b"shared_memory") for one in parameters.read):
            raise Untold
        size = member(parameters.read, b"binary_data_size")
    if (data is None) == (size is None):
        raise Untold
    digits = raw[size.start : size.end] if size is not None else b"0"
    if not digits.isdigit() or len(digits) > 12:
        raise Untold
    sizes = tuple([int(raw[a:b]) for a, b in dims])
    if not all(sizes):
        raise Untold
    row = math.prod(sizes[1:])
    return Tensor(name, datatype, sizes, row, dims, data, size, int(digits))


def _text(raw: bytes, found: Member | None) -> str:
    if found is None or raw[found.start : found.start + 1] != b'"':
        raise Untold
    try:
        text: str = orjson.loads(raw[found.start : found.end])
    except orjson.JSONDecodeError:
        raise Untold from None
    return text


class Rows(NamedTuple):
    """pieces: of the rows, or of what they hold. nested: each is a JSON list, brackets and all."""

    pieces: list[bytes]
    nested: bool = False


def is_nested(found: Any) -> bool:
    """Whether these elements are lists themselves."""
    return isinstance(found, list) and bool(found) and found[0][:1] == b"["


def rows_in_text(found: bytes | list[bytes], one: Tensor, count: int) -> Rows:
    """The elements of a tensor in `count` equal pieces. Nested ones can only be had by row."""
    if isinstance(found, bytes):
        return Rows(runs(found, count, one.shape[0] * one.row // count))
    if is_nested(found):
        if len(found) != one.shape[0] or not all(piece[:1] == b"[" for piece in found):
            raise Untold
        return Rows(found, True)
    total = one.shape[0] * one.row
    if len(found) != total or any(piece[:1] in (b"[", b"{") for piece in (found[0], found[-1])):
        raise Untold
    each = total // count
    if each == 1:
        return Rows(found)
    return Rows([b",".join(found[at : at + each]) for at in range(0, total, each)])


def rows_as_parsed(found: bytes | list[bytes], values: Any, one: Tensor) -> list[bytes]:
    """The rows of an input in text, whose elements were parsed as `values`. Raises Untold.

    White space is left out where no string can hold it: rows are alike then that say the same.
    """
    count, total = one.shape[0], one.shape[0] * one.row
    if isinstance(found, bytes):
        if len(values) != total:
            raise Untold
        words = found.translate(None, _SPACE)
        return [words] if count == 1 else runs(words, count, one.row)
    rows = rows_in_text(found, one, count)
    if not shaped(values, one.shape if rows.nested else (total,)):
        raise Untold
    return [row if b'"' in row else row.translate(None, _SPACE) for row in rows.pieces]


def rows_in_binary(raw: bytes, at: int, one: Tensor, count: int) -> list[bytes]:
    """The same out of the bytes that begin at `at`."""
    end = at + one.bytes_
    total = one.shape[0] * one.row
    if end > len(raw):
        raise Untold
    size = _SIZES.get(one.datatype)
    if size is not None:
        if total * size != one.bytes_:
            raise Untold
        each = one.bytes_ // count
        return [raw[first : first + each] for first in range(at, end, each)]
    if one.datatype != "BYTES":
        raise Untold
    starts = _strings(raw, at, end, total)
    each = total // count
    return [raw[starts[n] : starts[n + each]] for n in range(0, total, each)]


def _strings(raw: bytes, at: int, end: int, total: int) -> list[int]:
    """Where each of the strings begins, and at last where they end."""
    if total > MAX_STRINGS:
        raise Untold
    starts = [at]
    for _ in range(total):
        at += 4 + int.from_bytes(raw[at : at + 4], "little")
        starts.append(at)
    if at != end:
        raise Untold
    return starts


def shaped(values: object, dims: Sequence[int]) -> bool:
    """Whether nested lists have these dimensions, and nothing else nested in them."""
    if not isinstance(values, list) or len(values) != dims[0]:
        return False
    if len(dims) > 1:
        return all(shaped(one, dims[1:]) for one in values)
    return set(map(type, values)).isdisjoint((list, dict))
