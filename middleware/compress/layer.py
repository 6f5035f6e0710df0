"""Compresses answers on their way to clients that take it."""

from __future__ import annotations

import asyncio
import re
from typing import ClassVar

from proxy.chain import Env, Handler, RouteInfo
from proxy.errors import ProxyError
from proxy.exchange import Request, Response, Stream

from ..core.http.codings import preferred
from ..core.http.converted import varying
from .answers import compressible, head_of_compressed, head_of_unmodified
from .codings import encoder
from .config import CompressConfig
from .filter import Compressing
from .requests import in_clear

AT_ONCE = 64 * 1024
"""Bytes that are compressed on the event loop, in about a millisecond; more goes to a thread."""


# The schemes that browsers know by themselves.
_UNASKED = re.compile(rb"(?:basic|digest|ntlm|negotiate)\b", re.IGNORECASE)


class Compress:
    """Chooses a coding by Accept-Encoding (RFC 9110 section 12.5.3); what is inside sees none."""

    Config: ClassVar[type] = CompressConfig
    before = ("transcode", "cache", "prefetch", "aggregate", "concurrency", "retry")
    after = ("auth",)

    def __init__(self, config: CompressConfig, env: Env) -> None:
        self.config = config
        self._env = env
        self._offered = tuple(coding.encode() for coding in config.algorithms)
        self._bytes: dict[tuple[str, str, str], int] = {}

    async def start(self) -> None:
        if self.config.enabled:
            self._env.numbers(
                "counter",
                "compress_bytes",
                "Body bytes of compressed answers, before and after.",
                ("route", "coding", "side"),
                lambda: list(self._bytes.items()),
            )

    async def stop(self) -> None:
        pass

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        config = self.config
        decompress = config.requests == "decompress"
        if not config.enabled:
            return next

        async def handle(request: Request) -> Response:
            if decompress and request.header(b"content-encoding") is not None:
                await in_clear(request, config.max_request, config.max_ratio)
            coding = preferred(self._offered, request.headers)
            if coding is not None:
                # So that one form of an answer is cached, converted or merged by what is inside.
                request.headers = [
                    pair for pair in request.headers if pair[0].lower() != b"accept-encoding"
                ]
            response = await next(request)
            not_modified = response.status == 304
            if not (not_modified or compressible(request, response, config.min_bytes)):
                return response
            response.headers = varying(response.headers, b"Accept-Encoding")
            if coding is None or (not config.cookies and _ambient(request, response)):
                return response
            if not_modified:
                response.headers = head_of_unmodified(request, response.headers)
            else:
                await self._compress(request, response, coding, route.name)
            return response

        return handle if self._offered else _only_requests(next, config)

    async def _compress(
        self, request: Request, response: Response, coding: bytes, route: str
    ) -> None:
        name = coding.decode()
        body = response.body
        response.headers = head_of_compressed(response.headers, coding)
        response.trailers = []  # what they sign is gone
        if request.method == b"HEAD":
            return  # what a GET would have, and no length: nobody has compressed it
        if isinstance(body, bytes) and not response.filters:
            work = encoder(name)
            if len(body) <= AT_ONCE:
                whole = work.feed(body) + work.end()
            else:
                whole = await asyncio.to_thread(lambda: work.feed(body) + work.end())
            response.body = whole
            self._count(route, name, len(body), len(whole))
            return
        kind = (response.header(b"content-type") or b"").partition(b";")[0].strip().lower()
        events = kind == b"text/event-stream"
        # Whoever sends without a length sends when there is something to say.
        live = isinstance(body, Stream) and (events or response.declared is not body)
        compressing = Compressing(encoder(name), live)
        told = response.failed
        response.filters.append(compressing)
        if told is not None or events:

            def failed(error: ProxyError) -> bytes:
                if told is not None:
                    last = told(error)
                else:
                    last = request.api.error_event(error) if compressing.between_events else b""
                return compressing.feed(last) + compressing.end() if last else b""

            response.failed = failed
        request.on_end(
            lambda outcome: self._count(route, name, compressing.taken, compressing.given)
        )

    def _count(self, route: str, coding: str, taken: int, given: int) -> None:
        for side, size in (("in", taken), ("out", given)):
            key = (route, coding, side)
            self._bytes[key] = self._bytes.get(key, 0) + size


def _only_requests(next: Handler, config: CompressConfig) -> Handler:
    async def handle(request: Request) -> Response:
        if request.header(b"content-encoding") is not None:
            await in_clear(request, config.max_request, config.max_ratio)
        return await next(request)

    return handle


def _ambient(request: Request, response: Response) -> bool:
    """Whether the exchange has what a browser sends for any page that makes it ask."""
    if response.header(b"set-cookie") is not None:
        return True
    for name, value in request.headers:
        low = name.lower()
        if low == b"cookie" or (low == b"authorization" and _UNASKED.match(value)):
            return True
    return False
