"""A request's way to the server: its body in the server's form, its fields as they then are."""

from __future__ import annotations

from typing import Any, NamedTuple

from proxy.apis.vectors import ask_floats
from proxy.exchange import Headers, Request

from ..core.documents import Unsayable, read_json, read_msgpack, write_json, write_msgpack
from ..core.forms import JSON_TYPE
from ..core.http.converted import converted
from .config import TranscodeConfig
from .errors import CompressedBody, NotConvertible
from .plan import Plan

# The answer's bytes are to be read here, all of them: no coding, no part.
_OF_THE_BYTES = frozenset((b"accept-encoding", b"range", b"if-range"))


class Asked(NamedTuple):
    """converted: the body went on in another form. streams: the client asked for a stream.

    base64: it asked for vectors in base64, and the server for numbers.
    """

    converted: bool
    streams: bool
    base64: bool


class Requests:
    """Puts a route's requests into the server's form."""

    def __init__(self, config: TranscodeConfig) -> None:
        self._native = config.upstream
        self._media_type = JSON_TYPE if config.upstream == "json" else config.media_type.encode()
        self._max_body = config.max_body

    async def convert(self, plan: Plan, request: Request, base64: bool) -> Asked:
        """base64: whether this is a call that may ask for it.

        Raises NotConvertible, UnsupportedMediaType and BodyTooLarge.
        """
        foreign = plan.spoken not in (None, self._native)
        asked = Asked(False, plan.wants_events, False)
        if foreign or (base64 and plan.spoken is not None):
            asked = await self._body(plan, request, foreign, base64)
        elif self._native == "msgpack" and plan.changes:
            asked = asked._replace(streams=asked.streams or request.api.streams(request))
        if plan.changes or asked.base64:
            request.headers = _fields(request.headers, plan.accept)
        return asked

    async def _body(self, plan: Plan, request: Request, foreign: bool, base64: bool) -> Asked:
        if compressed(request):
            if not foreign:
                return Asked(False, plan.wants_events, False)
            raise CompressedBody
        body = await request.read(self._max_body)
        streams = plan.wants_events
        if not body or not (foreign or b"base64" in body):
            return Asked(False, streams, False)
        try:
            value = self._read(plan, body)
            if foreign and self._native == "msgpack":
                # Whoever reads bodies inside finds none it knows; the API is still the client's.
                streams = streams or request.api.streams(request)
                request.route_api = request.api
            floats = base64 and ask_floats(value)
            if foreign or floats:
                self._replace(request, value)
        except Unsayable as error:
            raise NotConvertible(f"the body cannot be put into another form: {error}") from None
        return Asked(foreign, streams, floats)

    def _read(self, plan: Plan, body: bytes) -> Any:
        if plan.spoken == "json":
            return read_json(body)
        return read_msgpack(body, self._max_body // 8)

    def _replace(self, request: Request, value: Any) -> None:
        if self._native == "json":
            body = write_json(value)
            request.rewrite(body, value)
        else:
            body = write_msgpack(value)
            request.rewrite(body, None)
        if len(body) > self._max_body:
            raise NotConvertible(
                f"the body is over {self._max_body} bytes in the server's form",
                status=413, code="body_too_large",
            )  # fmt: skip
        request.headers = converted(request.headers, self._media_type)


def compressed(request: Request) -> bool:
    """Whether the body is in a coding, and so in no form that can be read."""
    coding = request.header(b"content-encoding")
    return coding is not None and coding.strip().lower() != b"identity"


def _fields(headers: Headers, accept: bytes | None) -> Headers:
    """The request's fields where the answer may have to be converted. accept: in Accept's place."""
    kept: Headers = []
    for pair in headers:
        name = pair[0].lower()
        if name == b"accept" and accept is not None:
            if accept:
                kept.append((pair[0], accept))
            accept = b""  # its other lines are in it
        elif name not in _OF_THE_BYTES:
            kept.append(pair)
    return kept
