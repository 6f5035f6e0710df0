"""A whole completion from the events of its stream, and the other way: OpenAI's chat and text.

What a server adds to OpenAI's shapes is carried along where it is a string, a number or null.
A list or an object that is not known here might be cut up in a stream, or be left out of one, so
that an answer that has one is not converted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .base import parse, sse
from .shape import Untold, index_of, list_of, object_of, plain_of, text_of

DONE = b"data: [DONE]\n\n"

_CHAT, _TEXT = "chat.completion", "text_completion"
_CHUNK = {_CHAT: "chat.completion.chunk", _TEXT: _TEXT}
_WHOLE = {chunk: whole for whole, chunk in _CHUNK.items()}

# llama.cpp's times of the generation, on its last event.
_TIMINGS = "timings"
_TOP = ("choices", "object", "usage", _TIMINGS)
_CHOICE = ("index", "message", "delta", "text", "logprobs", "finish_reason")

# Random padding against those who measure a stream's packets.
_PADDING = "obfuscation"

_REASONING = ("reasoning_content", "reasoning")


def to_events(answer: Any, include_usage: bool) -> list[bytes]:
    """The stream of an answer, `[DONE]` included: a text in one piece, each tool call in one.

    A streaming client gets usage only if it asked for it, in an event of its own; the others
    then have it null. Raises Untold, also where it asked and the answer has none.
    """
    answer = object_of(answer)
    kind = text_of(answer.get("object"))
    if kind not in _CHUNK:
        raise Untold
    common = {**plain_of(answer, _TOP), "object": _CHUNK[kind]}
    if include_usage:
        common["usage"] = None
    split = _split_chat if kind == _CHAT else _split_text
    chunks = [
        {**common, "choices": [piece]}
        for choice in _in_order(answer.get("choices"))
        for piece in split(choice)
    ]
    if include_usage:
        chunks.append({**common, "choices": [], "usage": object_of(answer.get("usage"))})
    if _TIMINGS in answer:
        chunks[-1][_TIMINGS] = answer[_TIMINGS]
    return [*map(sse, chunks), DONE]


def _split_chat(choice: dict[str, Any]) -> list[dict[str, Any]]:
    message = object_of(choice.get("message"))
    opening: dict[str, Any] = {"role": text_of(message.get("role"))}
    deltas: list[dict[str, Any]] = []
    for key, value in message.items():
        if value is None:
            opening[key] = None
        elif isinstance(value, str):
            if key != "role":
                if key == "content" or not value:
                    opening[key] = ""
                if value:
                    deltas.append({key: value})
        elif key != "tool_calls" and value not in ([], {}):
            raise Untold
    # Servers stream what a model thinks before what it says.
    deltas.sort(key=lambda delta: next(iter(delta)) not in _REASONING)
    for index, call in enumerate(list_of(message.get("tool_calls"))):
        deltas.append({"tool_calls": [{**_call(call), "index": index}]})
    pieces = [{"delta": delta} for delta in (opening, *deltas, {})]
    # Never with the opening: of any but the first choice, openai's client counts those twice.
    with_text = next((n for n, delta in enumerate(deltas, 1) if "content" in delta), 1)
    return _framed(choice, pieces, with_text)


def _split_text(choice: dict[str, Any]) -> list[dict[str, Any]]:
    return _framed(choice, [{"text": text_of(choice.get("text"))}, {"text": ""}], 0)


def _framed(
    choice: dict[str, Any], pieces: list[dict[str, Any]], with_text: int
) -> list[dict[str, Any]]:
    """`pieces` with what each event says of its choice. The last one tells why it ended."""
    logprobs = choice.get("logprobs")
    if logprobs is not None and any(
        part is not None and not isinstance(part, list) for part in object_of(logprobs).values()
    ):
        raise Untold
    for place, piece in enumerate(pieces):
        piece["index"] = choice["index"]
        if "logprobs" in choice:
            piece["logprobs"] = logprobs if place == with_text else None
        piece["finish_reason"] = None
    pieces[-1].update(plain_of(choice, _CHOICE))
    pieces[-1]["finish_reason"] = text_of(choice.get("finish_reason"))
    return pieces


def _call(call: Any) -> dict[str, Any]:
    """A function's call, which is all that a chat can stream."""
    call = object_of(call)
    function = object_of(call.get("function"))
    plain_of(function, ())
    for field in ("name", "arguments"):
        text_of(function.get(field))
    if call.get("type", "function") != "function":
        raise Untold
    return {**plain_of(call, ("function",)), "function": function}


