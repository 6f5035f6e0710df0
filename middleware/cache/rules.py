"""Which model calls are cached, under which key, and when what is stored may be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from proxy.chain import RouteInfo
from proxy.exchange import Headers, Request, Response

from ..core.entry import Entry
from ..core.key import NotCanonical, canonical, digest, pointer, tenants
from ..core.sse import EventReader, EventTooLarge
from .config import CacheConfig
from .control import Wishes, wishes


class Use(Enum):
    """What may be done with a stored answer."""

    FRESH = "fresh"
    STALE = "stale"
    """It may be served while it is refreshed."""
    IF_ERROR = "if error"
    """It may be served where the upstream fails."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Plan:
    """One request's place in the cache."""

    key: bytes
    wishes: Wishes
    model: str
    streams: bool


class ModelRules:
    """Calls with a body: the same body gets the same answer for `ttl`."""

    def __init__(self, config: CacheConfig, route: RouteInfo) -> None:
        self._config = config
        self._route = route
        self._ignore = [pointer(text) for text in config.ignore]
        self._vary = [name.encode() for name in config.vary]
        secret = config.secret.get_secret_value().encode() if config.secret else None
        self._tenant: Callable[[Headers], bytes] | None = (
            tenants(secret) if config.share == "tenant" else None
        )

    async def plan(self, request: Request) -> Plan | None:
        """None: this request is none of the cache's business, and passes untouched."""
        if request.method != b"POST" or request.upgrade is not None:
            return None
        asked = wishes(request.headers)
        if asked is None:
            return None
        body = await self._body(request)
        if not body:
            return None
        api = request.api
        if self._config.when == "deterministic" and not api.deterministic(request):
            return None
        try:
            meaning = canonical(body, self._ignore)
        except NotCanonical:
            return None
        key = digest(
            (
                request.method,
                request.target,
                meaning,
                self._tenant(request.headers) if self._tenant is not None else b"",
                _form(request),
                *(request.header(name) or b"" for name in self._vary),
            )
        )
        return Plan(key, asked, api.model(request), api.streams(request))

    async def _body(self, request: Request) -> bytes | None:
        """The body, where it is JSON of a size that is looked up; nothing is read otherwise."""
        if request.header(b"content-encoding") is not None:
            return None
        if isinstance(request.body, bytes):
            return request.body if len(request.body) <= self._config.max_request_bytes else None
        length = request.header(b"content-length")
        if length is None or int(length) > self._config.max_request_bytes:
            return None
        return await request.read(self._config.max_request_bytes)

    def use(self, entry: Entry, plan: Plan, now: float) -> Use:
        config = self._config
        age = max(0.0, now - entry.stored_at)
        left = entry.lifetime - age
        asked = plan.wishes
        if asked.max_age is not None and age > asked.max_age:
            return Use.NONE
        if left > asked.min_fresh or (left > 0 and not asked.min_fresh):
            return Use.FRESH
        if asked.max_stale is not None and -left <= asked.max_stale:
            return Use.FRESH
        if asked.min_fresh:
            return Use.NONE
        if -left <= config.grace:
            return Use.STALE
        return Use.IF_ERROR if -left <= config.stale_if_error else Use.NONE

    def entry(
        self, request: Request, plan: Plan, response: Response, body: bytes, now: float
    ) -> Entry | None:
        """What to store of a whole answer, or None: only a complete 200 without an error in it."""
        config = self._config
        if response.status != 200 or response.header(b"set-cookie") is not None:
            return None
        if _is_event_stream(response) and not self._ended_well(request, body):
            return None
        return Entry(
            status=response.status,
            reason=response.reason,
            headers=[pair for pair in response.headers if pair[0].lower() != b"age"],
            body=body,
            stored_at=now,
            lifetime=config.ttl,
            keep=config.ttl + max(config.grace, config.stale_if_error),
            trailers=response.trailers,
            route=self._route.name,
            model=plan.model,
        )

    def _ended_well(self, request: Request, body: bytes) -> bool:
        api = request.api
        ended = False
        try:
            for event in EventReader().feed(body):
                if api.fails_stream(event):
                    return False
                ended = api.ends_stream(event) or ended
        except EventTooLarge:
            return False
        return ended


def _is_event_stream(response: Response) -> bool:
    kind = response.header(b"content-type") or b""
    return kind.partition(b";")[0].strip().lower() == b"text/event-stream"


_ANY = frozenset((None, b"", b"*/*", b"application/json", b"application/json, text/plain, */*"))


def _form(request: Request) -> bytes:
    """The form of answer that the client asks for; JSON is what model servers give anyway."""
    accept = request.header(b"accept")
    return b"" if accept in _ANY else accept or b""
