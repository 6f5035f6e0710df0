"""What every API can say of itself, and what the dialects share when they tell an error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from ..errors import InternalError, ProxyError

if TYPE_CHECKING:
    from ..exchange import Request

MAX_MESSAGE = 1024
"""Bytes of UTF-8 that an error's message may take in an answer."""

JSON = b"application/json"

_NOT_IN_A_CODE = re.compile(r"[^A-Za-z0-9_.-]")


class Api(Protocol):
    """One server API: which requests are its own, and how an error looks in it. No I/O."""

    @property
    def name(self) -> str:
        """The API's name in the file, as in `api: openai`."""
        ...

    def owns(self, method: bytes, path: bytes) -> bool:
        """Whether the API serves this; `path` is the target's bytes without the query."""
        ...

    def owns_body(self, request: Request) -> bool:
        """Whether the body is this API's. Asked only where several own the method and path."""
        ...

    def error(self, error: ProxyError) -> tuple[bytes, bytes]:
        """Content type and body of an error answer."""
        ...

    def error_event(self, error: ProxyError) -> bytes:
        """One whole SSE event, blank line included, that ends a stream as failed."""
        ...


class JsonErrors:
    """An API that tells its errors as a JSON object, in an answer and in a stream alike."""

    def describe(self, error: ProxyError) -> dict[str, Any]:
        raise NotImplementedError

    def error(self, error: ProxyError) -> tuple[bytes, bytes]:
        return JSON, orjson.dumps(self.describe(error))

    def error_event(self, error: ProxyError) -> bytes:
        return sse(self.describe(error))


def code_of(error: ProxyError) -> str:
    """The stable code. A plugin chooses its own; none may hold what ends a header or a line."""
    return _NOT_IN_A_CODE.sub("_", error.code)


def message_of(error: ProxyError) -> str:
    """What a client is told: printable, one line, at most MAX_MESSAGE bytes.

    An InternalError's own message is for the log alone: it may quote anything. Whoever raises
    another ProxyError keeps header values and secrets out of its message.
    """
    if isinstance(error, InternalError):
        return "remora failed; its log says how"
    # Clients split a stream with str.splitlines, which also breaks at U+0085 and U+2028, and
    # JSON has no form for a lone surrogate; isprintable() is false for all of them.
    line = "".join(c if c.isprintable() else " " for c in error.message[: MAX_MESSAGE + 1])
    told = line.encode()
    if len(told) > MAX_MESSAGE:
        line = told[: MAX_MESSAGE - 3].decode(errors="ignore") + "..."
    return line


def sse(data: dict[str, Any], event: bytes = b"") -> bytes:
    """One server-sent event with `data` as JSON, which never holds a line end."""
    head = b"event: " + event + b"\n" if event else b""
    return head + b"data: " + orjson.dumps(data) + b"\n\n"
