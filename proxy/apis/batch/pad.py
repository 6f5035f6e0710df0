"""Rows of differing length made equal, so that one tensor can hold them, and answers cut back.

The rule for answers: an output is cut where its second dimension is the padded length, whatever its
name; what else it holds is left as it is. A dimension that has that size by chance (a vector as
long as the longest row) looks the same: name the outputs that do have the rows' length, and no
other is touched.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import orjson

from ..shape import Untold
from .rest import Edit, retold
from .scan import begin, elements, members

MAX_LENGTH = 131072
"""Steps that a row may have, once padded."""


class Pad(NamedTuple):
    """to_multiple_of: steps. side: where steps are put. value: what they hold. mask: name of the
    input that is 1 for a row's own steps and 0 for others; it is made where a request lacks it.
    inputs: names of those whose rows differ in length; None: the first that has a second dimension
    and is of numbers, and those with one as long. outputs: names of those to cut back; None: by
    the rule.
    """

    to_multiple_of: int = 1
    side: Literal["left", "right"] = "right"
    value: float = 0
    mask: str | None = None
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None

    def length(self, lengths: Iterable[int]) -> int:
        """Steps that every row is to have, being of these lengths. Raises Untold over the bound."""
        steps = -(-max(lengths) // self.to_multiple_of) * self.to_multiple_of
        if steps > MAX_LENGTH:
            raise Untold
        return steps

    def takes(self, name: str) -> bool:
        """Whether an input's rows may differ in length, by its name."""
        return self.inputs is None or name in self.inputs or name == self.mask

    def cuts(self, name: str) -> bool:
        """Whether the output is cut, should its second dimension be the padded length."""
        return self.outputs is None or name in self.outputs


def padded(row: bytes, missing: int, step: bytes, side: str, between: bytes = b",") -> bytes:
    """A row with steps added: elements with commas between, or with between=b"" raw bytes."""
    if not missing:
        return row
    added = between.join([step] * missing)
    if not row:
        return added
    return row + between + added if side == "right" else added + between + row


def padded_list(row: bytes, missing: int, step: bytes, side: str) -> bytes:
    """The same for a row that is a JSON list, brackets and all."""
    if not missing:
        return row
    inner = row[begin(row, 0) + 1 : row.rindex(b"]")].strip(b" \t\r\n")
    return b"[%b]" % padded(inner, missing, step, side)


def own_steps(pieces: Sequence[bytes], own: int, side: str) -> Sequence[bytes]:
    """Those of a padded row that are its own."""
    return pieces[:own] if side == "right" else pieces[len(pieces) - own :]


# -- what a step holds

_FORMATS = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b",
    "INT16": "h", "INT32": "i", "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip


def number(value: float, datatype: str) -> bytes:
    """A value of a datatype of the Open Inference Protocol in JSON. Raises Untold."""
    if datatype == "BOOL":
        return b"true" if value else b"false"
    binary(value, datatype)
    return orjson.dumps(int(value) if abs(value) < 2**63 and value == int(value) else value)


def binary(value: float, datatype: str) -> bytes:
    """The same as raw bytes, little-endian, as the binary tensor extension has them."""
    form = "f" if datatype == "BF16" else _FORMATS.get(datatype)
    if form is None:
        raise Untold
    if form not in "efd":
        if value != int(value):
            raise Untold
        value = int(value)
    try:
        packed = struct.pack("<" + form, value)
        return packed[2:] if datatype == "BF16" else packed
    except (struct.error, OverflowError):
        raise Untold from None


def nested(value: bytes, dims: Sequence[int]) -> bytes:
    """A step of these dimensions as JSON, every number of it the same."""
    for size in reversed(dims):
        value = b"[%b]" % b",".join([value] * size)
    return value


# -- instances of KServe's v1


def padded_object(
    raw: bytes, own: int, steps: int, pad: Pad, step_of: Mapping[bytes, bytes]
) -> bytes:
    """An instance with named lists. step_of: what a step of each list that is padded holds."""
    held, end = members(raw, begin(raw))
    edits: list[Edit] = []
    for key, start, stop, _ in held:
        if key in step_of:
            longer = padded_list(raw[start:stop], steps - own, step_of[key], pad.side)
            edits.append((start, stop, longer))
    if pad.mask is not None and all(key != pad.mask.encode() for key, *_ in held):
        mask = padded(b",".join([b"1"] * own), steps - own, b"0", pad.side)
        made = b"%b:[%b]" % (orjson.dumps(pad.mask), mask)
        edits.append((end - 1, end - 1, b"," + made if held else made))
    return retold(raw, edits)


def cut_prediction(raw: bytes, own: int, steps: int, pad: Pad) -> bytes:
    """A prediction by the rule of this module; its first dimension is an instance's second."""
    lead = raw[:1]
    if lead == b"[" and pad.outputs is None:
        return _cut_list(raw, own, steps, pad)
    if lead != b"{":
        return raw
    edits: list[Edit] = []
    for key, start, stop, _ in members(raw, 0)[0]:
        if raw[start : start + 1] == b"[" and pad.cuts(key.decode(errors="replace")):
            edits.append((start, stop, _cut_list(raw[start:stop], own, steps, pad)))
    return retold(raw, edits)


def _cut_list(raw: bytes, own: int, steps: int, pad: Pad) -> bytes:
    pieces, _ = elements(raw, 0)
    if len(pieces) != steps or own == steps:
        return raw
    return b"[%b]" % b",".join(own_steps(pieces, own, pad.side))
