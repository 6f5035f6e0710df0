"""The text of a call or of an answer with tensors, with marks where calls differ."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .pad import padded, padded_list
from .rest import Edit
from .tensor import Tensor

ROWS, DATA, SIZE, LENGTH, MASK = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"
"""How many rows there are; a tensor's elements, or how many bytes of them follow the text; steps of
a row; where the mask's tensor goes. Control characters, as all marks are (`rest`)."""

_MARK = re.compile(rb"([\x01-\x05])")


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


def filled(template: bytes, rows: int, length: int, held: Sequence[bytes]) -> bytes:
    """held: of each tensor, in order, its text, or its raw bytes, of which the length is told."""
    pieces = _MARK.split(template)
    tensors = iter(held)
    for place in range(1, len(pieces), 2):
        mark = pieces[place]
        if mark == ROWS:
            pieces[place] = b"%d" % rows
        elif mark == LENGTH:
            pieces[place] = b"%d" % length
        elif mark == DATA:
            pieces[place] = next(tensors)
        else:
            pieces[place] = b"%d" % len(next(tensors))
    return b"".join(pieces)


def kinds_of(template: bytes) -> list[bytes]:
    """DATA or SIZE for each tensor, in order."""
    return [mark for mark in _MARK.findall(template) if mark in (DATA, SIZE)]


def ones(mask: Column, own: int, steps: int, side: str) -> bytes:
    """A row of the mask."""
    if mask.binary:
        one = b"\1" + mask.step[1:]
        return mask.longer(one * own, steps - own, side)
    row = b",".join([b"1"] * own)
    return mask.longer(b"[%b]" % row if mask.nested else row, steps - own, side)


def packed(pieces: Sequence[bytes]) -> bytes:
    """Each behind its length in four bytes."""
    return b"".join([len(piece).to_bytes(4, "little") + piece for piece in pieces])


def unpacked(packed: bytes) -> list[bytes]:
    pieces = []
    at = 0
    while at < len(packed):
        end = at + 4 + int.from_bytes(packed[at : at + 4], "little")
        pieces.append(packed[at + 4 : end])
        at = end
    return pieces
