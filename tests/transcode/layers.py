"""Layers around the one under test."""

from __future__ import annotations

from proxy.chain import Handler
from proxy.errors import ProxyError
from proxy.exchange import Request, Response
from tests.contract.layers import Layer


class AsksEarly(Layer):
    """Asks whose API it is before anything was converted."""

    async def handle(self, request: Request, next: Handler) -> Response:
        await request.read()
        assert request.api.name == "plain" and request.json() is None
        return await next(request)


class Refuses(Layer):
    """Answers nothing."""

    async def handle(self, request: Request, next: Handler) -> Response:
        raise ProxyError("no", status=422, code="refused", retry_after=3)


class Breaks(Layer):
    """Has a bug."""

    async def handle(self, request: Request, next: Handler) -> Response:
        raise ZeroDivisionError


class Ones:
    """Turns 1 into 2."""

    def feed(self, chunk: bytes) -> bytes:
        return chunk.replace(b"1", b"2")

    def end(self) -> bytes:
        return b""


class Doubles(Layer):
    """Appends a filter to every answer."""

    async def handle(self, request: Request, next: Handler) -> Response:
        response = await next(request)
        response.filters.append(Ones())
        return response
