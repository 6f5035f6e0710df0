"""Everything that no known API owns: errors as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ProxyError
from .base import (
    Unconverted,
    Unmerged,
    Unmetered,
    body_of,
    code_of,
    message_of,
    named,
    sse,
    tells_error,
)
from .prompt import Prompt, most_of, prompt_of

if TYPE_CHECKING:
    from ..exchange import Request


class Plain(Unconverted, Unmerged, Unmetered):
    name = "plain"

    def owns(self, method: bytes, path: bytes) -> bool:
        """Nothing is its own: it is what remains."""
        return False

    def owns_body(self, request: Request) -> bool:
        return False

    def error(self, error: ProxyError) -> tuple[bytes, bytes]:
        return b"text/plain; charset=utf-8", f"{code_of(error)}: {message_of(error)}\n".encode()

    def error_event(self, error: ProxyError) -> bytes:
        # `error` is what the clients of the known APIs look for: one whose API could not be
        # told, its body being a stream, raises all the same.
        return sse({"error": message_of(error), "code": code_of(error)}, b"error")

    def deterministic(self, request: Request) -> bool:
        """Never known: such answers are for HTTP's own rules (RFC 9111)."""
        return False

    def repeatable(self, request: Request) -> bool:
        """Never known: only the method tells."""
        return False

    def model(self, request: Request) -> str:
        """What the known APIs' bodies call it; llama.cpp's own routes do, too."""
        return named(body_of(request).get("model"))

    def prompt(self, request: Request) -> Prompt:
        """What llama.cpp's own routes call it."""
        return prompt_of(*map(body_of(request).get, ("prompt", "content", "messages")))

    def max_tokens(self, request: Request) -> int | None:
        body = body_of(request)
        return most_of(body.get("n_predict", body.get("max_tokens")))

    def streams(self, request: Request) -> bool:
        return body_of(request).get("stream") is True

    def ends_stream(self, data: bytes) -> bool:
        """Never known: a stream's end is its connection's."""
        return False

    def fails_stream(self, data: bytes) -> bool:
        return tells_error(data)
