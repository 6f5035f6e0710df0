"""OpenAI's API, as vLLM, llama.cpp, SGLang, infinity, and TGI and TEI below `/v1` serve it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..errors import ProxyError
from .base import (
    JsonErrors,
    Unstreamed,
    body_of,
    code_of,
    count,
    is_flag,
    message_of,
    named,
    parse,
    tells_error,
)
from .batch import openai as batch
from .convert_openai import to_events, to_whole
from .kserve import KServe
from .prompt import Prompt, prompt_of, whole
from .sampling import greedy, seeded
from .shape import Untold

if TYPE_CHECKING:
    from ..exchange import Request
    from .batch.pad import Pad
    from .items import Parted

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


_INVOCATIONS = b"/invocations"

# Computed from the body alone. The last segment of the path.
_COMPUTED = frozenset(
    {b"embeddings", b"rerank", b"score", b"classify", b"pooling", b"moderations"}
    | {b"tokenize", b"detokenize"}
)

_COMPLETIONS = (b"/chat/completions", b"/completions")
_GENERATIONS = (*_COMPLETIONS, b"/responses", b"/v1/messages")

# Inference that is no text.
_MEDIA = (
    b"/audio/speech", b"/audio/transcriptions", b"/audio/translations", b"/images/generations",
)  # fmt: skip
_REPEATABLE = (*_GENERATIONS, *_MEDIA, _INVOCATIONS)

# Where one of these is set, the answer stands on more than the body, or is to change the server.
_STATE = ("conversation", "background", "store", "web_search_options", "data_sources")

# Kinds of tools that the client runs.
_OURS = ("function", "custom")

# What a model reads, in the order in which it does.
_READ = ("tools", "system", "instructions", "messages", "prompt", "input", "query", "documents")

# The bound on an answer. Of several, servers differ in which one they heed.
_MOST = ("max_completion_tokens", "max_tokens", "max_output_tokens", "n_predict")

_STREAM_KEYS = frozenset({"stream", "stream_options"})

# Of the Responses API, and of Anthropic's messages, which vLLM and llama.cpp serve below /v1.
_LAST = ("response.completed", "response.incomplete", "message_stop")
_FAILED = ("response.failed", "error")
_FAILED_BYTES = tuple(f'"{kind}"'.encode() for kind in _FAILED)

_DEPLOYMENTS = b"/openai/deployments/"


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

    def deterministic(self, request: Request) -> bool:
        """Embeddings and the like; a generation at temperature 0 (the default is 1) or seeded."""
        body = body_of(request)
        if request.method != b"POST" or not body:
            return False
        last = request.path.rpartition(b"/")[2]
        if last in _COMPUTED:
            return True
        if request.path == _INVOCATIONS:
            if "messages" not in body and "prompt" not in body:
                return "input" in body or "documents" in body
        elif not request.path.endswith(_GENERATIONS):
            return False
        if any(map(body.get, _STATE)) or not _only_functions(body.get("tools")):
            return False
        return seeded(body.get("seed")) or greedy(body)

    def repeatable(self, request: Request) -> bool:
        """Generations and what is computed; not where the server is to keep something."""
        path = request.path
        if request.method != b"POST":
            return False
        known = path.endswith(_REPEATABLE) or path.rpartition(b"/")[2] in _COMPUTED
        return known and not any(map(body_of(request).get, _STATE))

    def model(self, request: Request) -> str:
        """The body's `model`; on Azure the deployment in the path."""
        if request.path.startswith(_DEPLOYMENTS):
            name = request.path[len(_DEPLOYMENTS) :].partition(b"/")[0]
            return named(unquote(name.decode("latin-1")))
        return named(body_of(request).get("model"))

    def streams(self, request: Request) -> bool:
        return request.method == b"POST" and body_of(request).get("stream") is True

    def ends_stream(self, data: bytes) -> bool:
        if data.startswith(b"[DONE]"):
            return True
        # Every event comes by here: only what may be the last one is parsed.
        return (b'"response.' in data or b"message_stop" in data) and _type(data) in _LAST

    def fails_stream(self, data: bytes) -> bool:
        """An `error`, or the Responses API's event for one."""
        if not any(mark in data for mark in _FAILED_BYTES):
            return False
        return tells_error(data) or _type(data) in _FAILED

    def prompt(self, request: Request) -> Prompt:
        """Tools come first, as chat templates put them; a rerank's query before its documents."""
        return prompt_of(*map(body_of(request).get, _READ))

    def max_tokens(self, request: Request) -> int | None:
        body = body_of(request)
        if not request.path.endswith((*_GENERATIONS, _INVOCATIONS)):
            return 0
        bounds = [most for name in _MOST if (most := whole(body.get(name))) is not None]
        if not bounds:
            return None
        choices = max(whole(body.get("n")) or 1, whole(body.get("best_of")) or 1)
        return max(bounds) * choices * _prompts(body.get("prompt"))

    def usage(self, answer: Any) -> int:
        if not isinstance(answer, dict):
            return 0
        usage = answer.get("usage")
        if usage is None and isinstance(answer.get("response"), dict):
            usage = answer["response"].get("usage")
        if not isinstance(usage, dict):
            return 0
        parts = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
        return count(usage.get("total_tokens")) or sum(count(usage.get(part)) for part in parts)

    def stream_usage(self, events: Iterable[bytes]) -> int:
        tokens = 0
        for data in events:
            if b'"usage"' in data:
                tokens = self.usage(parse(data)) or tokens
        return tokens

    def unstreamed(self, request: Request) -> Unstreamed | None:
        """Chat and completions convert; not where a server might read `stream` otherwise."""
        body = request.json()
        if request.method != b"POST" or not isinstance(body, dict):
            return None
        if not request.path.endswith((*_COMPLETIONS, _INVOCATIONS)):
            return None
        if not (body.keys() & {"messages", "prompt"}):
            return None
        if not is_flag(body.get("stream")):
            return None
        kept = {key: value for key, value in body.items() if key not in _STREAM_KEYS}
        return Unstreamed(request.target, kept)

    def to_stream(self, request: Request, answer: Any) -> list[bytes] | None:
        """As `to_events` says; None also where usage was asked for in every event (vLLM)."""
        options = body_of(request).get("stream_options") or {}
        if not isinstance(options, dict) or options.get("continuous_usage_stats"):
            return None
        try:
            return to_events(answer, bool(options.get("include_usage")))
        except Untold:
            return None

    def to_answer(self, request: Request, events: Iterable[bytes]) -> Any:
        try:
            return to_whole(events)
        except Untold:
            return None

    def parts(self, request: Request, pad: Pad | None = None) -> Parted | None:
        """Embeddings by `input`, completions by `prompt`."""
        return batch.parts(request)


def _prompts(prompt: Any) -> int:
    """How many a completion is asked for: each has an answer of its own."""
    if not isinstance(prompt, list) or not prompt or not isinstance(prompt[0], (str, list)):
        return 1
    return len(prompt)


def _only_functions(tools: Any) -> bool:
    """Whether no tool is the server's own: a search does not find the same thing twice."""
    return not tools or (
        isinstance(tools, list)
        and all(isinstance(tool, dict) and tool.get("type", "function") in _OURS for tool in tools)
    )


def _type(data: bytes) -> Any:
    event = parse(data)
    return event.get("type") if isinstance(event, dict) else None
