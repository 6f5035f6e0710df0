"""TGI's generate for a server that speaks OpenAI's API.

Sources: the OpenAPI document of Text Generation Inference 3, OpenAI's API reference, and vLLM's
parameters besides it, which SGLang shares, and llama.cpp most of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import UpstreamClosed, UpstreamError
from ..base import body_of, count, parse, sse
from ..convert_tgi import parameters_of
from ..prompt import prompt_of
from ..sampling import greedy_by_default
from ..shape import Untold, list_of, object_of, text_of
from .spoken import Call, EventTurner, Untranslatable, flag_of, number_of, refuse, texts_of

if TYPE_CHECKING:
    from ...exchange import Request

TGI_TOKENS = 100
"""What TGI writes where `max_new_tokens` is left out; OpenAI's completions would write 16."""

MAX_TEXT = 16 * 1024 * 1024
"""Bytes of UTF-8 that a streamed text may have: its last event carries all of it."""

_EITHER = (b"/", b"/invocations")
PATHS = (*_EITHER, b"/generate", b"/generate_stream")

_NONE = ("grammar", "watermark", "top_n_tokens", "decoder_input_details", "adapter_id")
_SAME = ("temperature", "top_p", "top_k", "typical_p", "repetition_penalty", "frequency_penalty")
_READ = (
    "max_new_tokens", "stop", "seed", "best_of", "truncate", "details", "return_full_text",
    "do_sample",
)  # fmt: skip
_KNOWN = frozenset((*_NONE, *_SAME, *_READ))

# As remora's own errors have them (`tgi.py`).
_TYPES = {
    429: "overloaded", 503: "overloaded", 401: "authentication", 403: "authentication",
}  # fmt: skip


