"""`transcode`: clients and servers that speak JSON or MessagePack understand each other."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import ClassVar

from proxy.apis.vectors import may_ask_base64
from proxy.chain import Env, Handler, RouteInfo
from proxy.exchange import Request, Response

from ..core.forms import EVENT_STREAM, essence, form_of
from ..core.http.converted import varying
from .answers import Answers
from .config import TranscodeConfig
from .dialect import Dialect, template_of
from .errors import ANSWER_REFUSALS, REQUEST_REFUSALS, MsgpackErrors
from .plan import Plan, Plans
from .requests import Requests


class Transcode:
    """Converts bodies by what the request's Content-Type and Accept say.

    Counts into `remora_transcoded_total` by route and part (request, answer, stream), and into
    `remora_transcode_refused_total` by route and code.
    """

    Config: ClassVar[type] = TranscodeConfig
    # A layer inside sees one form; one that sent the request again would convert it twice.
    before = ("cache", "prefetch", "aggregate", "concurrency", "retry", "circuit_breaker")
    after = ("auth", "compress")

    def __init__(self, config: TranscodeConfig, env: Env) -> None:
        self.config = config
        self.converted = env.counter(
            "transcoded", "Bodies put into another form.", ["route", "part"]
        )
        self.refused = env.counter(
            "transcode_refused", "Bodies that no form fits.", ["route", "code"]
        )

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        config = self.config
        if not config.enabled:
            return next
        if config.dialect != "off":
            # Inside of the forms: what is said in another API's words is JSON by then.
            template = template_of(config.template)

            def refused(code: str) -> None:
                self.refused.labels(route.name, code).inc()

            next = Dialect(
                config.dialect, template, config.model, config.max_body, refused, next
            ).handle
        return _Bound(self, route, next).handle


class _Bound:
    """The layer in one route's chain."""

    def __init__(self, layer: Transcode, route: RouteInfo, next: Handler) -> None:
        config = layer.config
        self._next = next
        self._plans = Plans(config)
        self._requests = Requests(config)
        self._answers = Answers(config)
        self._base64 = config.make_base64
        self._varies = len(config.clients) > 1
        self._refused = layer.refused
        self._route = route.name
        self._count = {
            part: layer.converted.labels(route.name, part).inc
            for part in ("request", "answer", "stream")
        }

    def handle(self, request: Request) -> Awaitable[Response]:
        plan = self._plans.of(request)
        base64 = self._base64 and may_ask_base64(request.method, request.path)
        if plan.passes and not base64:
            if self._varies and (request.method == b"GET" or request.method == b"HEAD"):
                return self._vary(request)
            return self._next(request)
        return self._negotiate(plan, request, base64)

    async def _vary(self, request: Request) -> Response:
        """Another client would get this in another form: a cache on the way must know.

        Answers to other methods are kept by none (RFC 9110 section 9.2.3), and stay as they are.
        """
        response = await self._next(request)
        kind = essence(response.header(b"content-type"))
        if form_of(kind) is not None or kind == EVENT_STREAM or response.status == 304:
            response.headers = varying(response.headers, b"Accept")
        return response

    async def _negotiate(self, plan: Plan, request: Request, base64: bool) -> Response:
        if plan.document == "msgpack":
            request.errors = MsgpackErrors(request, plan.media_type)
        try:
            if plan.refuse is not None:
                raise plan.refuse()
            asked = await self._requests.convert(plan, request, base64)
        except REQUEST_REFUSALS as error:
            self._refused.labels(self._route, error.code).inc()
            raise
        if asked.converted:
            self._count["request"]()
        response = await self._next(request)
        if plan.passes and not asked.base64:
            return response
        try:
            part = await self._answers.convert(plan, request, response, asked)
        except ANSWER_REFUSALS as error:
            self._refused.labels(self._route, error.code).inc()
            raise
        if part is not None:
            self._count[part]()
        return response
