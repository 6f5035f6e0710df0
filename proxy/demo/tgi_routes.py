"""TGI's routes of the stand-in, from its published OpenAPI document (version 2.4).

Errors are `{"error", "error_type"}`: 422 `validation` for parameters out of range. A stream's
events are `data:{...}` and it ends with the event that carries `generated_text`, without [DONE].
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from aiohttp import web

from .engine import CONTEXT, MODEL, Engine, Token, count_tokens, event, read_json, start_stream


class _Invalid(Exception):
    """A parameter that TGI refuses."""


def routes(engine: Engine) -> list[web.RouteDef]:
    """The routes, all served by `engine`."""

    async def compat(request: web.Request) -> web.StreamResponse:
        return await _answer(engine, request, stream=None)

    async def generate(request: web.Request) -> web.StreamResponse:
        return await _answer(engine, request, stream=False)

    async def generate_stream(request: web.Request) -> web.StreamResponse:
        return await _answer(engine, request, stream=True)

    async def info(_: web.Request) -> web.Response:
        return web.json_response(INFO)

    return [
        web.post("/", compat),
        web.post("/generate", generate),
        web.post("/generate_stream", generate_stream),
        web.get("/info", info),
    ]


INFO = {
    "model_id": MODEL,
    "model_sha": None,
    "model_pipeline_tag": "text-generation",
    "max_concurrent_requests": 128,
    "max_best_of": 1,
    "max_stop_sequences": 4,
    "max_input_tokens": CONTEXT - 1,
    "max_total_tokens": CONTEXT,
    "validation_workers": 1,
    "max_client_batch_size": 4,
    "router": "remora-stand-in",
    "version": "2.4.1",
    "sha": None,
    "docker_label": None,
}


class _Call:
    """A generate request, taken apart; null parameters count as not given. Raises _Invalid."""

    def __init__(self, body: dict[str, Any]) -> None:
        inputs = body.get("inputs")
        given = body.get("parameters") or {}
        if not isinstance(inputs, str) or not isinstance(given, dict):
            raise _Invalid("`inputs` must be a string and `parameters` an object")
        if not inputs:
            raise _Invalid("`inputs` cannot be empty")
        parameters = {name: value for name, value in given.items() if value is not None}
        for name in ("temperature", "repetition_penalty", "top_k", "max_new_tokens"):
            if _number(parameters, name, 1) <= 0:
                raise _Invalid(f"`{name}` must be strictly positive")
        for name in ("top_p", "typical_p"):
            if not 0 < _number(parameters, name, 0.5) < 1:
                raise _Invalid(f"`{name}` must be > 0.0 and < 1.0")
        if _number(parameters, "best_of", 1) > 1:
            raise _Invalid("`best_of` must be 1")
        self.inputs = inputs
        self.count = int(_number(parameters, "max_new_tokens", 100))
        self.input_length = count_tokens(inputs)
        if self.input_length + self.count > CONTEXT:
            raise _Invalid(f"`inputs` and `max_new_tokens` are over {CONTEXT} tokens together")
        self.details = bool(parameters.get("details"))
        self.prefill = bool(parameters.get("decoder_input_details"))
        self.full_text = bool(parameters.get("return_full_text"))
        self.seed = parameters.get("seed")

    def text(self, tokens: list[Token]) -> str:
        said = "".join(token.text for token in tokens)
        return self.inputs + said if self.full_text else said


async def _answer(engine: Engine, request: web.Request, stream: bool | None) -> web.StreamResponse:
    """stream None: the compatibility route, where the body decides and an answer is a list."""
    try:
        body = await read_json(request)
        call = _Call(body)
    except _Invalid as problem:
        return _refuse(f"Input validation error: {problem}")
    except ValueError as problem:
        return _refuse(f"the body cannot be read: {problem}")
    if body.get("stream") is True if stream is None else stream:
        return await _stream(engine, request, call)
    said: list[Token] = []
    async with aclosing(engine.generate(request, call.inputs, call.count)) as tokens:
        async for token in tokens:
            said.append(token)
    answer: dict[str, Any] = {"generated_text": call.text(said)}
    if call.details:
        answer["details"] = {
            "finish_reason": "length",
            "generated_tokens": len(said),
            "seed": call.seed,
            "prefill": _prefill(call) if call.prefill else [],
            "tokens": [_token(token) for token in said],
        }
    return web.json_response([answer] if stream is None else answer)


async def _stream(engine: Engine, request: web.Request, call: _Call) -> web.StreamResponse:
    response = await start_stream(request)
    said: list[Token] = []
    async with aclosing(engine.generate(request, call.inputs, call.count)) as tokens:
        async for token in tokens:
            said.append(token)
            last = len(said) == call.count
            details = {
                "finish_reason": "length",
                "generated_tokens": len(said),
                "seed": call.seed,
                "input_length": call.input_length,
            }
            data = {
                "index": len(said),
                "token": _token(token),
                "generated_text": call.text(said) if last else None,
                "details": details if last else None,
            }
            await response.write(event(data, "data:"))
    await response.write_eof()
    return response


def _refuse(message: str) -> web.Response:
    return web.json_response({"error": message, "error_type": "validation"}, status=422)


def _token(token: Token) -> dict[str, Any]:
    return {"id": token.id, "text": token.text, "logprob": token.logprob, "special": False}


def _prefill(call: _Call) -> list[dict[str, Any]]:
    """The prompt's tokens; the first has no probability, as nothing stands before it."""
    return [
        {"id": index, "text": word, "logprob": None if index == 0 else -1.0}
        for index, word in enumerate(call.inputs.split())
    ]


def _number(parameters: dict[str, Any], name: str, default: float) -> float:
    value = parameters.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Invalid(f"`{name}` must be a number")
    return value
