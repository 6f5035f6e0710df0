"""Text Embeddings Inference's own routes as items: each is one of `inputs`, or one of `texts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..items import Item, Parted
from ..shape import Untold
from .around import Around, Found, Items
from .asked import are, group_of, items_of, key_of, size_of
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
            return _embed(request, _INPUTS.find(request))
        if path == b"/predict":
            return _predict(request, _INPUTS.find(request))
        if path == b"/rerank":
            return _rerank(request, _TEXTS.find(request))
        if path in _ROOTS:
            return _at_root(request)
    except Untold:
        pass
    return None


def _at_root(request: Request) -> Parted:
    parsed = request.json()
    if not isinstance(parsed, dict):
        raise Untold
    if "inputs" not in parsed:
        return _rerank(request, _TEXTS.find(request))
    if parsed.get("parameters") or "stream" in parsed:
        raise Untold  # TGI's
    values = parsed["inputs"]
    if "raw_scores" in parsed or (isinstance(values, list) and are(list, values[:1]) and
                                  are(str, values[0][:1] if values else ())):  # fmt: skip
        return _predict(request, _INPUTS.find(request))
    return _embed(request, _INPUTS.find(request))


def _embed(request: Request, found: Found) -> Parted:
    """A bare input gets a list of one, as TEI answers it."""
    kind, items = inputs(found.piece, found.value)
    return _listed(request, found.around, f"embed {kind}", items, _LISTS)


def _predict(request: Request, found: Found) -> Parted:
    """A text, or a list of one or two texts, is one item, and its answer stands in no list.

    Only a list of such lists is a batch: `["a", "b"]` is one pair.
    """
    around, raw, values = found
    if isinstance(values, str):
        raw, values = b"[%b]" % raw, [values]
    if not isinstance(values, list) or not values:
        raise Untold
    form: Form
    if are(str, values):
        form, items = _LIST, [Item(raw, key_of(raw, values), size_of(values), len(raw) + 1)]
        sequences: list[Any] = [values]
    else:
        form, items, sequences = _LISTS, items_of(raw, values), values
    if not all(isinstance(one, list) and 0 < len(one) < 3 and are(str, one) for one in sequences):
        raise Untold
    return _listed(request, around, "predict", items, form)


def _rerank(request: Request, found: Found) -> Parted:
    """A pair of the query and each text is judged by itself."""
    around, piece, texts = found
    if not isinstance(texts, list) or not are(str, texts):
        raise Untold
    items = items_of(piece, texts)
    return _listed(request, around, "rerank", items, _RANKED, around.told)


def _query(parsed: dict[str, Any]) -> int:
    """Its characters."""
    query = parsed.get("query")
    if not isinstance(query, str):
        raise Untold
    return len(query)


_INPUTS = Items("inputs")
_TEXTS = Items("texts", _query)


def _listed(
    request: Request, around: Around, form: str, items: list[Item], answers: Form,
    characters: int = 0,
) -> Listed:  # fmt: skip
    group = group_of(request, form, around.rest)
    return Listed(request, group, items, (around.head, around.tail), answers, characters)
