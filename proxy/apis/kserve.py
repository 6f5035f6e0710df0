"""KServe's protocols v1 and v2 (the Open Inference Protocol), as Triton and MLServer serve them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ProxyError
from .base import JsonErrors, message_of

if TYPE_CHECKING:
    from ..exchange import Request

# First segment below /v2: the protocol's own, then Triton's extensions. Not all of /v2 is
# KServe's: vLLM has /v2/rerank.
_V2 = frozenset(
    {b"health", b"models", b"repository"}
    | {b"trace", b"logging", b"systemsharedmemory", b"cudasharedmemory"}
)


class KServe(JsonErrors):
    name = "kserve"

    @staticmethod
    def is_v1(method: bytes, path: bytes) -> bool:
        """`POST /v1/models/NAME:predict` or `:explain`.

        `/v1/models` and `GET /v1/models/NAME` look the same in OpenAI's API, and are left to it.
        """
        return (
            method == b"POST"
            and path.startswith(b"/v1/models/")
            and path.endswith((b":predict", b":explain"))
        )

    def owns(self, method: bytes, path: bytes) -> bool:
        if path.startswith(b"/v2"):
            return path in (b"/v2", b"/v2/") or (
                path[3:4] == b"/" and path[4:].partition(b"/")[0] in _V2
            )
        return self.is_v1(method, path)

    def owns_body(self, request: Request) -> bool:
        """Never asked: no other API has these paths."""
        return True

    def describe(self, error: ProxyError) -> dict[str, Any]:
        """`error` is a string and the only key, in the protocol and in Triton's event streams."""
        return {"error": message_of(error)}
