"""TGI's answers, streams and errors as OpenAI's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import UpstreamClosed, UpstreamError
from ..base import count, parse, sse
from ..shape import Untold, list_of, object_of, text_of
from .held import Held, first_stop
from .spoken import Call, EventTurner

_REASONS = {"length": "length", "eos_token": "stop", "stop_sequence": "stop"}
_TYPES = {429: "rate_limit_error", 401: "authentication_error", 403: "permission_error"}
_STATUSES = {422: 400, 424: 500}
"""TGI's own for a wrong parameter and for a failed generation."""

DONE = b"data: [DONE]\n\n"


def failed(status: int, answer: Any) -> tuple[int, Any]:
    """`{"error", "error_type"}` as OpenAI's error object."""
    told = answer if isinstance(answer, dict) else {}
    message = told.get("error")
    if not isinstance(message, str):
        message = f"the server answered {status}"
    status = _STATUSES.get(status, status)
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return status, {
        "error": {
            "message": message,
            "type": _TYPES.get(status, kind),
            "param": None,
            "code": told.get("error_type") if isinstance(told.get("error_type"), str) else None,
        }
    }


class Models:
    """`GET /v1/models`, by `GET /info`."""

    call = Call(b"GET", b"/info", None, False)

    def answer(self, answer: Any) -> Any:
        name = text_of(object_of(answer).get("model_id"))
        model = {"id": name, "object": "model", "created": 0, "owned_by": "tgi"}
        return {"object": "list", "data": [model]}

    def events(self) -> EventTurner:
        raise Untold

    def error(self, status: int, answer: Any) -> tuple[int, Any]:
        return failed(status, answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spoken:
    """What the answers to one call have in common. prompt_tokens: an estimate, for an answer in
    which the server does not count them.
    """

    call: Call
    ident: str
    created: int
    model: str
    prompt: str
    prompt_tokens: int
    stops: Sequence[str]
    echo: bool
    logprobs: bool
    usage: bool

    def head(self, kind: str) -> dict[str, Any]:
        return {"id": self.ident, "object": kind, "created": self.created, "model": self.model}

    def used(self, details: dict[str, Any]) -> dict[str, int]:
        prefill = details.get("prefill")
        asked = count(details.get("input_length")) or (
            len(prefill) if isinstance(prefill, list) and prefill else self.prompt_tokens
        )
        said = count(details.get("generated_tokens"))
        return {
            "prompt_tokens": asked,
            "completion_tokens": said,
            "total_tokens": asked + said,
        }

    def whole(self, answer: Any) -> tuple[str, str | None, dict[str, Any]]:
        """Text, reason and details of an answer."""
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        answer = object_of(answer)
        details = object_of(answer.get("details"))
        text = text_of(answer.get("generated_text"))
        if (cut := first_stop(text, self.stops)) is not None:
            return text[:cut], "stop", details
        return text, _REASONS.get(str(details.get("finish_reason"))), details

    def error(self, status: int, answer: Any) -> tuple[int, Any]:
        return failed(status, answer)


class ToCompletion(_Spoken):
    """`POST /v1/completions`."""

    __slots__ = ()

    def answer(self, answer: Any) -> Any:
        text, reason, details = self.whole(answer)
        start = self.prompt if self.echo else ""
        logprobs = None
        if self.logprobs:
            logprobs = self.told(list_of(details.get("tokens")), details.get("top_tokens"))
        choice = {
            "index": 0, "text": start + text, "logprobs": logprobs, "finish_reason": reason,
        }  # fmt: skip
        return {
            **self.head("text_completion"), "choices": [choice], "usage": self.used(details),
        }  # fmt: skip

    def told(self, tokens: Sequence[Any], likeliest: Any, at: int = 0) -> dict[str, Any]:
        """at: where the first of the tokens begins in the text."""
        texts = [text_of(object_of(token).get("text")) for token in tokens]
        offsets = []
        for token in tokens:
            offsets.append(at)
            at += len(_text(token))
        tops = [
            {text_of(object_of(one).get("text")): one.get("logprob") for one in list_of(few)}
            for few in list_of(likeliest)
        ]
        return {
            "tokens": texts,
            "token_logprobs": [token.get("logprob") for token in tokens],
            "top_logprobs": tops or None,
            "text_offset": offsets,
        }

    def first(self) -> bytes:
        return self.piece(self.prompt) if self.echo else b""

    def piece(self, text: str, reason: str | None = None, logprobs: Any = None) -> bytes:
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return sse({**self.head("text_completion"), "choices": [choice]})

    def last(self, used: dict[str, int]) -> bytes:
        return sse({**self.head("text_completion"), "choices": [], "usage": used})

    def events(self) -> EventTurner:
        return _Turner(self)


class ToChat(_Spoken):
    """`POST /v1/chat/completions`."""

    __slots__ = ()

    def answer(self, answer: Any) -> Any:
        text, reason, details = self.whole(answer)
        logprobs = None
        if self.logprobs:
            logprobs = self.told(list_of(details.get("tokens")), details.get("top_tokens"))
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": logprobs,
            "finish_reason": reason,
        }
        return {
            **self.head("chat.completion"), "choices": [choice], "usage": self.used(details),
        }  # fmt: skip

    def told(self, tokens: Sequence[Any], likeliest: Any, at: int = 0) -> dict[str, Any]:
        """at: for completions alone."""
        few = list_of(likeliest) or [[]] * len(tokens)
        if len(few) != len(tokens):
            raise Untold
        return {
            "content": [
                {**_token(token), "top_logprobs": [_token(one) for one in list_of(tops)]}
                for token, tops in zip(tokens, few, strict=True)
            ]
        }

    def first(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""}, None, None)

    def piece(self, text: str, reason: str | None = None, logprobs: Any = None) -> bytes:
        return self._chunk({"content": text} if text else {}, reason, logprobs)

    def _chunk(self, delta: dict[str, Any], reason: str | None, logprobs: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return sse({**self.head("chat.completion.chunk"), "choices": [choice]})

    def last(self, used: dict[str, int]) -> bytes:
        return sse({**self.head("chat.completion.chunk"), "choices": [], "usage": used})

    def events(self) -> EventTurner:
        return _Turner(self)


def _text(token: dict[str, Any]) -> str:
    """What it adds to the text: a special one, such as the end, nothing."""
    return "" if token.get("special") is True else text_of(token.get("text"))


def _token(token: Any) -> dict[str, Any]:
    text = text_of(object_of(token).get("text"))
    logprob = token.get("logprob")
    # The client's type for it is a number; TGI has none for the first token of a prompt.
    return {
        "token": text,
        "logprob": 0.0 if logprob is None else logprob,
        "bytes": list(text.encode(errors="replace")),
    }


class _Turner:
    """TGI's stream as OpenAI's."""

    def __init__(self, spoken: ToChat | ToCompletion) -> None:
        self._spoken = spoken
        self._held = Held(spoken.stops)
        self._begun = False
        self._over = False
        self._at = 0  # characters of the text so far

    def feed(self, data: bytes) -> bytes:
        spoken = self._spoken
        event = parse(data)
        if self._over or not isinstance(event, dict):
            return b""
        if event.get("error") is not None:
            self._over = True
            return sse(failed(500, event)[1])
        out = b"" if self._begun else spoken.first()
        self._begun = True
        try:
            token = object_of(event.get("token"))
            text = _text(token)
            logprobs = None
            if spoken.logprobs:
                tops = [event["top_tokens"]] if event.get("top_tokens") else None
                logprobs = spoken.told([token], tops, self._at)
                self._at += len(text)
            text = self._held.feed(text)
            if text or logprobs is not None:
                out += spoken.piece(text, None, logprobs)
            if event.get("generated_text") is not None:
                out += self._end(object_of(event.get("details")))
        except Untold:
            self._over = True
            raise UpstreamError(
                "the server's stream is none of TGI's", code="upstream_untranslatable"
            ) from None
        return out

    def _end(self, details: dict[str, Any]) -> bytes:
        self._over = True
        spoken = self._spoken
        rest = self._held.end()
        out = spoken.piece(rest) if rest else b""
        reason = _REASONS.get(str(details.get("finish_reason")))
        out += spoken.piece("", "stop" if self._held.stopped else reason)
        if spoken.usage:
            out += spoken.last(spoken.used(details))
        return out + DONE

    def end(self) -> bytes:
        if not self._over:
            raise UpstreamClosed("the server's stream ended before its last event")
        return b""
