"""The encoder's routes: TEI's `/embed` and `/`, OpenAI's `/v1/embeddings`. One call at a time."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import orjson
from aiohttp import web

from .engine import read_json

MODEL = "remora-encoder"
MAX_BATCH = 32
"""Texts in a call, as TEI has it by default."""


class Model(Protocol):
    """What computes."""

    def read(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text. Raises ValueError where one cannot be taken."""
        ...

    def embed(self, rows: Sequence[Sequence[int]]) -> Any:
        """A float32 array with a row for each of `rows`."""
        ...


class Desk:
    """Takes calls in the order in which they come, and computes one at a time, as a GPU does.

    A call whose client leaves before its turn is not computed.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.calls = 0
        self.texts = 0
        self._hand = ThreadPoolExecutor(1, "encoder")

    def stats(self) -> dict[str, int]:
        """calls and texts that were computed since the start."""
        return {"calls": self.calls, "texts": self.texts}

    async def embed(self, rows: Sequence[Sequence[int]]) -> Any:
        """A float32 array with a row for each of `rows`."""
        return await asyncio.get_running_loop().run_in_executor(self._hand, self._compute, rows)

    def _compute(self, rows: Sequence[Sequence[int]]) -> Any:
        self.calls += 1
        self.texts += len(rows)
        return self.model.embed(rows)


def create_app(model: Model) -> web.Application:
    """The model as an application."""
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.add_routes(_routes(Desk(model)))
    return app


def _routes(desk: Desk) -> list[web.RouteDef]:
    async def embed(request: web.Request) -> web.Response:
        try:
            body = await read_json(request)
            rows = desk.model.read(_texts(body, "inputs"))
        except ValueError as problem:
            return _refuse({"error": str(problem), "error_type": "Validation"})
        return _json(await desk.embed(rows))

    async def embeddings(request: web.Request) -> web.Response:
        try:
            body = await read_json(request)
            rows = desk.model.read(_texts(body, "input"))
        except ValueError as problem:
            kind = "invalid_request_error"
            return _refuse({"error": {"message": str(problem), "type": kind, "code": 422}})
        vectors = await desk.embed(rows)
        packed = body.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.tobytes()).decode() if packed else vector,
            }
            for index, vector in enumerate(vectors)
        ]
        used = sum(map(len, rows))
        usage = {"prompt_tokens": used, "total_tokens": used}
        model = body.get("model") or MODEL
        return _json({"object": "list", "data": data, "model": model, "usage": usage})

    async def health(_: web.Request) -> web.Response:
        return web.Response()

    async def stats(_: web.Request) -> web.Response:
        return web.json_response(desk.stats())

    return [
        web.post("/", embed),
        web.post("/embed", embed),
        web.post("/v1/embeddings", embeddings),
        web.get("/health", health),
        web.get("/stats", stats),
    ]


def _texts(body: dict[str, Any], name: str) -> list[str]:
    """What is to be embedded. Raises ValueError."""
    value = body.get(name)
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise ValueError(f"{name} is neither a string nor a list of strings")
    if len(texts) > MAX_BATCH:
        raise ValueError(f"{len(texts)} texts in {name}, {MAX_BATCH} are the most")
    return texts


def _json(answer: Any) -> web.Response:
    body = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return web.Response(body=body, content_type="application/json")


def _refuse(error: dict[str, Any]) -> web.Response:
    return web.Response(status=422, text=json.dumps(error), content_type="application/json")
