"""Text Embeddings Inference's own routes as items: each is one of `inputs`, or one of `texts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..items import Item, Parted
from ..shape import Untold
from .asked import Asked, are, asked, besides, group_of, items_at, key_of, size_of
from .listed import Bare, Form, Listed, Plain, Ranked
from .openai import inputs

if TYPE_CHECKING:
    from ...exchange import Request

_EMBED = frozenset({b"/embed", b"/embed_all", b"/embed_sparse"})
_ROOTS = frozenset({b"/", b"/invocations"})

# An answer is a list for each item: a vector, a list of vectors or of weights, or of labels.
_LISTS = Plain(opener=b"[")
_LIST = Bare(opener=b"[")
_RANKED = Ranked()


def parts(request: Request) -> Parted | None:
    """None for what is not embed, predict or rerank. At a root the model decides which it is.

    The body tells rerank, and predict where it asks for raw scores or has lists of texts. Anything
    else is taken for embed: a classifier refuses such a call, or gives what is no list of lists.
    """
    if request.method != b"POST":
        return None
    path = request.path
    try:
        if path in _EMBED:
            return _embed(request, asked(request))
        if path == b"/predict":
            return _predict(request, asked(request))
        if path == b"/rerank":
            return _rerank(request, asked(request))
        if path in _ROOTS:
            return _at_root(request, asked(request))
    except Untold:
        pass
    return None


def _at_root(request: Request, body: Asked) -> Parted:
    parsed = body.parsed
    if "inputs" not in parsed:
        return _rerank(request, body)
    if parsed.get("parameters") or "stream" in parsed:
        raise Untold  # TGI's
    values = parsed["inputs"]
    if "raw_scores" in parsed or (isinstance(values, list) and are(list, values[:1]) and
                                  are(str, values[0][:1] if values else ())):  # fmt: skip
        return _predict(request, body)
    return _embed(request, body)


def _embed(request: Request, body: Asked) -> Parted:
    """A bare input gets a list of one, as TEI answers it."""
    at = body.at("inputs")
    kind, items = inputs(body.raw, at.start, at.end, body.parsed["inputs"])
    return _listed(request, body, b"inputs", f"embed {kind}", items, _LISTS)


def _predict(request: Request, body: Asked) -> Parted:
    """A text, or a list of one or two texts, is one item, and its answer stands in no list.

    Only a list of such lists is a batch: `["a", "b"]` is one pair.
    """
    at = body.at("inputs")
    values = body.parsed["inputs"]
    raw = body.raw[at.start : at.end]
    if isinstance(values, str):
        raw, values = b"[%b]" % raw, [values]
    if not isinstance(values, list) or not values:
        raise Untold
    form: Form
    if are(str, values):
        form, items = _LIST, [Item(raw, key_of(raw, values), size_of(values), len(raw) + 1)]
        sequences: list[Any] = [values]
    else:
        form, items, sequences = _LISTS, items_at(body.raw, at.start, values), values
    if not all(isinstance(one, list) and 0 < len(one) < 3 and are(str, one) for one in sequences):
        raise Untold
    return _listed(request, body, b"inputs", "predict", items, form)


def _rerank(request: Request, body: Asked) -> Parted:
    """A pair of the query and each text is judged by itself."""
    texts, query = body.parsed.get("texts"), body.parsed.get("query")
    if not isinstance(query, str) or not isinstance(texts, list) or not are(str, texts):
        raise Untold
    items = items_at(body.raw, body.at("texts").start, texts)
    return _listed(request, body, b"texts", "rerank", items, _RANKED, len(query))


def _listed(
    request: Request, body: Asked, key: bytes, form: str, items: list[Item], answers: Form,
    characters: int = 0,
) -> Listed:  # fmt: skip
    at = body.at(key.decode())
    around = body.raw[: at.start], body.raw[at.end :]
    group = group_of(request, form, besides(body, key))
    return Listed(request, group, items, around, answers, characters)
