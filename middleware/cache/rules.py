"""Which model calls are cached, under which key, and when what is stored may be used."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import chain

import orjson

from proxy.chain import RouteInfo
from proxy.exchange import Headers, Request, Response

from ..core.entry import Entry
from ..core.http.freshness import current_age
from ..core.http.storing import is_of_the_call
from ..core.http.vary import matches, selecting_fields
from ..core.key import CREDENTIALS, NotCanonical, canonical, digest, pointer, tenant_of
from ..core.memo import Memo
from ..core.recording import Recording
from ..core.sse import EventReader, EventTooLarge
from ..core.trace import TRACE
from .config import CacheConfig
from .control import SWITCH, Wishes, wishes, without_switch

MEMO_BYTES = 1024 * 1024
"""Bytes of requests, for each route, whose plan is remembered by what they look like."""
MEMO_BODY = 16 * 1024
"""The largest body among them: a larger one costs about as much to compare as to understand."""

_TENSOR_HEAD = b"inference-header-content-length"

_READ = CREDENTIALS | {
    SWITCH, _TENSOR_HEAD, b"accept", b"cache-control", b"content-encoding", b"pragma",
}  # fmt: skip
"""Fields that a plan depends on, besides those of `vary`."""


PERSONAL = frozenset((401, 402, 403, 407, 429))
"""Statuses that speak of one client's credentials, or of how much it asked."""


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
    own_form: bytes | None = None
    other_form: bytes | None = None
    """Under `convert`: where the answers of either form to this question lie."""


