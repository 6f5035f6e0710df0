"""Text Embeddings Inference: its own routes, and the root that its clients POST everything to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ProxyError
from .base import (
    JsonErrors,
    Unconverted,
    Unmetered,
    body_of,
    code_of,
    message_of,
    named,
    tells_error,
)
from .batch import tei as batch
from .prompt import Prompt, prompt_of

if TYPE_CHECKING:
    from ..exchange import Request
    from .batch.pad import Pad
    from .items import Parted

_PATHS = frozenset(
    {b"/embed", b"/embed_all", b"/embed_sparse", b"/predict", b"/similarity", b"/decode"}
    | {b"/rerank", b"/tokenize"}
)

# Which of embed, predict and rerank answers here depends on the model.
_ROOTS = frozenset({b"/", b"/invocations"})

# Options of embed and predict; TGI's clients send theirs below `parameters`.
_OPTIONS = frozenset(
    {"truncate", "truncation_direction", "normalize", "prompt_name", "dimensions", "raw_scores"}
)


def is_tei(body: dict[str, Any]) -> bool:
    """Whether a body sent to a root is for embed, predict, similarity or rerank."""
    if "inputs" not in body:
        return "query" in body and "texts" in body
    if body.get("parameters") or "stream" in body:
        return False
    inputs = body["inputs"]
    if isinstance(inputs, dict):
        return "sentences" in inputs
    return isinstance(inputs, list) or not _OPTIONS.isdisjoint(body)


class TEI(JsonErrors, Unconverted, Unmetered):
    name = "tei"

    def owns(self, method: bytes, path: bytes) -> bool:
        return method == b"POST" and (path in _PATHS or path in _ROOTS)

    def owns_body(self, request: Request) -> bool:
        """At a root, what `is_tei` says; elsewhere yes, being asked after vLLM's API."""
        if request.path not in _ROOTS:
            return True
        body = request.json()
        return isinstance(body, dict) and is_tei(body)

    def describe(self, error: ProxyError) -> dict[str, Any]:
        """`error_type` is one of TEI's; `code` is added, and its clients pass over it."""
        return {"error": message_of(error), "error_type": _type(error), "code": code_of(error)}

    def deterministic(self, request: Request) -> bool:
        """Whatever it serves is computed from the body alone."""
        return self.owns(request.method, request.path) and bool(body_of(request))

    def repeatable(self, request: Request) -> bool:
        """All that it serves is inference."""
        return self.owns(request.method, request.path)

    def model(self, request: Request) -> str:
        """It serves one; a client may name it all the same."""
        return named(body_of(request).get("model"))

    def prompt(self, request: Request) -> Prompt:
        return prompt_of(*map(body_of(request).get, ("query", "inputs", "texts")))

    def streams(self, request: Request) -> bool:
        return False

    def ends_stream(self, data: bytes) -> bool:
        return False

    def fails_stream(self, data: bytes) -> bool:
        return tells_error(data)

    def parts(self, request: Request, pad: Pad | None = None) -> Parted | None:
        """Embed and predict by `inputs`, rerank by `texts`."""
        return batch.parts(request)


# TEI's own 503 is Unhealthy; these are a full queue, which it tells as Overloaded.
_FULL = frozenset({"unavailable", "queue_full", "upstream_pool_full", "upstream_pool_timeout"})


def _type(error: ProxyError) -> str:
    if error.status == 429 or error.code in _FULL:
        return "Overloaded"
    if error.status == 503:
        return "Unhealthy"
    return "Backend" if error.status >= 500 else "Validation"
