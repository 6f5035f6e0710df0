"""KServe's protocols v1 and v2 (the Open Inference Protocol), as Triton and MLServer serve them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..errors import ProxyError
from .base import (
    JsonErrors,
    Unconverted,
    Unmetered,
    body_of,
    message_of,
    named,
    parse,
    tells_error,
)
from .batch import infer, instances
from .prompt import Prompt, most_of, prompt_of
from .sampling import greedy, seeded

if TYPE_CHECKING:
    from ..exchange import Request
    from .batch.pad import Pad
    from .items import Parted

# First segment below /v2: the protocol's own, then Triton's extensions. Not all of /v2 is
# KServe's: vLLM has /v2/rerank.
_V2 = frozenset(
    {b"health", b"models", b"repository"}
    | {b"trace", b"logging", b"systemsharedmemory", b"cudasharedmemory"}
)

_INFERENCE = (b"/infer", b"/generate", b"/generate_stream")


class KServe(JsonErrors, Unconverted, Unmetered):
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

    def deterministic(self, request: Request) -> bool:
        """Predictions are; Triton's `generate` by its parameters; one of a sequence is not."""
        if request.method != b"POST":
            return False
        if self.is_v1(request.method, request.path):
            return bool(body_of(request))
        last = request.path.rpartition(b"/")[2]
        if not request.path.startswith(b"/v2/models/"):
            return False
        if last == b"infer":
            head = _head(request)
            return "inputs" in head and not _parameters(head).get("sequence_id")
        if last not in (b"generate", b"generate_stream"):
            return False
        # Triton takes an input of the model at the top, and a parameter at either place.
        body = body_of(request)
        asked = {**body, **_parameters(body)}
        if asked.get("sequence_id"):
            return False
        return seeded(asked.get("seed", asked.get("random_seed"))) or greedy(asked)

    def repeatable(self, request: Request) -> bool:
        """Inference outside of a sequence; not what loads models or sets the server."""
        path = request.path
        if self.is_v1(request.method, path):
            return True
        if request.method != b"POST" or not path.startswith(b"/v2/models/"):
            return False
        head = _head(request)
        return path.endswith(_INFERENCE) and not (
            head.get("sequence_id") or _parameters(head).get("sequence_id")
        )

    def model(self, request: Request) -> str:
        """The name in the path: `/v1/models/NAME:predict`, `/v2/models/NAME/...`."""
        parts = request.path.split(b"/")
        if len(parts) < 4 or parts[2] != b"models":
            return ""
        name = parts[3]
        if parts[1] == b"v1" and name.endswith((b":predict", b":explain")):
            name = name.rpartition(b":")[0]
        return named(unquote(name.decode("latin-1")))

    def prompt(self, request: Request) -> Prompt:
        """Triton's `generate` takes text; a tensor's tokens are not known."""
        return prompt_of(body_of(request).get("text_input"))

    def max_tokens(self, request: Request) -> int | None:
        """A prediction writes none."""
        if not request.path.endswith((b"/generate", b"/generate_stream")):
            return 0
        body = body_of(request)
        return most_of({**body, **_parameters(body)}.get("max_tokens"))

    def streams(self, request: Request) -> bool:
        return request.method == b"POST" and request.path.endswith(b"/generate_stream")

    def ends_stream(self, data: bytes) -> bool:
        """No event does: a stream's end is its connection's."""
        return False

    def fails_stream(self, data: bytes) -> bool:
        return tells_error(data)

    def parts(self, request: Request, pad: Pad | None = None) -> Parted | None:
        """Version 1 by `instances`, version 2 by the first dimension of the inputs."""
        if request.method != b"POST":
            return None
        if request.path.endswith(b":predict"):
            return instances.parts(request, pad)
        if request.path.startswith(b"/v2/models/") and request.path.endswith(b"/infer"):
            return infer.parts(request, pad)
        return None


def _head(request: Request) -> dict[str, Any]:
    """An infer request's JSON, which the binary tensor extension puts before the tensors."""
    size = request.header(b"inference-header-content-length")
    if size is None:
        return body_of(request)
    if not size.isdigit() or len(size) > 9 or not isinstance(request.body, bytes):
        return {}
    head = parse(request.body[: int(size)])
    return head if isinstance(head, dict) else {}


def _parameters(body: dict[str, Any]) -> dict[str, Any]:
    parameters = body.get("parameters")
    return parameters if isinstance(parameters, dict) else {}
