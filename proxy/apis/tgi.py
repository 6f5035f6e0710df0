"""Text Generation Inference: its own routes, and the root that its clients POST everything to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import ProxyError
from .base import (
    JsonErrors,
    Unmerged,
    Unstreamed,
    body_of,
    code_of,
    count,
    is_flag,
    message_of,
    named,
    parse,
    sse,
    tells_error,
)
from .convert_tgi import to_events, to_whole
from .prompt import Prompt, most_of, prompt_of
from .sampling import greedy_by_default, seeded
from .shape import Untold
from .tei import is_tei

if TYPE_CHECKING:
    from ..exchange import Request

_PATHS = frozenset(
    {
        (b"POST", b"/generate"),
        (b"POST", b"/generate_stream"),
        (b"POST", b"/chat_tokenize"),
        (b"POST", b"/invocations"),
        (b"POST", b"/"),
        (b"GET", b"/info"),  # TEI has it too, and tells errors in the same shape
    }
)


_STREAM = b"/generate_stream"

# The body decides there, and an answer is a list of one.
_EITHER = frozenset({b"/", b"/invocations"})

# What an event that is not the last has, as serde writes it. Inside a text its quotes would stand
# behind backslashes.
_MORE = b'"generated_text":null'


class TGI(JsonErrors, Unmerged):
    name = "tgi"

    def owns(self, method: bytes, path: bytes) -> bool:
        return (method, path) in _PATHS

    def owns_body(self, request: Request) -> bool:
        """`{"inputs": TEXT, ...}` that no embedding client would send; or a body nobody read."""
        if not isinstance(request.body, bytes):
            return True
        body = request.json()
        return isinstance(body, dict) and isinstance(body.get("inputs"), str) and not is_tei(body)

    def describe(self, error: ProxyError) -> dict[str, Any]:
        """Clients choose their exception by `error_type`, and pass over `code`."""
        return _error(error, _type(error.status))

    def error_event(self, error: ProxyError) -> bytes:
        # Whatever failed, after the first byte the client holds part of a text. TGI's own error
        # events carry no `event:` line, and huggingface_hub raises for data that has `error`.
        return sse(_error(error, "incomplete_generation"))

    def deterministic(self, request: Request) -> bool:
        body = body_of(request)
        if request.method != b"POST" or not body:
            return False
        if request.path == b"/chat_tokenize":
            return True
        parameters = body.get("parameters") or {}
        if "inputs" not in body or not isinstance(parameters, dict):
            return False
        return seeded(parameters.get("seed")) or greedy_by_default(parameters)

    def repeatable(self, request: Request) -> bool:
        """All that it takes by POST is inference."""
        return self.owns(request.method, request.path)

    def model(self, request: Request) -> str:
        """It serves one; a client may name it, or an adapter (LoRA) of it."""
        body = body_of(request)
        parameters = body.get("parameters")
        adapter = parameters.get("adapter_id") if isinstance(parameters, dict) else None
        return named(adapter or body.get("model"))

    def streams(self, request: Request) -> bool:
        if request.path in _EITHER:
            return body_of(request).get("stream") is True
        return request.path == _STREAM

    def ends_stream(self, data: bytes) -> bool:
        """The event that carries the whole text is the last."""
        if _MORE in data:
            return False
        event = parse(data)
        return isinstance(event, dict) and event.get("generated_text") is not None

    def fails_stream(self, data: bytes) -> bool:
        return tells_error(data)

    def prompt(self, request: Request) -> Prompt:
        return prompt_of(body_of(request).get("inputs"), body_of(request).get("messages"))

    def max_tokens(self, request: Request) -> int | None:
        """TGI takes `best_of` at once and answers with one: each costs."""
        parameters = body_of(request).get("parameters")
        if request.path == b"/chat_tokenize":
            return 0
        if not isinstance(parameters, dict):
            return None
        return most_of(parameters.get("max_new_tokens"), parameters.get("best_of"))

    def usage(self, answer: Any) -> int:
        """Tokens generated, and those of the prompt where the answer has or counts them."""
        answers = answer if isinstance(answer, list) else [answer]
        return sum(map(_tokens, answers))

    def stream_usage(self, events: Iterable[bytes]) -> int:
        return max((self.usage(parse(data)) for data in events if _MORE not in data), default=0)

    def unstreamed(self, request: Request) -> Unstreamed | None:
        body = request.json()
        path, mark, query = request.target.partition(b"?")
        if request.method != b"POST" or not isinstance(body, dict) or "inputs" not in body:
            return None
        if path in _EITHER:
            if not is_flag(body.get("stream")):
                return None
        elif path not in (b"/generate", _STREAM):
            return None
        body = {key: value for key, value in body.items() if key != "stream"}
        target = b"/generate" if path == _STREAM else path
        return Unstreamed(target + mark + query, body)

    def to_stream(self, request: Request, answer: Any) -> list[bytes] | None:
        try:
            return to_events(answer, body_of(request))
        except Untold:
            return None

    def to_answer(self, request: Request, events: Iterable[bytes]) -> Any:
        try:
            answer = to_whole(events, body_of(request))
        except Untold:
            return None
        return [answer] if request.path in _EITHER else answer


def _tokens(answer: Any) -> int:
    details = answer.get("details") if isinstance(answer, dict) else None
    if not isinstance(details, dict):
        return 0
    prefill = details.get("prefill")
    prompt = len(prefill) if isinstance(prefill, list) else 0
    return count(details.get("generated_tokens")) + (count(details.get("input_length")) or prompt)


def _error(error: ProxyError, error_type: str) -> dict[str, Any]:
    return {"error": message_of(error), "error_type": error_type, "code": code_of(error)}


def _type(status: int) -> str:
    if status in (429, 503):
        return "overloaded"
    if status in (401, 403):
        # TGI has no type for it (its 401 is empty). "validation" would blame the prompt; a type
        # that is not known becomes UnknownError, with the message.
        return "authentication"
    return "generation" if status >= 500 else "validation"
