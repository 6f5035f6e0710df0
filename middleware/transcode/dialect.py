"""Asks a server that speaks another API than its clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from proxy.apis.dialect import (
    EventTurner,
    Translation,
    Untranslatable,
    concerns,
    translate,
)
from proxy.apis.dialect.template import TEMPLATES, Template
from proxy.apis.shape import Untold
from proxy.chain import Handler
from proxy.errors import BodyTooLarge, UpstreamError
from proxy.exchange import Headers, Request, Response, Stream

from ..core.forms import EVENT_STREAM, essence
from ..core.sse import EventReader, EventTooLarge
from . import config
from .errors import CompressedBody
from .requests import compressed

_OF_THE_BODY = frozenset(
    (b"content-type", b"content-length", b"content-encoding", b"accept", b"accept-encoding",
     b"accept-ranges", b"etag", b"last-modified", b"content-md5", b"content-digest",
     b"repr-digest", b"digest", b"range", b"if-range", b"if-match", b"if-none-match",
     b"if-modified-since", b"if-unmodified-since")
)  # fmt: skip


class Untranslated(UpstreamError):
    """The server's answer is none of its API's."""

    code = "upstream_untranslatable"


class Dialect:
    """Stands around a route's handler. server: the API that is spoken there. refused: is told the
    code of what cannot be translated.
    """

    def __init__(
        self,
        server: str,
        template: Template,
        model: str | None,
        max_body: int,
        refused: Callable[[str], None],
        next: Handler,
    ) -> None:
        self._server = server
        self._template = template
        self._model = model
        self._max_body = max_body
        self._refused = refused
        self._next = next

    def handle(self, request: Request) -> Awaitable[Response]:
        if not concerns(request.method, request.path, self._server):
            return self._next(request)
        return self._translated(request)

    async def _translated(self, request: Request) -> Response:
        try:
            if compressed(request):
                raise CompressedBody
            await request.read(self._max_body)
            translation = translate(request, self._server, self._template, self._model)
        except (BodyTooLarge, CompressedBody, Untranslatable) as error:
            self._refused(error.code)
            raise
        if translation is None:
            return await self._next(request)
        asked = _asked(request, translation)
        try:
            response = await self._next(asked)
        finally:
            request.endpoint = asked.endpoint
        try:
            return await self._told(translation, response)
        except Untranslated as error:
            self._refused(error.code)
            raise

    async def _told(self, translation: Translation, response: Response) -> Response:
        """The answer in the client's words."""
        if response.header(b"content-encoding") not in (None, b"identity"):
            _give_up(response)
            raise Untranslated("the server's answer is encoded, though nobody asked for it")
        streamed = essence(response.header(b"content-type")) == EVENT_STREAM
        if translation.call.streams and 200 <= response.status < 300:
            if not streamed:
                _give_up(response)
                raise Untranslated("the server's answer is no stream, though one was asked for")
            response.headers = _headers(response.headers, b"text/event-stream")
            response.filters.append(_Turned(translation.events()))
            return response
        return await self._whole(translation, response)

    async def _whole(self, translation: Translation, response: Response) -> Response:
        body = response.body
        if isinstance(body, Stream):
            try:
                body = await body.read_all(self._max_body)
            except BodyTooLarge:
                raise Untranslated("the server's answer is larger than `max_body`") from None
        for body_filter in response.filters:
            body = (body_filter.feed(body) if body else b"") + body_filter.end()
        response.filters = []
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        told: Any
        if response.status >= 400:
            response.status, told = translation.error(response.status, answer)
            response.reason = b""
        else:
            try:
                told = translation.answer(answer)
            except Untold:
                raise Untranslated("the server's answer is none of its API's") from None
        response.headers = _headers(response.headers, b"application/json")
        response.body = orjson.dumps(told)
        response.trailers = []  # what they sign is gone
        response.chunked = False
        return response


def template_of(template: config.Template | str) -> Template:
    """By its name, or made of the file's own."""
    if isinstance(template, str):
        return TEMPLATES[template]
    return Template(template.begin, template.roles, template.ask)


def _asked(request: Request, translation: Translation) -> Request:
    """The request in the server's words; it ends when the client's ends."""
    call = translation.call
    asked = request.fork(b"" if call.body is None else orjson.dumps(call.body))
    asked.method, asked.target, asked.path = call.method, call.target, call.target
    asked.route_api = None
    asked.declared = None
    asked.chunked = False
    asked.headers = [pair for pair in asked.headers if pair[0].lower() not in _OF_THE_BODY]
    if call.body is not None:
        asked.headers.append((b"content-type", b"application/json"))
    asked.outcome = request.outcome
    request.on_end(lambda outcome: asked.finish())
    return asked


def _headers(headers: Headers, content_type: bytes) -> Headers:
    kept = [pair for pair in headers if pair[0].lower() not in _OF_THE_BODY]
    return [*kept, (b"content-type", content_type)]


def _give_up(response: Response) -> None:
    if isinstance(response.body, Stream):
        response.body.abort()


class _Turned:
    """A BodyFilter: one API's events in, the other's out."""

    def __init__(self, turner: EventTurner) -> None:
        self._events = EventReader()
        self._turner = turner

    def feed(self, chunk: bytes) -> bytes:
        try:
            return b"".join(map(self._turner.feed, self._events.feed(chunk)))
        except EventTooLarge:
            raise Untranslated("an event of the server's stream is over the bound") from None

    def end(self) -> bytes:
        return self._turner.end()
