"""OpenAI's routes of the stand-in: models, completions, chat, embeddings."""

from __future__ import annotations

import base64
import struct
import zlib
from contextlib import aclosing
from typing import Any

from aiohttp import web

from .engine import CONTEXT, MODEL, Engine, count_tokens, event, read_json, start_stream

DIMENSIONS = 64
CREATED = 1_700_000_000


def routes(engine: Engine) -> list[web.RouteDef]:
    """The routes, all served by `engine`."""

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [_model(MODEL)]})

    async def model(request: web.Request) -> web.Response:
        return web.json_response(_model(request.match_info["name"]))

    async def completions(request: web.Request) -> web.StreamResponse:
        return await _answer(engine, request, chat=False)

    async def chat(request: web.Request) -> web.StreamResponse:
        return await _answer(engine, request, chat=True)

    async def embeddings(request: web.Request) -> web.Response:
        try:
            body = await read_json(request)
            inputs = _texts(body.get("input"), "input")
            size = _positive(body, "dimensions", DIMENSIONS)
        except ValueError as problem:
            return _refuse(str(problem))
        packed = body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _embedding(text, size, packed)}
            for index, text in enumerate(inputs)
        ]
        used = sum(map(count_tokens, inputs))
        usage = {"prompt_tokens": used, "total_tokens": used}
        return web.json_response(
            {"object": "list", "model": body.get("model", MODEL), "data": data, "usage": usage}
        )

    return [
        web.get("/v1/models", models),
        web.get("/v1/models/{name}", model),
        web.post("/v1/completions", completions),
        web.post("/v1/chat/completions", chat),
        web.post("/v1/embeddings", embeddings),
    ]


class _Call:
    """A completion or chat request, taken apart. Raises ValueError where it makes no sense."""

    def __init__(self, body: dict[str, Any], chat: bool) -> None:
        self.chat = chat
        self.model = body.get("model") or MODEL
        self.prompts = [_dialogue(body)] if chat else _texts(body.get("prompt"), "prompt")
        name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
        self.count = _positive(body, name, 16)
        if self.count > CONTEXT:
            raise ValueError(f"{name} is over {CONTEXT}")
        self.stream = bool(body.get("stream"))
        self.include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self.object = "chat.completion" if chat else "text_completion"
        self.id = f"{'chatcmpl' if chat else 'cmpl'}-{zlib.crc32(repr(self.prompts).encode()):08x}"

    def head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": CREATED, "model": self.model}

    def usage(self) -> dict[str, int]:
        prompt = sum(map(count_tokens, self.prompts))
        said = self.count * len(self.prompts)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": said,
            "total_tokens": prompt + said,
        }


async def _answer(engine: Engine, request: web.Request, chat: bool) -> web.StreamResponse:
    try:
        call = _Call(await read_json(request), chat)
    except (ValueError, AttributeError) as problem:
        return _refuse(str(problem))
    if call.stream:
        return await _stream(engine, request, call)
    choices = []
    for index, prompt in enumerate(call.prompts):
        async with aclosing(engine.generate(request, prompt, call.count)) as tokens:
            text = "".join([token.text async for token in tokens])
        said: dict[str, Any] = (
            {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        )
        choices.append({"index": index, **said, "logprobs": None, "finish_reason": "length"})
    return web.json_response({**call.head(call.object), "choices": choices, "usage": call.usage()})


async def _stream(engine: Engine, request: web.Request, call: _Call) -> web.StreamResponse:
    response = await start_stream(request)
    kind = "chat.completion.chunk" if call.chat else call.object
    head = call.head(kind)

    async def send(index: int, said: dict[str, Any], finish: str | None = None) -> None:
        choice = {"index": index, **said, "logprobs": None, "finish_reason": finish}
        await response.write(event({**head, "choices": [choice]}, "data: "))

    for index, prompt in enumerate(call.prompts):
        if call.chat:
            await send(index, {"delta": {"role": "assistant", "content": ""}})
        async with aclosing(engine.generate(request, prompt, call.count)) as tokens:
            async for token in tokens:
                piece = {"delta": {"content": token.text}} if call.chat else {"text": token.text}
                await send(index, piece)
        await send(index, {"delta": {}} if call.chat else {"text": ""}, "length")
    if call.include_usage:
        await response.write(event({**head, "choices": [], "usage": call.usage()}, "data: "))
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _refuse(message: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return web.json_response({"error": error}, status=400)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "remora"}


def _dialogue(body: dict[str, Any]) -> str:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages is not a list with something in it")
    return "\n".join(f"{message.get('role')}: {message.get('content')}" for message in messages)


def _texts(value: object, name: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise ValueError(f"{name} is neither a string nor a list of strings")
    return texts


def _positive(body: dict[str, Any], name: str, default: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is no integer above 0")
    return value


def _embedding(text: str, size: int, packed: bool) -> list[float] | str:
    values = [zlib.crc32(f"{index} {text}".encode()) / 2**31 - 1.0 for index in range(size)]
    if packed:
        return base64.b64encode(struct.pack(f"<{size}f", *values)).decode()
    return values