def to_whole(events: Iterable[bytes]) -> dict[str, Any]:
    """The answer that a whole stream adds up to. Raises Untold.

    Each choice must have told why it ended. Usage is the last one told; a stream that told none
    gives an answer without, which OpenAI's clients read as None.
    """
    answer: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    kind, usage, timings = "", None, None
    for data in events:
        if data.startswith(b"[DONE]"):
            break
        if data == b"null":
            continue  # llama.cpp begins a stream of several prompts with it
        chunk = object_of(parse(data))
        if chunk.get("error") is not None:
            raise Untold
        told = _WHOLE.get(text_of(chunk.get("object")))
        if told is None or kind not in ("", told):
            raise Untold
        kind = told
        for key, value in plain_of(chunk, (*_TOP, _PADDING)).items():
            if answer.get(key) in (None, ""):
                answer[key] = value
        usage = chunk.get("usage") or usage
        timings = chunk.get(_TIMINGS) or timings
        for piece in list_of(chunk.get("choices")):
            index = index_of(piece)
            if index not in choices:
                choices[index] = _Choice()
            choices[index].add(piece, kind)
    whole = [{"index": index, **choice.whole(kind)} for index, choice in sorted(choices.items())]
    answer.update(object=kind, choices=_in_order(whole))
    if usage is not None:
        answer["usage"] = object_of(usage)
    if timings is not None:
        answer[_TIMINGS] = timings
    return answer


class _Choice:
    """One choice, as its events come in."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str] | None] = {}
        self._calls: dict[int, _Call] = {}
        self._finish: str | None = None
        self._rest: dict[str, Any] = {}

    def add(self, piece: dict[str, Any], kind: str) -> None:
        if kind == _CHAT:
            self._add_delta(object_of(piece.get("delta") or {}))
        else:
            self._add_text("text", text_of(piece.get("text")))
        if "logprobs" in piece:
            self._add_logprobs(piece["logprobs"])
        if piece.get("finish_reason") is not None:
            self._finish = text_of(piece["finish_reason"])
        for key, value in plain_of(piece, _CHOICE).items():
            if value is not None or key not in self._rest:
                self._rest[key] = value

    def _add_delta(self, delta: dict[str, Any]) -> None:
        for key, value in delta.items():
            if key == "tool_calls":
                for call in list_of(value):
                    self._calls.setdefault(index_of(call), _Call()).add(call)
            elif isinstance(value, str):
                # TGI names the role in every event.
                if key != "role" or (value and not self._texts.get(key)):
                    self._add_text(key, value)
            elif value is None:
                self._texts.setdefault(key, None)
            elif value not in ([], {}):
                raise Untold

    def _add_text(self, key: str, text: str) -> None:
        held = self._texts.get(key)
        if held is None:
            self._texts[key] = [text]
        else:
            held.append(text)

    def _add_logprobs(self, logprobs: Any) -> None:
        parts = self._rest.setdefault("logprobs", None)
        if logprobs is None:
            return
        if parts is None:
            parts = self._rest["logprobs"] = {}
        for key, part in object_of(logprobs).items():
            if parts.setdefault(key, None) is None and part is not None:
                parts[key] = []
            if part is not None:
                parts[key] += list_of(part)

    def whole(self, kind: str) -> dict[str, Any]:
        if self._finish is None:
            raise Untold
        texts = {
            key: None if parts is None else "".join(parts) for key, parts in self._texts.items()
        }
        choice: dict[str, Any] = {**self._rest, "finish_reason": self._finish}
        if kind == _TEXT:
            return {**texts, **choice}
        if self._calls:
            if sorted(self._calls) != list(range(len(self._calls))):
                raise Untold
            calls = {"tool_calls": [self._calls[n].whole() for n in range(len(self._calls))]}
        else:
            calls = {}
        message = {"role": "assistant", "content": None, **texts, **calls}
        return {"message": message, **choice}


class _Call:
    """One tool call: its arguments come in pieces, all else once, or the same again."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._function: dict[str, Any] = {}
        self._arguments: list[str] = []

    def add(self, call: dict[str, Any]) -> None:
        _once(self._fields, plain_of(call, ("index", "function")))
        function = object_of(call.get("function") or {})
        _once(self._function, plain_of(function, ("arguments",)))
        if function.get("arguments") is not None:
            self._arguments.append(text_of(function["arguments"]))

    def whole(self) -> dict[str, Any]:
        function = {**self._function, "arguments": "".join(self._arguments)}
        whole = {"type": "function", **self._fields, "function": function}
        return _call(whole)


def _once(held: dict[str, Any], told: dict[str, Any]) -> None:
    for key, value in told.items():
        if held.get(key) in (None, ""):
            held[key] = value
        elif value not in (None, "", held[key]):
            raise Untold


def _in_order(choices: Any) -> list[dict[str, Any]]:
    """The choices from 0 up, none missing: openai's client finds each by its place."""
    ordered: list[dict[str, Any]] = sorted(list_of(choices), key=index_of)
    if not ordered or [index_of(choice) for choice in ordered] != list(range(len(ordered))):
        raise Untold
    return ordered
