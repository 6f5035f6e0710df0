"""Lists of numbers become binary and come back, to the precision of their type."""

from __future__ import annotations

import struct
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgpack import ExtType

from middleware.core.number_arrays import (
    ARRAY,
    FEW,
    MAX_DIMENSIONS,
    BadArray,
    packed,
    unpacked,
)

MOST = 100_000


def head(code: bytes, *shape: int) -> bytes:
    return code + bytes((len(shape),)) + struct.pack(f"<{len(shape)}I", *shape)


def numbers(value: ExtType) -> Any:
    assert value.code == ARRAY
    return unpacked(value.data, MOST)[0]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=FEW))
def test_float32_comes_back_exactly(vector: list[float]) -> None:
    """What a model computed in 32 bits loses nothing."""
    value = packed(list(vector), "f")
    assert repr(numbers(value)) == repr(vector)
    assert value.data == head(b"f", len(vector)) + numpy.array(vector, "<f4").tobytes()


@given(st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=FEW))
def test_float16_comes_back_exactly(vector: list[float]) -> None:
    """What fits into 16 bits loses nothing."""
    value = packed(list(vector), "e")
    assert repr(numbers(value)) == repr(vector)
    assert value.data == head(b"e", len(vector)) + numpy.array(vector, "<f2").tobytes()


@pytest.mark.parametrize("shape", [(16,), (4, 4), (2, 3, 4), (1, 1, 1, 16), (16, 1)])
def test_a_matrix_is_one_array(shape: tuple[int, ...]) -> None:
    """Lists of lists of one shape, the last dimension fastest, as numpy has it."""
    array = numpy.arange(numpy.prod(shape), dtype="<f4").reshape(shape) / 8
    value = packed(array.tolist(), "f")
    assert value == ExtType(ARRAY, head(b"f", *shape) + array.tobytes())
    assert numbers(value) == array.tolist()


def row(size: int = FEW, first: Any = 0.5) -> list[Any]:
    return [first, *range(1, size)]


@pytest.mark.parametrize(
    "value",
    [
        row(FEW - 1),
        list(range(100)),
        [list(range(100))] * 3,
        [0.5, *["x"] * 20],
        ["x", *[0.5] * 20],
        [0.5, None, *[0.5] * 20],
        [0.5, True, *[0.5] * 20],
        [True, *[0.5] * 20],
        [0.5, [1.5], *[0.5] * 20],
        [0.5, 1e39, *[0.5] * 20],
        [],
        [[]],
        [[0.5], [0.5, 1.5]] * 3,
        "text",
        0.5,
    ],
)
def test_what_stays_a_list(value: Any) -> None:
    """Few numbers, integers alone, anything that is no number, or one too large for 32 bits."""
    before = repr(value)
    assert repr(packed(value, "f")) == before


def test_a_ragged_list_is_packed_row_by_row() -> None:
    """Rows of other lengths are arrays of their own; a short one among them stays a list."""
    value = packed([row(20), row(30), [0.5, 1.5]], "f")
    assert [type(one) for one in value] == [ExtType, ExtType, list]
    assert numbers(value[1]) == row(30)


def test_integers_among_floats_are_packed() -> None:
    """Some servers write 0.0 as 0; a row of nothing else belongs to its matrix all the same."""
    assert numbers(packed(row(), "f")) == row()
    assert numbers(packed([row(), [0] * FEW], "f")) == [row(), [0.0] * FEW]
    assert numbers(packed([[0] * FEW, row()], "f")) == [[0.0] * FEW, row()]


def test_a_number_too_large_for_16_bits_takes_32() -> None:
    """Only the list that holds it."""
    value = packed([row(), row(first=70000.5)], "e")
    assert [one.data[:1] for one in value] == [b"e", b"f"]


def test_where_arrays_are_found() -> None:
    """At any depth, in objects and in lists."""
    value = packed({"data": [{"embedding": row(), "index": 0}], "usage": {"n": [1, 2]}}, "f")
    assert numbers(value["data"][0].pop("embedding")) == row()
    assert value == {"data": [{"index": 0}], "usage": {"n": [1, 2]}}


def test_flags_are_not_looked_for_where_there_are_none() -> None:
    """The caller knows from the text that there is no true in it: then a list of floats is one."""
    assert numbers(packed(row(), "f", flags=False)) == row()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"f",
        b"f\x00",
        b"f\x01",
        b"x\x01\x01\0\0\0aaaa",
        head(b"f", 1),
        head(b"f", 1) + b"aaa",
        head(b"f", 1) + b"aaaaa",
        head(b"f", 0),
        head(b"f", 2**32 - 1, 0),
        head(b"f", 0, 2**32 - 1) + b"aaaa",
        head(b"f", 2**32 - 1, 2**32 - 1) + b"aaaa",
        head(b"e", *[1] * (MAX_DIMENSIONS + 1)) + b"aa",
    ],
)
def test_a_payload_that_is_no_array_is_refused(payload: bytes) -> None:
    """Whatever its head claims, before anything is made of it."""
    with pytest.raises(BadArray):
        unpacked(payload, 2**40)


def test_numbers_and_lists_are_bounded() -> None:
    """Both count: many short rows are as dear as long ones."""
    assert unpacked(head(b"e", 5, 1, 2) + b"\0" * 20, 20) == ([[[0.0, 0.0]]] * 5, 20)
    with pytest.raises(BadArray, match="more numbers"):
        unpacked(head(b"e", 5, 1, 2) + b"\0" * 20, 19)


def test_dimensions() -> None:
    """MAX_DIMENSIONS are packed and read; a list that is deeper stays one."""
    value: Any = row()
    for _ in range(MAX_DIMENSIONS - 1):
        value = [value]
    deepest = packed(value, "f")
    assert numbers(deepest) == value
    assert packed([value], "f") == [value]


@given(st.binary(max_size=40))
def test_any_payload_is_an_array_or_refused(payload: bytes) -> None:
    """No other exception."""
    try:
        unpacked(payload, 1000)
    except BadArray:
        pass


def test_double_is_read() -> None:
    """A client may send 64 bits; remora never packs them."""
    assert unpacked(head(b"d", 2) + struct.pack("<2d", 0.1, 2.0), MOST) == ([0.1, 2.0], 2)
