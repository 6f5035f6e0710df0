"""OpenAI's embeddings and completions as items: each is one `input` or one `prompt`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..base import is_flag
from ..items import Item, Parted
from ..sampling import greedy
from ..shape import Untold
from .asked import Asked, are, asked, besides, group_of, item_of, items_at
from .listed import Indexed, Listed

if TYPE_CHECKING:
    from ...exchange import Request

MAX_CHOICES = 128
"""Completions of one prompt; a request for more passes as it is. OpenAI's own bound on `n`."""

_EMBEDDINGS = Indexed(b"data")

# What else a model may be given to read; such requests pass as they are.
_OTHER_INPUTS = ("messages", "prompt_embeds")


def parts(request: Request) -> Parted | None:
    """None for all but embeddings and completions; llama.cpp's own /completions is neither."""
    path = request.path
    if request.method != b"POST":
        return None
    try:
        if path.endswith(b"/embeddings"):
            return _embeddings(request)
        if path.endswith(b"/completions") and not path.endswith(b"/chat/completions"):
            return _completions(request) if path != b"/completions" else None
    except Untold:
        pass
    return None


def _embeddings(request: Request) -> Parted:
    body = asked(request)
    return _listed(request, body, "input", "embeddings", _EMBEDDINGS)


def _completions(request: Request) -> Parted:
    """Not a stream. A seed pins what is drawn for a call, and nobody promises that it is drawn
    for each prompt alike, so that a seeded request that draws is left alone.
    """
    body = asked(request)
    parsed = body.parsed
    if parsed.get("stream") or not is_flag(parsed.get("stream")):
        raise Untold
    if parsed.get("seed") is not None and not greedy(parsed):
        raise Untold
    each = parsed.get("n")
    if each is None:
        each = 1
    if type(each) is not int or not 1 <= each <= MAX_CHOICES:
        raise Untold
    return _listed(request, body, "prompt", "completions", Indexed(b"choices", each, True))


def _listed(request: Request, body: Asked, key: str, form: str, answers: Indexed) -> Listed:
    """A bare text or list of token ids is answered like a list with it alone."""
    if any(body.parsed.get(other) is not None for other in _OTHER_INPUTS):
        raise Untold
    at = body.at(key)
    kind, items = inputs(body.raw, at.start, at.end, body.parsed[key])
    around = body.raw[: at.start], body.raw[at.end :]
    group = group_of(request, f"{form} {kind}", besides(body, key.encode()))
    return Listed(request, group, items, around, answers)


def inputs(raw: bytes, start: int, end: int, value: Any) -> tuple[str, list[Item]]:
    """Texts, or lists of token ids; one of either may stand alone. Never both in one call."""
    if isinstance(value, str):
        return "text", [item_of(raw[start:end], value)]
    if not isinstance(value, list) or not value:
        raise Untold
    if are(str, value):
        return "text", items_at(raw, start, value)
    if are(int, value):
        return "tokens", [item_of(raw[start:end], value)]
    if are(list, value) and all(one and are(int, one) for one in value):
        return "tokens", items_at(raw, start, value)
    raise Untold
