"""What every API can say of itself, and what the dialects share when they tell an error."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson

from ..errors import InternalError, ProxyError
from .prompt import Prompt

if TYPE_CHECKING:
    from ..exchange import Request
    from .batch.pad import Pad
    from .items import Parted

MAX_MESSAGE = 1024
"""Bytes of UTF-8 that an error's message may take in an answer."""

JSON = b"application/json"

MAX_MODEL = 128
"""Characters of a model's name that are kept."""

_NOT_IN_A_CODE = re.compile(r"[^A-Za-z0-9_.-]")


class Unstreamed(NamedTuple):
    """What a request and its streaming twin have in common: the target and JSON body of the
    one that does not stream.
    """

    target: bytes
    body: dict[str, Any]


class Api(Protocol):
    """One server API: which requests are its own, how its errors look, and what may be kept of
    its answers. No I/O.

    Whatever reads a request's body needs it in memory; until then it is as if there were none.
    An event's data is what stands behind `data:`, as bytes, its lines joined.
    """

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

    def deterministic(self, request: Request) -> bool:
        """Whether asking twice gives one answer: by what is asked for, or by its parameters.

        False for whatever is not understood.
        """
        ...

    def repeatable(self, request: Request) -> bool:
        """Whether asking twice leaves the server as asking once does (RFC 9110 section 9.2.2),
        though the method does not say so: inference of which the server keeps nothing.
        """
        ...

    def model(self, request: Request) -> str:
        """The model's name, at most MAX_MODEL characters; empty where unknown."""
        ...

    def streams(self, request: Request) -> bool:
        """Whether the client asked for an event stream."""
        ...

    def ends_stream(self, data: bytes) -> bool:
        """Whether an event with this data is the last one of a whole answer."""
        ...

    def fails_stream(self, data: bytes) -> bool:
        """Whether an event with this data tells of an error, whatever the status was."""
        ...

    def prompt(self, request: Request) -> Prompt:
        """What the model is to read; no text and 0 tokens where the API cannot tell."""
        ...

    def max_tokens(self, request: Request) -> int | None:
        """Tokens that the answer may take, all choices together; None: the client set no bound."""
        ...

    def usage(self, answer: Any) -> int:
        """Tokens that a JSON answer, or one parsed event, says it took; 0 where unknown."""
        ...

    def stream_usage(self, events: Iterable[bytes]) -> int:
        """Tokens that a stream says it took, by the data of its events: the last one to tell."""
        ...

    def unstreamed(self, request: Request) -> Unstreamed | None:
        """The same for a request and for its streaming twin; None where answers do not convert."""
        ...

    def to_stream(self, request: Request, answer: Any) -> list[bytes] | None:
        """The whole SSE events that `request` would have got, had `answer` been streamed to it.

        None where they cannot be told.
        """
        ...

    def to_answer(self, request: Request, events: Iterable[bytes]) -> Any:
        """The JSON answer that `request` would have got, from the data of a whole stream's events.

        None where it cannot be told.
        """
        ...

    def parts(self, request: Request, pad: Pad | None = None) -> Parted | None:
        """The request taken apart into items that may be asked for with those of others.

        None where they may not, or nobody can tell which part of an answer is whose: streams, what
        is drawn by a seed, unknown shapes, a body that is not in memory or could be read in two
        ways. pad: how rows of differing length are made equal, for APIs with tensors.
        """
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


class Unconverted:
    """An API whose answers and streams are not made from one another."""

    def unstreamed(self, request: Request) -> Unstreamed | None:
        return None

    def to_stream(self, request: Request, answer: Any) -> list[bytes] | None:
        return None

    def to_answer(self, request: Request, events: Iterable[bytes]) -> Any:
        return None


class Unmerged:
    """An API whose requests are about one thing, or about nobody knows what."""

    def parts(self, request: Request, pad: Pad | None = None) -> Parted | None:
        return None


class Unmetered:
    """An API that tells no tokens, and writes none."""

    def max_tokens(self, request: Request) -> int | None:
        return 0

    def usage(self, answer: Any) -> int:
        return 0

    def stream_usage(self, events: Iterable[bytes]) -> int:
        return 0


def tells_error(data: bytes) -> bool:
    """Whether an event's data is an object with an `error` in it."""
    if b'"error"' not in data:
        return False
    event = parse(data)
    return isinstance(event, dict) and event.get("error") is not None


def parse(data: bytes) -> Any:
    """JSON, or None where it is none."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def body_of(request: Request) -> dict[str, Any]:
    """The request's JSON object; an empty one where the body is no object or was not read."""
    body = request.json()
    return body if isinstance(body, dict) else {}


def is_flag(value: Any) -> bool:
    """Whether every server reads it the same: some take 1 or "true" for true."""
    return value is None or isinstance(value, bool)


def named(name: Any) -> str:
    """A model's name out of JSON, cut to MAX_MODEL."""
    return name[:MAX_MODEL] if isinstance(name, str) else ""


def count(value: Any) -> int:
    """A number of tokens out of JSON; 0 for anything that is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
