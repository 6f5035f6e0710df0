"""An answer's way to the client: its body in the client's form, its fields as they then are."""

from __future__ import annotations

from typing import Any, Literal

from proxy.apis.vectors import write_base64
from proxy.errors import BodyTooLarge
from proxy.exchange import Request, Response, Stream

from ..core.documents import read_json, read_msgpack, write_json, write_msgpack
from ..core.forms import EVENT_STREAM, JSON_TYPE, Form, essence, form_of
from ..core.http.converted import converted, varying, weakened
from ..core.number_arrays import Code, packed
from .config import TranscodeConfig
from .errors import AnswerNotConvertible, AnswerTooLarge, MsgpackErrors
from .plan import Plan
from .requests import Asked
from .streams import EventsToObjects, ObjectsToEvents

Part = Literal["answer", "stream"]

_CODES: dict[str, Code] = {"float32": "f", "float16": "e"}


class Answers:
    """Puts a route's answers into the client's form."""

    def __init__(self, config: TranscodeConfig) -> None:
        self._native = config.upstream
        self._max_body = config.max_body
        self._code = _CODES.get(config.embeddings)
        self._varies = len(config.clients) > 1

    async def convert(
        self, plan: Plan, request: Request, response: Response, asked: Asked
    ) -> Part | None:
        """Changes `response`; None: its body stays. Raises AnswerNotConvertible, AnswerTooLarge."""
        if response.tunnel is not None:
            return None
        kind = essence(response.header(b"content-type"))
        form = form_of(kind)
        if response.status == 304 and plan.changes:
            # The client's copy has a weak tag: it came converted.
            response.headers = weakened(response.headers)
            self._vary(response)
        if form is None and kind != EVENT_STREAM:
            return None
        part: Part | None = None
        if kind == EVENT_STREAM:
            if plan.events == "msgpack":
                part = self._to_objects(plan, request, response)
        elif form == "msgpack" and self._is_stream(plan, response, asked):
            part = self._to_events(plan, request, response)
        else:
            part = await self._document(plan, request, response, form, asked)
        self._vary(response)
        return part

    def _vary(self, response: Response) -> None:
        if self._varies:
            response.headers = varying(response.headers, b"Accept")

    # -- streams

    def _is_stream(self, plan: Plan, response: Response, asked: Asked) -> bool:
        """Whether MessagePack is a stream of objects that has to become events."""
        return (
            asked.streams
            and 200 <= response.status < 300
            and response.header(b"content-length") is None
            and (plan.events == "sse" or (plan.events is None and plan.document == "json"))
        )

    def _to_objects(self, plan: Plan, request: Request, response: Response) -> Part | None:
        self._readable(response)
        response.headers = converted(response.headers, plan.media_type)
        if not _has_body(request, response):
            return None
        response.filters.append(EventsToObjects(self._pack if self._code else None))
        response.failed = MsgpackErrors(request, plan.media_type).last_object
        return "stream"

    def _to_events(self, plan: Plan, request: Request, response: Response) -> Part | None:
        self._readable(response)
        response.headers = converted(response.headers, EVENT_STREAM)
        if not _has_body(request, response):
            return None
        response.filters.append(ObjectsToEvents(self._max_body // 8))
        return "stream"

    # -- documents

    async def _document(
        self, plan: Plan, request: Request, response: Response, form: Form | None, asked: Asked
    ) -> Part | None:
        to = plan.document or form
        base64 = asked.base64 and response.status == 200
        if (to == form and not base64) or to is None:
            return None
        media_type = JSON_TYPE if to == "json" else plan.media_type
        if not _has_body(request, response):
            response.headers = converted(response.headers, media_type)
            return None
        self._readable(response)
        body = await self._whole(response)
        if body:
            body = self._rewritten(body, form, to, base64)
        response.headers = converted(response.headers, media_type)
        response.body = body
        response.declared = None
        response.trailers = []  # what they sign is gone
        return "answer"

    def _rewritten(self, body: bytes, form: Form | None, to: Form, base64: bool) -> bytes:
        try:
            value = read_json(body) if form == "json" else read_msgpack(body, self._max_body // 8)
            if base64:
                write_base64(value)
            if to == "json":
                body = write_json(value)
            else:
                pack = self._code is not None and form == "json"
                body = write_msgpack(self._pack(body, value) if pack else value)
        except ValueError as error:
            raise AnswerNotConvertible(
                f"the server's answer cannot be put into another form: {error}"
            ) from None
        if len(body) > self._max_body:
            raise AnswerTooLarge(f"the converted answer is over {self._max_body} bytes")
        return body

    def _pack(self, text: bytes, value: Any) -> Any:
        assert self._code is not None
        return packed(value, self._code, flags=b"true" in text or b"false" in text)

    async def _whole(self, response: Response) -> bytes:
        """The body, through the filters of the layers inside."""
        body = response.body
        if isinstance(body, Stream):
            try:
                body = await body.read_all(self._max_body)
            except BodyTooLarge:
                raise AnswerTooLarge(f"the answer is over {self._max_body} bytes") from None
        filters, response.filters = response.filters, []
        for body_filter in filters:
            body = (body_filter.feed(body) if body else b"") + body_filter.end()
        if len(body) > self._max_body:
            raise AnswerTooLarge(f"the answer is over {self._max_body} bytes")
        return body

    def _readable(self, response: Response) -> None:
        """Raises AnswerNotConvertible where the bytes are compressed, or a part of the whole."""
        coding = response.header(b"content-encoding")
        if coding is not None and coding.strip().lower() != b"identity":
            why = "compressed, though nobody asked for that"
        elif response.status == 206:
            why = "a part, though nobody asked for one"
        else:
            return
        raise AnswerNotConvertible(f"the server's answer is {why}")


def _has_body(request: Request, response: Response) -> bool:
    return request.method != b"HEAD" and response.status not in (204, 304)
