"""OpenAI's embeddings and completions as items: each is one `input` or one `prompt`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..base import is_flag
from ..items import Item, Parted
from ..sampling import greedy
from ..shape import Untold
from .around import Items
from .asked import are, group_of, item_of, items_of
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
            return _listed(request, _INPUT, "embeddings")
        if path.endswith(b"/completions") and not path.endswith(b"/chat/completions"):
            return _listed(request, _PROMPT, "completions") if path != b"/completions" else None
    except Untold:
        pass
    return None


def _embeds(parsed: dict[str, Any]) -> tuple[Indexed, bool]:
    """How the answers stand in an answer, and whether they are drawn."""
    if any(parsed.get(other) is not None for other in _OTHER_INPUTS):
        raise Untold
    return _EMBEDDINGS, False


def _completes(parsed: dict[str, Any]) -> tuple[Indexed, bool]:
    """Not a stream. A seed pins what is drawn for a call, and nobody promises that it is drawn
    for each prompt alike, so that a seeded request that draws is left alone.
    """
    if any(parsed.get(other) is not None for other in _OTHER_INPUTS):
        raise Untold
    if parsed.get("stream") or not is_flag(parsed.get("stream")):
        raise Untold
    drawn = not greedy(parsed)
    if parsed.get("seed") is not None and drawn:
        raise Untold
    each = parsed.get("n")
    if each is None:
        each = 1
    if type(each) is not int or not 1 <= each <= MAX_CHOICES:
        raise Untold
    return Indexed(b"choices", each, True), drawn


_INPUT = Items("input", _embeds)
_PROMPT = Items("prompt", _completes)


def _listed(request: Request, asked: Items, form: str) -> Listed:
    """A bare text or list of token ids is answered like a list with it alone."""
    around, piece, value = asked.find(request)
    kind, items = inputs(piece, value)
    answers, drawn = around.told
    group = group_of(request, f"{form} {kind}", around.rest)
    return Listed(request, group, items, (around.head, around.tail), answers, drawn=drawn)


def inputs(piece: bytes, value: Any) -> tuple[str, list[Item]]:
    """Texts, or lists of token ids; one of either may stand alone. Never both in one call."""
    if isinstance(value, str):
        return "text", [item_of(piece, value)]
    if not isinstance(value, list) or not value:
        raise Untold
    if are(str, value):
        return "text", items_of(piece, value)
    if are(int, value):
        return "tokens", [item_of(piece, value)]
    if are(list, value) and all(one and are(int, one) for one in value):
        return "tokens", items_of(piece, value)
    raise Untold
