"""Completions and their events in OpenAI's shapes, and remora asked to convert them."""

from __future__ import annotations

from typing import Any

import orjson

from middleware.core.sse import EventReader
from proxy.apis import by_name
from proxy.exchange import Request

API = by_name["openai"]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def asked(path: str, **body: Any) -> Request:
    body.setdefault("prompt" if path == TEXT else "messages", [])
    return Request(b"POST", path.encode(), [], orjson.dumps(body))


def streamed(answer: Any, path: str = CHAT, usage: bool = False) -> list[bytes] | None:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    return API.to_stream(asked(path, stream=True, **options), answer)


def data_of(events: list[bytes]) -> list[bytes]:
    return EventReader().feed(b"".join(events))


def whole(events: list[bytes], path: str = CHAT) -> Any:
    return API.to_answer(asked(path), data_of(events))


def chunks_of(events: list[bytes]) -> list[Any]:
    *chunks, done = data_of(events)
    assert done == b"[DONE]"
    return list(map(orjson.loads, chunks))


def chat(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m",
        "choices": list(choices),
        **more,
    }


def said(text: str | None = "hello", index: int = 0, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"index": index, "message": message, "finish_reason": "stop", **more}


def text_answer(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**chat(**more), "object": "text_completion", "choices": list(choices)}


def chunk(*pieces: dict[str, Any], **more: Any) -> bytes:
    made = {**chat(**more), "object": "chat.completion.chunk", "choices": list(pieces)}
    return orjson.dumps(made)


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": fields, "finish_reason": finish}
