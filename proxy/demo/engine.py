"""What the stand-in says in place of a model: words at a set pace, counted."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

from aiohttp import web

from .gguf import WORDS

MODEL = "remora-stand-in"
CONTEXT = 1 << 20


class Token(NamedTuple):
    """One word with its leading space, and its place in the vocabulary."""

    id: int
    text: str
    logprob: float


class ClientLeft(Exception):
    """The client closed its connection while it was being answered."""


class Engine:
    """Says words, one each `delay` seconds, and counts what it did for /stats."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.requests = 0
        self.cancelled = 0
        self.tokens = 0
        self.in_flight = 0

    def stats(self) -> dict[str, int]:
        """requests: generations begun; cancelled: those whose client left; tokens; in_flight."""
        return {
            "requests": self.requests,
            "cancelled": self.cancelled,
            "tokens": self.tokens,
            "in_flight": self.in_flight,
        }

    async def generate(
        self, request: web.Request, prompt: str, count: int
    ) -> AsyncGenerator[Token, None]:
        """`count` tokens that depend on `prompt` alone. Raises ClientLeft.

        Close it (`contextlib.aclosing`): what is not closed stays in flight.
        """
        self.requests += 1
        self.in_flight += 1
        whole = False
        try:
            state = zlib.crc32(prompt.encode())
            for _ in range(count):
                await asyncio.sleep(self.delay)
                if request.transport is None or request.transport.is_closing():
                    raise ClientLeft
                state = (state * 1103515245 + 12345) & 0x7FFFFFFF
                index = (state >> 8) % len(WORDS)
                self.tokens += 1
                yield Token(index, " " + WORDS[index], -round(0.01 + index / 100, 4))
            whole = True
        finally:
            self.in_flight -= 1
            if not whole:
                self.cancelled += 1


def count_tokens(text: str) -> int:
    """Tokens of a prompt, as the stand-in counts: words."""
    return len(text.split())


async def read_json(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object. Raises ValueError."""
    body = json.loads(await request.read())
    if not isinstance(body, dict):
        raise ValueError("the body is no JSON object")
    return body


def event(data: object, prefix: str) -> bytes:
    """One server-sent event: `prefix` is `data: ` or, as TGI writes it, `data:`."""
    return f"{prefix}{json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def start_stream(request: web.Request) -> web.StreamResponse:
    """A 200 whose head is on its way, for server-sent events."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    )
    await response.prepare(request)
    return response
