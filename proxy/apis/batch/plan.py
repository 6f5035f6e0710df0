"""What is alike in all requests of a group for inference: everything but rows and ids."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import orjson

from ..shape import Untold
from .asked import MAX_ITEMS, asked_in
from .pad import Pad, binary, nested, number
from .rest import ID, Edit, rest_of
from .scan import Member, member, skip, words_or_elements
from .template import DATA, LENGTH, MASK, ROWS, SIZE, Column, Template, edits_of
from .tensor import Tensor, is_nested, tensors

MAX_PLANS = 256
"""Texts of requests, less their rows, that are remembered; with one more all are forgotten."""

MAX_TEXT = 4096
"""Bytes of such a text; a longer one is read anew each time."""

# Where one of these is set a call belongs to a sequence of them, in an order.
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")

# Before a list of elements, or an id; one that is no text is none to servers.
_CUT = re.compile(rb'"(?:data"[ \t\n\r]*+:[ \t\n\r]*+(?=\[)|(id)"[ \t\n\r]*+:[ \t\n\r]*+(?="))')


class Plan:
    """How to take requests with this text apart.

    cuts: where the text that it was made of has rows and an id. read: the inputs. length: steps of
    a row. of_texts: a row has no steps, and is as long as its text. pad: None where nothing is
    padded. mask: the input that is made.
    """

    __slots__ = (
        "columns", "cuts", "group", "length", "mask", "of_texts", "pad", "read", "template",
    )  # fmt: skip

    def __init__(
        self, head: bytes, inputs: Member, read: Sequence[Tensor], id_: Member | None,
        pad: Pad | None,
    ) -> None:  # fmt: skip
        """Raises Untold for a request that is not to be taken apart."""
        counts = {one.shape[0] for one in read}
        if len(counts) != 1 or counts.pop() > MAX_ITEMS:
            raise Untold
        # Whoever keeps a plan does not keep rows.
        self.read = [_less_rows(one) for one in read]
        self.columns = [
            Column(one.size is not None, is_nested(one.data and one.data.read)) for one in read
        ]
        self.length = next((one.shape[1] for one in read if _has_length(one, pad)), 1)
        edits: list[Edit] = []
        for one, column in zip(read, self.columns, strict=True):
            edits += edits_of(one)
            if pad is not None and self._pads(one, column, pad):
                edits.append((*one.dims[1], LENGTH))
        self.mask: Column | None = None
        self.pad = None
        made = b""
        if pad is not None and any(column.pads for column in self.columns):
            pad.length([self.length])
            self.pad = pad
            if pad.mask is not None and all(one.name != pad.mask for one in read):
                made = self._make_mask(pad.mask)
                edits.append((inputs.end - 1, inputs.end - 1, MASK))
        self.of_texts = self.pad is None and read[0].datatype == "BYTES"
        self.cuts = {one.data.start for one in read if one.data is not None}
        if id_ is not None:
            self.cuts.add(id_.start)
            edits.append((id_.start, id_.end, ID))
        text = rest_of(head, edits).replace(MASK, made)
        self.template = Template(text)
        forms = tuple([(one.binary, one.nested, one.pads) for one in self.columns])
        self.group: Hashable = (text, forms, self.pad)

    def _pads(self, one: Tensor, column: Column, pad: Pad) -> bool:
        """Whether it is as long as the first input that has a length, and of numbers."""
        if not _has_length(one, pad) or one.shape[1] != self.length:
            return False
        value = 0 if one.name == pad.mask else pad.value
        each = one.row // one.shape[1]
        if column.binary:
            column.step = binary(value, one.datatype) * each
        elif column.nested:
            column.step = nested(number(value, one.datatype), one.shape[2:])
        else:
            column.step = b",".join([number(value, one.datatype)] * each)
        column.pads = True
        return True

    def _make_mask(self, name: str) -> bytes:
        """The text of an input for the mask, of the first padded input's kind."""
        both = zip(self.columns, self.read, strict=True)
        like, one = next((column, one) for column, one in both if column.pads)
        datatype = one.datatype if "INT" in one.datatype else "INT64"
        self.mask = Column(like.binary, like.nested)
        self.mask.pads = True
        self.mask.step = binary(0, datatype) if like.binary else b"0"
        held = (
            b'"parameters":{"binary_data_size":%b}' % SIZE if like.binary else b'"data":%b' % DATA
        )
        return b',{"name":%b,"datatype":"%b","shape":[%b,%b],%b}' % (
            orjson.dumps(name), datatype.encode(), ROWS, LENGTH, held
        )  # fmt: skip


class Known(NamedTuple):
    """A plan, with one request's own id, if it has one, and the elements of its inputs in text."""

    plan: Plan
    id: bytes | None
    data: list[bytes | list[bytes]]


_plans: dict[Hashable, Plan] = {}


def known(head: bytes, parsed: dict[str, Any], pad: Pad | None) -> Known:
    """head: sound JSON, and `parsed` what it says. Raises Untold.

    Clients write the same text again and again but for rows and ids: between two of those the same
    bytes have the same meaning, so they need not be looked at twice (tests/bench: batching).
    """
    texts: list[bytes] = []
    cuts: set[int] = set()
    data: list[bytes | list[bytes]] = []
    own = None
    done = 0
    while found := _CUT.search(head, done):
        start = found.end()
        texts.append(head[done:start])
        cuts.add(start)
        if found[1] is None:
            pieces, done = words_or_elements(head, start)
            data.append(pieces)
        else:
            done = skip(head, start)
            own = head[start:done]
    texts.append(head[done:])
    nested_ = tuple(map(is_nested, data))
    key = tuple(texts), nested_, pad
    plan = _plans.get(key)
    if plan is not None:
        return Known(plan, own, data)
    made = _made(head, parsed, pad)
    # Where they differ, a member of something else has such a name, and the text says too little.
    if made.plan.cuts == cuts and sum(map(len, texts)) <= MAX_TEXT:
        if len(_plans) >= MAX_PLANS:
            _plans.clear()
        _plans[key] = made.plan
    return made


def _made(head: bytes, parsed: dict[str, Any], pad: Pad | None) -> Known:
    body = asked_in(head, parsed, {b"inputs": tensors})
    _independent(parsed)
    inputs, id_ = body.at("inputs"), member(body.held, b"id")
    if not isinstance(parsed.get("id"), str):
        id_ = None
    read: list[Tensor] = inputs.read
    plan = Plan(head, inputs, read, id_, pad)
    data = [one.data.read for one in read if one.data is not None]
    return Known(plan, None if id_ is None else head[id_.start : id_.end], data)


def _less_rows(one: Tensor) -> Tensor:
    return one if one.data is None else one._replace(data=one.data._replace(read=None))


def _has_length(one: Tensor, pad: Pad | None) -> bool:
    if len(one.shape) < 2 or one.datatype == "BYTES":
        return False
    return pad is None or pad.takes(one.name)


def _independent(parsed: dict[str, Any]) -> None:
    """Raises Untold for one of a sequence, or answers that go to shared memory."""
    parameters = parsed.get("parameters")
    if isinstance(parameters, dict) and any(parameters.get(key) for key in _SEQUENCE):
        raise Untold
    outputs = parsed.get("outputs")
    for output in outputs if isinstance(outputs, list) else ():
        asked = output.get("parameters") if isinstance(output, dict) else None
        if isinstance(asked, dict) and any(key.startswith("shared_memory") for key in asked):
            raise Untold
