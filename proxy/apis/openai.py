"""OpenAI's API, as vLLM, llama.cpp, SGLang, infinity, and TGI and TEI below `/v1` serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ProxyError
from .base import JsonErrors, code_of, message_of
from .kserve import KServe

if TYPE_CHECKING:
    from ..exchange import Request

_PREFIXES = (
    b"/v1/",
    b"/openai/",  # KServe's Hugging Face runtime, Azure
)

# llama.cpp, infinity and TEI have some routes without /v1; vLLM has Cohere's rerank.
_BARE = frozenset(
    {b"/chat/completions", b"/completions", b"/embeddings", b"/responses", b"/v2/rerank"}
)

# vLLM's, where TGI or TEI have a route of the same name.
_SHARED = frozenset({b"/tokenize", b"/rerank", b"/invocations"})
_BODY_KEYS = frozenset({"messages", "prompt", "input", "documents"})

# The names in OpenAI's error guide. Its 429 names the unit that ran out instead ("requests",
# "tokens"); a refusal here need not have one (a full queue), so the class is named. No client
# decides by `type`: openai's reads the status, and programs read `code`.
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class OpenAI(JsonErrors):
    name = "openai"

    def owns(self, method: bytes, path: bytes) -> bool:
        if path.startswith(_PREFIXES):
            return not KServe.is_v1(method, path)
        return method == b"POST" and (path in _BARE or path in _SHARED)

    def owns_body(self, request: Request) -> bool:
        body = request.json()
        return isinstance(body, dict) and not _BODY_KEYS.isdisjoint(body)

    def describe(self, error: ProxyError) -> dict[str, Any]:
        """As an event this ends a stream without `[DONE]`, so that no client takes it for whole.

        openai's client raises APIError for any event whose data has `error`.
        """
        kind = "server_error" if error.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": message_of(error),
                "type": _TYPES.get(error.status, kind),
                "param": None,
                "code": code_of(error),
            }
        }