def for_openai(request: Request, model: str | None) -> ToGenerate | None:
    """None for anything but `generate` and its kin. Raises Untranslatable."""
    path = request.path
    body = body_of(request)
    if request.method != b"POST" or path not in PATHS:
        return None
    if not isinstance(body.get("inputs"), str):
        if path in _EITHER:
            return None  # an embedding client's, or one that nobody knows
        raise Untranslatable("the body must be a JSON object with `inputs`, a string")
    try:
        asked = parameters_of(body)
    except Untold:
        raise Untranslatable("`parameters` must be an object") from None
    for name in asked.keys() - _KNOWN:
        if asked[name] is not None:
            raise Untranslatable(f"`{name[:80]}` has no counterpart in OpenAI's API; leave it out")
    refuse(asked, _NONE, "OpenAI's API")
    streams = path == b"/generate_stream" or (path in _EITHER and flag_of(body, "stream"))
    if number_of(asked, "best_of") not in (None, 1):
        raise Untranslatable("`best_of` must be 1")
    stops = texts_of(asked, "stop")
    most = number_of(asked, "max_new_tokens")
    call: dict[str, Any] = {
        "prompt": body["inputs"],
        "max_tokens": TGI_TOKENS if most is None else most,
        **{name: asked[name] for name in _SAME if asked.get(name) is not None},
    }
    if "temperature" not in call:
        call["temperature"] = 0 if greedy_by_default(asked) else 1
    if (asked_for := request.api.model(request) or model) is not None:
        call["model"] = asked_for
    if stops:
        call["stop"] = stops
    if asked.get("seed") is not None:
        call["seed"] = asked["seed"]
    if asked.get("truncate") is not None:
        call["truncate_prompt_tokens"] = asked["truncate"]
    if streams:
        call.update(stream=True, stream_options={"include_usage": True})
    return ToGenerate(
        call=Call(b"POST", b"/v1/completions", call, streams),
        before=body["inputs"] if flag_of(asked, "return_full_text") else "",
        details=flag_of(asked, "details"),
        seed=asked.get("seed"),
        stops=stops,
        listed=path in _EITHER,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ToGenerate:
    """OpenAI's completions as TGI's generations. before: what stands before the text. listed: the
    answer is a list of one.
    """

    call: Call
    before: str
    details: bool
    seed: Any
    stops: Sequence[str]
    listed: bool

    def answer(self, answer: Any) -> Any:
        choice = object_of((list_of(object_of(answer).get("choices")) or [None])[0])
        text = text_of(choice.get("text"))
        stopped = _stop_of(choice)
        told: dict[str, Any] = {"generated_text": self.before + text + stopped}
        if self.details:
            usage = answer.get("usage")
            said = count(object_of(usage).get("completion_tokens")) if usage else 0
            said = said or prompt_of(text).tokens
            details = self.ended(choice.get("finish_reason"), stopped, said)
            told["details"] = {**details, "prefill": [], "tokens": []}
        return [told] if self.listed else told

    def ended(self, reason: Any, stopped: str, tokens: int) -> dict[str, Any]:
        """A server that does not tell which of them stopped it is taken to have ended by itself."""
        if reason != "length":
            reason = "stop_sequence" if stopped else "eos_token"
        return {"finish_reason": reason, "generated_tokens": tokens, "seed": self.seed}

    def events(self) -> EventTurner:
        return _Turner(self)

    def error(self, status: int, answer: Any) -> tuple[int, Any]:
        """OpenAI's error object, or vLLM's older one, as `{"error", "error_type"}`."""
        told = answer if isinstance(answer, dict) else {}
        inner = told.get("error")
        message = inner.get("message") if isinstance(inner, dict) else told.get("message", inner)
        kind = "generation" if status >= 500 else "validation"
        return 422 if status == 400 else status, {
            "error": message if isinstance(message, str) else f"the server answered {status}",
            "error_type": _TYPES.get(status, kind),
        }


def _stop_of(choice: dict[str, Any]) -> str:
    """The sequence that stopped it, which TGI leaves in the text: vLLM and SGLang tell."""
    stopped = choice.get("stop_reason", choice.get("matched_stop"))
    return stopped if isinstance(stopped, str) else ""


class _Turner:
    """OpenAI's stream as TGI's. No token has to wait for the next one: a special one at the end,
    whose text clients pass over, carries the whole text.
    """

    def __init__(self, spoken: ToGenerate) -> None:
        self._spoken = spoken
        self._texts: list[str] = []
        self._size = 0
        self._reason: Any = None
        self._stopped = ""
        self._tokens = 0
        self._asked: int | None = None
        self._index = 0
        self._over = False

    def feed(self, data: bytes) -> bytes:
        if self._over:
            return b""
        if data.startswith(b"[DONE]"):
            return self.end()
        event = parse(data)
        if not isinstance(event, dict):
            return b""  # llama.cpp's first event to several prompts is `null`
        if event.get("error") is not None:
            self._over = True
            return sse(self._spoken.error(500, event)[1])
        try:
            if isinstance(usage := event.get("usage"), dict):
                self._tokens = count(usage.get("completion_tokens"))
                self._asked = count(usage.get("prompt_tokens")) or None
            out = b""
            for choice in list_of(event.get("choices")):
                text = text_of(object_of(choice).get("text") or "")
                if choice.get("finish_reason") is not None:
                    self._reason = choice["finish_reason"]
                    self._stopped = _stop_of(choice)
                if text:
                    self._size += len(text.encode())
                    if self._size > MAX_TEXT:
                        raise Untold
                    self._texts.append(text)
                    out += self._event(text, special=False)
            return out
        except Untold:
            self._over = True
            why = "is too long" if self._size > MAX_TEXT else "is none of OpenAI's"
            raise UpstreamError(
                f"the server's stream {why}", code="upstream_untranslatable"
            ) from None

    def end(self) -> bytes:
        if self._over:
            return b""
        if self._reason is None:
            raise UpstreamClosed("the server's stream ended before its last event")
        self._over = True
        spoken = self._spoken
        details = None
        if spoken.details:
            tokens = self._tokens or self._index
            details = spoken.ended(self._reason, self._stopped, tokens)
            if self._asked is not None:
                details["input_length"] = self._asked
        out = self._event(self._stopped, special=False) if self._stopped else b""
        whole = spoken.before + "".join(self._texts) + self._stopped
        return out + self._event("", special=True, whole=whole, details=details)

    def _event(
        self, text: str, *, special: bool, whole: str | None = None, details: Any = None
    ) -> bytes:
        """Ids and probabilities are not told by the server: 0 and none."""
        self._index += 1
        token = {"id": 0, "text": text, "logprob": None, "special": special}
        return sse(
            {"index": self._index, "token": token, "generated_text": whole, "details": details}
        )
