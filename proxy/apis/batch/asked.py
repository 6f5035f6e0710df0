"""A request's JSON body as its members, and the values in a list of it as items."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from ..items import Item
from ..prompt import BYTES_PER_TOKEN, prompt_of
from ..shape import Untold
from .rest import reading
from .scan import NOBODY, Member, Reader, elements, ends, members, strings, whole

if TYPE_CHECKING:
    from ...exchange import Request

MAX_ITEMS = 2048
"""Items of one request; one with more passes as it is. OpenAI's own bound on a list of inputs."""

_SPACE = b" \t\r\n"


class Asked(NamedTuple):
    """raw: the body. parsed: it, as JSON. held: where its members stand."""

    raw: bytes
    parsed: dict[str, Any]
    held: list[Member]

    def at(self, key: str) -> Member:
        """Raises Untold where there is none: a key may be written in more ways than one."""
        name = key.encode()
        for one in self.held:
            if one.key == name:
                return one
        raise Untold


def asked(request: Request) -> Asked:
    """Raises Untold for a body that is no JSON object, or that could be read in two ways.

    It was parsed: what a client sends among the items of others must be sound.
    """
    if not isinstance(request.body, bytes):
        raise Untold
    parsed = request.json()
    if not isinstance(parsed, dict):
        raise Untold
    return asked_in(request.body, parsed)


def asked_in(raw: bytes, parsed: dict[str, Any], readers: Mapping[bytes, Reader] = NOBODY) -> Asked:
    held, end = members(raw, whole(raw, b"{"), readers)
    ends(raw, end)
    return Asked(raw, parsed, held)


def besides(body: Asked, *but: bytes) -> Hashable:
    """The members but these, as written, whatever their order."""
    raw = body.raw
    return tuple(sorted((one.key, raw[one.start : one.end]) for one in body.held
                        if one.key not in but))  # fmt: skip


def group_of(request: Request, form: str, rest: Hashable) -> Hashable:
    return form, reading(request), rest


def pieces_of(listed: bytes, values: Sequence[Any]) -> list[bytes]:
    """The elements of a list in JSON, which were parsed as `values`. Raises Untold."""
    if len(values) == 1:
        return [listed[1:-1].strip(_SPACE)]
    if not 0 < len(values) <= MAX_ITEMS:
        raise Untold
    pieces = strings(listed) if are(str, values) else elements(listed, 0)[0]
    if len(pieces) != len(values):
        raise Untold
    return pieces


def items_of(listed: bytes, values: Sequence[Any]) -> list[Item]:
    return list(map(item_of, pieces_of(listed, values), values))


def item_of(piece: bytes, value: Any) -> Item:
    """An item out of a JSON value: as it was written, and as it was parsed."""
    return Item(piece, key_of(piece, value), size_of(value), len(piece) + 1)


def key_of(piece: bytes, value: Any) -> bytes:
    """The same for texts that differ in escapes or white space alone; never for others."""
    if isinstance(value, str):
        return orjson.dumps(value) if b"\\" in piece else piece
    if b'"' not in piece:
        return piece.translate(None, _SPACE)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return orjson.dumps(value)
    return piece


def size_of(value: Any) -> int:
    """Tokens: about, as `proxy.apis.prompt` says; of token ids exactly."""
    if isinstance(value, str):
        size = len(value) if value.isascii() else len(value.encode(errors="replace"))
        return -(-size // BYTES_PER_TOKEN)
    return prompt_of(value).tokens


def are(kind: type, values: Iterable[Any]) -> bool:
    """Whether all are of this very type: true is no int here."""
    return set(map(type, values)) <= {kind}
