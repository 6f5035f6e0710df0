"""A list of items that stands anywhere in a JSON body, where a JSON Pointer finds it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from ..items import Parted
from ..shape import Untold
from .asked import asked_in, besides, group_of, items_of
from .instances import alike, form_of
from .listed import Form, Listed
from .pointer import Pointer, find
from .scan import begin, ends, skip

if TYPE_CHECKING:
    from ...exchange import Request


def parts(request: Request, to: Pointer, answers: Form) -> Parted | None:
    """Items that have the same names, sizes and kinds of values may share a call, where everything
    around the list is alike. A list that stands deeper than at the top needs the same bytes around.
    """
    raw = request.body
    if request.method != b"POST" or not isinstance(raw, bytes):
        return None
    parsed = request.json()
    try:
        values = value_at(parsed, to)
        if not isinstance(values, list):
            raise Untold
        start = find(raw, to)
        end = skip(raw, start)
        ends(raw, skip(raw, begin(raw)))
        items = items_of(raw[start:end], values)
        around = raw[:start], raw[end:]
        rest: Hashable = around
        if len(to) == 1 and isinstance(parsed, dict):
            rest = besides(asked_in(raw, parsed), to[0])
        form = alike([form_of(value) for value in values])
        return Listed(request, group_of(request, "generic", (form, rest)), items, around, answers)
    except Untold:
        return None


def value_at(value: Any, to: Pointer) -> Any:
    """What a pointer leads to; None where there is nothing."""
    for step in to:
        name = step.decode()
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and len(name) < 10:
            value = value[int(name)] if int(name) < len(value) else None
        else:
            return None
    return value
