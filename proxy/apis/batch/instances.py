"""KServe's protocol v1 as items: each is one of `instances`, its answer one of `predictions`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...exchange import Response
from ..items import Answer, Call, Item, Parted, Shares
from ..shape import Untold
from .around import Items
from .asked import group_of, key_of, pieces_of, size_of
from .listed import Listed, Plain
from .pad import Pad, cut_prediction, nested, number, padded_list, padded_object

if TYPE_CHECKING:
    from ...exchange import Request

MAX_LEVELS = 16
"""Lists and objects in one another in an instance; with more the request passes as it is."""

_INSTANCES = Items("instances")
_PREDICTIONS = Plain((b"predictions",))

_KINDS: dict[type, str] = {int: "i", float: "f", str: "s", bool: "b", type(None): "n"}


def parts(request: Request, pad: Pad | None = None) -> Parted | None:
    """Instances may share a call that have the same names, sizes and kinds of values.

    pad: but for the size of the list that an instance is, or of the first list in it and those as
    long as that. None for what comes as a CloudEvent: its headers belong to one event.
    """
    try:
        around, listed, values = _INSTANCES.find(request)
        if not isinstance(values, list) or request.header(b"ce-id") is not None:
            raise Untold
        pieces = pieces_of(listed, values)
        both = around.head, around.tail
        if pad is not None and (rows := _rows(values, pad)) is not None:
            form, steps = rows
            items = _items(pieces, values, [_length(value, pad) for value in values])
            group = group_of(request, "padded instances", (form, around.rest))
            return Padded(request, group, items, both, pad, steps)
        form = alike(list(map(form_of, values)))
        items = _items(pieces, values, map(size_in, values))
        group = group_of(request, "instances", (form, around.rest))
        return Listed(request, group, items, both, _PREDICTIONS)
    except Untold:
        return None


def _items(pieces: Sequence[bytes], values: Sequence[Any], sizes: Iterable[int]) -> list[Item]:
    keys = map(key_of, pieces, values)
    weights = [len(piece) + 1 for piece in pieces]
    return list(map(Item, pieces, keys, sizes, weights))


def size_in(value: Any) -> int:
    """Of a list of numbers its length, of an object that of its first; else tokens of all text."""
    if isinstance(value, dict):
        return _length(value) or sum(map(size_in, value.values()))
    return _length(value) or size_of(value)


def _length(value: Any, pad: Pad | None = None) -> int:
    if isinstance(value, dict):
        named = ((key, one) for key, one in value.items() if pad is None or pad.takes(key))
        value = next((one for _, one in named if _is_row(one)), None)
    return len(value) if _is_row(value) else 0


def _is_row(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and type(value[0]) in (int, float, list)


def form_of(value: Any, levels: int = MAX_LEVELS) -> Hashable:
    """Names, sizes and kinds of a JSON value, without what it says. Raises Untold if it is deep.

    A list of numbers with one fraction is all fractions, as it is for who makes an array of it.
    """
    if not levels:
        raise Untold
    if isinstance(value, dict):
        return tuple(sorted((key, form_of(one, levels - 1)) for key, one in value.items()))
    if not isinstance(value, list):
        return _KINDS[type(value)]
    kinds = set(map(type, value))
    if kinds == {int, float}:
        return len(value), "f"
    if len(kinds) == 1 and kinds.isdisjoint((list, dict)):
        return len(value), _KINDS[kinds.pop()]
    return len(value), _alike_or_each([form_of(one, levels - 1) for one in value])


def _alike_or_each(forms: Sequence[Hashable]) -> Hashable:
    try:
        return alike(forms)
    except Untold:
        return tuple(forms)


def alike(forms: Sequence[Hashable]) -> Hashable:
    """The form that all have; where some have fractions, those without are taken for such, too."""
    different = set(forms)
    if len(different) > 1:
        different = {_fractions(form) for form in different}
    if len(different) != 1:
        raise Untold
    return different.pop()


def _fractions(form: Hashable) -> Hashable:
    if isinstance(form, tuple):
        return tuple(map(_fractions, form))
    return "f" if form == "i" else form


# -- padding


class Padded(Listed):
    """Instances whose rows differ in length. steps: what a step of each row holds, by its key, or
    by the empty key where the instance is itself the row.
    """

    __slots__ = ("_pad", "_steps")

    def __init__(
        self, request: Request, group: Hashable, items: Sequence[Item],
        around: tuple[bytes, bytes], pad: Pad, steps: Mapping[bytes, bytes],
    ) -> None:  # fmt: skip
        super().__init__(request, group, items, around, _PREDICTIONS)
        self._pad = pad
        self._steps = steps

    def call(self, items: Sequence[Item]) -> Call:
        steps = self._pad.length(item.size for item in items)
        return super().call([item._replace(data=self._longer(item, steps)) for item in items])

    def _longer(self, item: Item, steps: int) -> bytes:
        if b"" in self._steps:
            missing = steps - item.size
            return padded_list(item.data, missing, self._steps[b""], self._pad.side)
        return padded_object(item.data, item.size, steps, self._pad, self._steps)

    def split(self, response: Response, items: Sequence[Item]) -> Shares | None:
        shares = super().split(response, items)
        if shares is None:
            return None
        steps = self._pad.length(item.size for item in items)
        try:
            answers = [
                Answer(cut_prediction(one.data, item.size, steps, self._pad), one.tokens)
                for item, one in zip(items, shares.answers, strict=True)
            ]
        except Untold:
            return None
        return Shares(shares.rest, answers)


def _rows(values: Sequence[Any], pad: Pad) -> tuple[Hashable, dict[bytes, bytes]] | None:
    """The form that all have but for their rows' length, and what a step holds.

    None where nothing can be padded: no rows, steps that differ, or a mask and no name to put it.
    """
    try:
        form = alike([_row_form(value, pad) for value in values])
        pad.length(_length(value, pad) for value in values)
        if isinstance(values[0], list):
            if pad.mask is not None:
                return None
            return form, {b"": _step(form, pad.value)}
        assert isinstance(form, tuple)
        rows = [(key, inner[1]) for key, inner in form if inner[:1] == ("row",)]
        return form, {
            key.encode(): _step(inner, 0 if key == pad.mask else pad.value) for key, inner in rows
        }
    except Untold:
        return None


def _row_form(value: Any, pad: Pad) -> Hashable:
    """The form of an instance, or of an object's rows ("row", form of a step)."""
    length = _length(value, pad)
    if not length:
        raise Untold
    if isinstance(value, list):
        return _step_form(value)
    forms: list[tuple[str, Hashable]] = []
    for key, one in value.items():
        pads = _is_row(one) and len(one) == length and pad.takes(key)
        forms.append((key, ("row", _step_form(one)) if pads else form_of(one)))
    return tuple(sorted(forms))


def _step_form(row: list[Any]) -> Hashable:
    form = form_of(row)
    assert isinstance(form, tuple)
    step: Hashable = form[1]
    return step


def _step(form: Hashable, value: float) -> bytes:
    """A step in JSON. Raises Untold for one of anything but numbers."""
    sizes = []
    while isinstance(form, tuple) and len(form) == 2 and isinstance(form[0], int):
        size, form = form
        sizes.append(size)
    if form not in ("i", "f"):
        raise Untold
    return nested(number(value, "INT64" if form == "i" else "FP64"), sizes)
