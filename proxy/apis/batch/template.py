"""The text of a call or of an answer with tensors, with marks where calls differ."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .pad import padded, padded_list
from .rest import ID, Edit
from .tensor import Tensor

ROWS, DATA, SIZE, LENGTH, MASK = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"
"""How many rows there are; a tensor's elements, or how many bytes of them follow the text; steps of
a row; where the mask's tensor goes. Control characters, as all marks are (`rest`)."""

_MARK = re.compile(b"([%b])" % b"".join((ROWS, DATA, SIZE, LENGTH, ID)))


class Column:
    """What an input of every request of a group has in common.

    row: elements of a row, or of a step of it where rows differ in length. step: what a step holds
    that is put there, in the form of the rows. binary: its rows are raw bytes.
    """

    __slots__ = ("binary", "nested", "pads", "step")

    def __init__(self, binary_: bool, nested_: bool) -> None:
        self.binary = binary_
        self.nested = nested_
        self.pads = False
        self.step = b""

    def longer(self, row: bytes, missing: int, side: str) -> bytes:
        if not self.pads:
            return row
        if self.nested:
            return padded_list(row, missing, self.step, side)
        return padded(row, missing, self.step, side, b"" if self.binary else b",")


def edits_of(one: Tensor) -> list[Edit]:
    """Marks for how many rows there are, and for the rows."""
    edits: list[Edit] = [(*one.dims[0], ROWS)]
    if one.data is not None:
        edits.append((one.data.start, one.data.end, DATA))
    elif one.size is not None:
        edits.append((one.size.start, one.size.end, SIZE))
    return edits


class Template:
    """A text, cut at its marks once to be filled many times. tensors: how many it has."""

    __slots__ = ("_marks", "_pieces", "tensors")

    def __init__(self, text: bytes) -> None:
        self._pieces = _MARK.split(text)
        self._marks = [(place, self._pieces[place]) for place in range(1, len(self._pieces), 2)]
        self.tensors = sum(mark in (DATA, SIZE) for _, mark in self._marks)

    def filled(
        self, id_: bytes, length: int, columns: Sequence[Sequence[bytes]]
    ) -> tuple[bytes, list[bytes]]:
        """The text, and what follows it. columns: each tensor's rows."""
        pieces = self._pieces.copy()
        tail: list[bytes] = []
        tensors = iter(columns)
        for place, mark in self._marks:
            if mark == ROWS:
                pieces[place] = b"%d" % len(columns[0])
            elif mark == DATA:
                pieces[place] = b"[%b]" % b",".join(next(tensors))
            elif mark == SIZE:
                tail.append(b"".join(next(tensors)))
                pieces[place] = b"%d" % len(tail[-1])
            else:
                pieces[place] = id_ if mark == ID else b"%d" % length
        return b"".join(pieces), tail


def ones(mask: Column, own: int, steps: int, side: str) -> bytes:
    """A row of the mask."""
    if mask.binary:
        one = b"\1" + mask.step[1:]
        return mask.longer(one * own, steps - own, side)
    row = b",".join([b"1"] * own)
    return mask.longer(b"[%b]" % row if mask.nested else row, steps - own, side)


def packed(pieces: Sequence[bytes]) -> bytes:
    """As one: each behind its length in four bytes, where there are several."""
    if len(pieces) == 1:
        return pieces[0]
    return b"".join([len(piece).to_bytes(4, "little") + piece for piece in pieces])


def unpacked(packed: bytes, count: int) -> list[bytes]:
    if count == 1:
        return [packed]
    pieces = []
    at = 0
    while at < len(packed):
        end = at + 4 + int.from_bytes(packed[at : at + 4], "little")
        pieces.append(packed[at + 4 : end])
        at = end
    return pieces
