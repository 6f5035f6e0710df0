"""An API that only the file knows: where a request has its list of items, and an answer theirs."""

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
from .batch.listed import Plain
from .batch.pointed import parts, value_at
from .batch.pointer import pointer
from .prompt import Prompt, prompt_of

if TYPE_CHECKING:
    from ..exchange import Request
    from .batch.pad import Pad
    from .items import Parted


class Generic(JsonErrors, Unconverted, Unmetered):
    """items, results: JSON Pointers (RFC 6901) to the lists, of as many elements in one order.

    Raises ValueError for what is no pointer.
    """

    name = "generic"

    def __init__(self, items: str, results: str) -> None:
        self._items = pointer(items)
        self._results = Plain(pointer(results))

    def owns(self, method: bytes, path: bytes) -> bool:
        """Nothing of itself: a route names it."""
        return False

    def owns_body(self, request: Request) -> bool:
        return False

    def describe(self, error: ProxyError) -> dict[str, Any]:
        return {"error": message_of(error), "code": code_of(error)}

    def deterministic(self, request: Request) -> bool:
        """Not known."""
        return False

    def repeatable(self, request: Request) -> bool:
        """Not known: only the method tells."""
        return False

    def model(self, request: Request) -> str:
        return named(body_of(request).get("model"))

    def prompt(self, request: Request) -> Prompt:
        """Whatever text the items have."""
        return prompt_of(value_at(request.json(), self._items))

    def streams(self, request: Request) -> bool:
        return body_of(request).get("stream") is True

    def ends_stream(self, data: bytes) -> bool:
        """Never known: a stream's end is its connection's."""
        return False

    def fails_stream(self, data: bytes) -> bool:
        return tells_error(data)

    def parts(self, request: Request, pad: Pad | None = None) -> Parted | None:
        """One element of the list each; None where there is no list."""
        return None if self.streams(request) else parts(request, self._items, self._results)
