"""Text Generation Inference: its own routes, and the root that its clients POST everything to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ProxyError
from .base import JsonErrors, code_of, message_of, sse
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


class TGI(JsonErrors):
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
