"""A request that can be asked again without its client: which ones may, and as what."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.apis import Api
from proxy.exchange import Headers, Request, Response

from .http.cache_control import delta_seconds, parse
from .http.fields import values
from .http.freshness import lifetime
from .key import digest

_OWN = frozenset((b"accept", b"content-encoding", b"content-type", b"host"))
"""Fields that belong to what is asked for. All others are the client's, and are not kept."""

_SPECIAL = frozenset((b"cache-control", b"pragma", b"range", b"x-remora-cache"))
"""A request with one of these wants something of its own of a cache."""

_NOT_AGAIN = _OWN | {
    b"content-digest", b"content-length", b"expect", b"if-match", b"if-modified-since",
    b"if-none-match", b"if-range", b"if-unmodified-since", b"te", b"trailer",
}  # fmt: skip
"""Fields of a client's request that do not go with another request of its."""


def is_prefetch(headers: Headers) -> bool:
    """Whether a browser fetches ahead of its user (Fetch standard, `Sec-Purpose`)."""
    return any(
        name.lower() in (b"sec-purpose", b"purpose") and b"prefetch" in value.lower()
        for name, value in headers
    )


@dataclass(frozen=True, slots=True)
class Repeat:
    """What was asked for, without who asked. own: the header fields that belong to it."""

    method: bytes
    target: bytes
    own: Headers
    body: bytes
    label: str
    route_api: Api | None

    @property
    def size(self) -> int:
        """Bytes that it takes, overhead estimated."""
        fields = sum(len(name) + len(value) + 128 for name, value in self.own)
        return len(self.target) + len(self.body) + fields + 256

    def key(self, tenant: bytes, route: bytes) -> bytes:
        """What tells it from all others, of other tenants and routes too."""
        own = [part for name, value in self.own for part in (name.lower(), value)]
        return digest((tenant, route, self.method, self.target, self.body, *own))

    def by(self, client: Request, now: float) -> Request:
        """The request that the client of another one would send for this: its credentials,
        address and trace. `now`: when it is sent.
        """
        twin = client.fork(self.body)
        twin.method = self.method
        twin.target = self.target
        twin.path = self.target.partition(b"?")[0]
        twin.headers = [
            *self.own,
            *(pair for pair in client.headers if pair[0].lower() not in _NOT_AGAIN),
        ]
        twin.declared = None
        twin.chunked = False
        twin.http10 = False
        twin.received_at = now
        twin.label = self.label
        twin.route_api = self.route_api
        return twin


class Asked:
    """A client's request as it came, whatever inner layers make of it."""

    __slots__ = ("_headers", "_method", "_target", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self._method = request.method
        self._target = request.target
        self._headers = request.headers

    def repeat(self, response: Response, max_bytes: int) -> Repeat | None:
        """None where nobody may ask again, or the answer cannot be of use to a cache.

        Calls that give the same answer again, with a body of `max_bytes` at most that is in
        memory: a cache that could keep the answer has read it. And GET, where the cache says
        that it took notice.
        """
        request = self.request
        body = request.body
        if response.status not in (200, 304):
            return None
        if not isinstance(body, bytes) or len(body) > max_bytes:
            return None
        own: Headers = []
        for pair in self._headers:
            name = pair[0].lower()
            if name in _SPECIAL:
                return None
            if name in _OWN:
                own.append(pair)
        if b"no-store" in parse(response.headers) or response.header(b"set-cookie") is not None:
            return None
        if self._method == b"POST":
            if not request.api.deterministic(request):
                return None
        elif self._method != b"GET" or body or not _of_a_cached_page(response):
            return None
        return Repeat(
            self._method, self._target, own, body, request.label, request.route_api
        )  # fmt: skip


def _of_a_cached_page(response: Response) -> bool:
    # An event stream that a GET opens goes on until somebody leaves.
    kind = response.header(b"content-type") or b""
    said = cache_status(response)
    noticed = said != b"" and b"; fwd=request" not in said
    return noticed and not kind.lower().startswith(b"text/event-stream")


def cache_status(response: Response) -> bytes:
    """What remora's own cache says of an answer (RFC 9211); empty where it says nothing."""
    told = values(response.headers, b"cache-status")
    return told[-1] if told and told[-1].startswith(b"remora;") else b""


def life(repeat: Repeat, response: Response, ttl: float, wall: float) -> tuple[float, int]:
    """(seconds for which the cache keeps such an answer, how many of them have passed).

    ttl: how long it keeps answers to calls. A page is fresh as long as its server says (RFC 9111
    section 4.2). wall: wall-clock seconds.
    """
    if repeat.method == b"POST":
        return ttl, 0
    fresh = lifetime(response.status, response.headers, wall)
    return fresh, delta_seconds(response.header(b"age") or b"") or 0