class ModelRules:
    """Calls with a body: the same body gets the same answer for `ttl`."""

    def __init__(self, config: CacheConfig, route: RouteInfo) -> None:
        self._config = config
        self._route = route
        self._ignore = [pointer(text) for text in config.ignore]
        self._vary = [name.encode() for name in config.vary]
        self._read = _READ | set(self._vary)
        self._plans: Memo[Plan] = Memo(MEMO_BYTES)
        self._ends = {end.encode() for end in config.stream_ends}
        secret = config.secret.get_secret_value().encode() if config.secret else None
        self._tenant: Callable[[Request], bytes] | None = (
            tenant_of(secret) if config.share == "tenant" else None
        )

    async def plan(self, request: Request) -> Plan | None:
        """None: this request is none of the cache's business, and passes untouched."""
        if request.method != b"POST" or request.upgrade is not None:
            return None
        read = self._read
        fields = tuple([pair for pair in request.headers if pair[0].lower() in read])
        if not isinstance(request.body, bytes):
            await self._take_in(request, fields)
        body = request.body
        if not isinstance(body, bytes) or len(body) > MEMO_BODY:
            return self.plan_read(request)
        # A request that looks the same has the same plan: bench `cache` pays for the table.
        looks = (request.target, body, fields, request.tenant)
        plan = self._plans.get(looks)
        if plan is not None:
            return plan
        headers = request.headers
        plan = self.plan_read(request)
        if plan is not None and request.headers is headers:
            self._plans.put(looks, plan, sum(map(len, (request.target, body, *chain(*fields)))))
        return plan

    async def _take_in(self, request: Request, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """Reads a body of a size that is looked up, and no other."""
        length = request.header(b"content-length")
        if length is None or int(length) > self._config.max_request_bytes:
            return
        if request.header(b"content-encoding") is None and wishes(list(fields)) is not None:
            await request.read(self._config.max_request_bytes)

    def plan_read(self, request: Request) -> Plan | None:
        """The same, for a body that is in memory."""
        asked = wishes(request.headers)
        request.headers = without_switch(request.headers)
        if asked is None or request.header(b"content-encoding") is not None:
            return None
        body = request.body
        if not isinstance(body, bytes) or not 0 < len(body) <= self._config.max_request_bytes:
            return None
        api = request.api
        if self._config.when == "deterministic" and not api.deterministic(request):
            return None
        if self._config.items:
            parted = api.parts(request)
            if parted is not None and len(parted.items) == 1 and not parted.bare:
                # A text by itself, and a list with it alone, are one question.
                body = parted.call(parted.items).body
        try:
            meaning = self._meaning(request, body)
        except NotCanonical:
            return None
        whose = self._whose(request)
        key = digest((request.method, request.target, meaning, *whose))
        plan = Plan(key, asked, api.model(request), api.streams(request))
        return self._with_twin(request, plan, whose) if self._config.convert else plan

    def _meaning(self, request: Request, body: bytes) -> bytes:
        """What of the body counts. Raises NotCanonical for what is neither JSON nor tensors."""
        head = request.header(_TENSOR_HEAD)
        if head is not None:  # KServe's binary tensors: JSON of that many bytes, then raw numbers
            return b"binary:" + head + b":" + body
        return canonical(body, self._ignore)

    def _whose(self, request: Request) -> list[bytes]:
        """What else makes a difference: who answers, the tenant, the form, chosen headers."""
        return [
            self._route.upstream.encode(),
            self._tenant(request) if self._tenant is not None else b"",
            _form(request),
            *(request.header(name) or b"" for name in self._vary),
        ]

    def _with_twin(self, request: Request, plan: Plan, whose: list[bytes]) -> Plan:
        question = request.api.unstreamed(request)
        if question is None:
            return plan
        try:
            body = canonical(orjson.dumps(question.body), self._ignore)
        except NotCanonical:
            return plan
        parts = (request.method, question.target, body, *whose)
        forms = digest((b"json", *parts)), digest((b"stream", *parts))
        own, other = reversed(forms) if plan.streams else forms
        return replace(plan, own_form=own, other_form=other)

    def use(self, entry: Entry, plan: Plan, now: float) -> Use:
        config = self._config
        age = current_age(entry.age, entry.stored_at, now)
        left = entry.lifetime - age
        asked = plan.wishes
        if asked.max_age is not None and (age > asked.max_age or not asked.max_age):
            return Use.NONE
        if left > 0:
            return Use.FRESH if left >= asked.min_fresh else Use.NONE
        if asked.max_stale is not None and -left <= asked.max_stale:
            return Use.FRESH
        if asked.min_fresh:
            return Use.NONE
        if -left <= config.grace:
            return Use.STALE
        return Use.IF_ERROR if -left <= config.stale_if_error else Use.NONE

    def may_share(self, asked: Request, response: Response, request: Request) -> bool:
        """Whether the answer to `asked`, a call under way, may serve `request`, too."""
        vary = _varies(asked, response)
        if vary is None or not matches(vary, request.headers):
            return False
        if response.header(b"set-cookie") is not None:
            return False
        return response.status not in PERSONAL or _credentials(asked) == _credentials(request)

    def entry(
        self, request: Request, plan: Plan, response: Response, recording: Recording, now: float
    ) -> Entry | None:
        """What to store of a whole answer, or None: only a complete 200 without an error in it."""
        config = self._config
        if response.status != 200 or response.header(b"set-cookie") is not None:
            return None
        body = recording.body()
        vary = _varies(request, response)
        if vary is None:
            return None
        streamed = _is_event_stream(response)
        if streamed:
            events = self._events(request, body)
            if events is None:
                return None
            tokens = request.api.stream_usage(events)
        else:
            if not _framed(response) and not _is_json(body):
                return None
            tokens = _tokens(request, response, body)
        return Entry(
            status=response.status,
            reason=response.reason,
            headers=for_others(response.headers),
            body=body,
            stored_at=now,
            lifetime=config.ttl,
            keep=config.ttl + max(config.grace, config.stale_if_error),
            trailers=recording.trailers,
            vary=vary,
            route=self._route.name,
            model=plan.model,
            tokens=tokens,
            pieces=_event_sizes(body) if streamed else (),
        )

    def _events(self, request: Request, body: bytes) -> list[bytes] | None:
        """The events of a stream that ended as its API ends one; None for any other."""
        api = request.api
        try:
            events = EventReader().feed(body)
        except EventTooLarge:
            return None
        ended = "close" in self._config.stream_ends
        for event in events:
            if api.fails_stream(event):
                return None
            ended = ended or api.ends_stream(event) or event in self._ends
        return events if ended else None


def for_others(headers: Headers) -> Headers:
    """Of an answer's fields those that are not of the call that brought it."""
    return [
        pair for pair in headers if not (is_of_the_call(low := pair[0].lower()) or low in TRACE)
    ]


def _framed(response: Response) -> bool:
    """Whether the answer says itself where it ends. A server that dies ends any other, too."""
    return response.chunked or response.header(b"content-length") is not None


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def _is_event_stream(response: Response) -> bool:
    kind = response.header(b"content-type") or b""
    return kind.partition(b";")[0].strip().lower() == b"text/event-stream"


_ANY = frozenset((None, b"", b"*/*", b"application/json", b"application/json, text/plain, */*"))


def _form(request: Request) -> bytes:
    """The form of answer that the client asks for; JSON is what model servers give anyway."""
    accept = request.header(b"accept")
    return b"" if accept in _ANY else accept or b""


def _credentials(request: Request) -> Headers:
    return [pair for pair in request.headers if pair[0].lower() in CREDENTIALS]


def _varies(request: Request, response: Response) -> Headers | None:
    """The request's fields that the answer depends on; None where it suits no other request."""
    vary = selecting_fields(response.headers, request.headers)
    if vary is None:
        return None
    if response.header(b"content-encoding") is not None:
        # Compressed, and some servers do not say that they chose to.
        more = selecting_fields([(b"vary", b"accept-encoding")], request.headers) or []
        vary = sorted({*vary, *more})
    return vary


_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


def _event_sizes(body: bytes) -> tuple[int, ...]:
    """Bytes of each event with the blank line behind it: what a paced replay sends as one."""
    ends = [match.end() for match in _EVENT_END.finditer(body)]
    if not ends or ends[-1] != len(body):
        ends.append(len(body))
    return tuple(end - start for start, end in zip([0, *ends], ends, strict=False))


def _tokens(request: Request, response: Response, body: bytes) -> int:
    """Tokens that the answer counts; 0 for one too large to look into for a number."""
    if len(body) > 64 * 1024 or response.header(b"content-encoding") is not None:
        return 0
    try:
        return request.api.usage(orjson.loads(body))
    except orjson.JSONDecodeError:
        return 0
