"""All that travels: Request, Response, Outcome. `proxy.stream` carries their bodies.

Headers are raw: (name, value) pairs in bytes as they came, in order, case and duplicates kept.
Look-ups ignore case. A body is bytes or a Stream.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from .errors import BodyTooLarge, ProxyError
from .stream import Headers as Headers
from .stream import Sink as Sink
from .stream import Source as Source
from .stream import Stream as Stream

if TYPE_CHECKING:
    from .apis import Api
    from .chain import BodyFilter

log = logging.getLogger("remora")


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """First value of `name` (given in lower case), or None."""
    size = len(name)
    for key, value in headers:
        if len(key) == size and key.lower() == name:
            return value
    return None


Body = bytes | Stream

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""Methods that may be sent again though a server has seen them (RFC 9110 section 9.2.2)."""


class Outcome:
    """How an exchange ended, told once to every `on_end`. Times are seconds of
    `time.monotonic`: uvloop's own clock stands still within a turn and counts milliseconds.

    status: what the client got, 0 when the head was never sent. first_byte and last_byte: when
    the answer's head left, and its end; None when they never did. cancelled: the client left.
    error: what remora or the upstream failed with, also after the head.
    """

    __slots__ = ("bytes_sent", "cancelled", "error", "first_byte", "last_byte", "status")

    def __init__(self) -> None:
        self.status = 0
        self.bytes_sent = 0
        self.first_byte: float | None = None
        self.last_byte: float | None = None
        self.cancelled = False
        self.error: ProxyError | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, as `auth` found it out. name: from the file, so it may be a label.

    limits: as `rate_limit` writes them ("20/second"), in the place of the layer's own for this
    key; None: the layer's. priority: for a queue, the higher first.
    """

    name: str
    limits: tuple[str, ...] | None = None
    priority: int = 0


class Gate(Protocol):
    """Asked by the balancer for each endpoint, by name, before it chooses: a breaker per endpoint.

    No await stands between `admits` and `chosen`, so a permit seen is a permit taken.
    """

    def admits(self, endpoint: str) -> bool: ...
    def chosen(self, endpoint: str) -> None: ...


class ErrorForm(Protocol):
    """How a client is told of an error."""

    def error(self, error: ProxyError) -> tuple[bytes, bytes]:
        """Content type and body of an error answer."""
        ...


_UNPARSED: Any = object()
_OF_NO_ITEM = (502, 503, 504)
_recognise: Callable[[Request], Api] | None = None


def _find_recognise() -> Callable[[Request], Api]:
    """Once, because an import costs each request a microsecond; late, because it imports us."""
    global _recognise
    from .apis import recognise

    _recognise = recognise
    return recognise


class Request:
    """One request on its way through the chain.

    method, target: the client's bytes. headers: end-to-end ones only. body: bytes, or a Stream
    that only one may consume. declared: the very body that the headers frame; whoever sends another
    one counts anew. upgrade: the Upgrade field's value, or None.
    """

    # fmt: off
    __slots__ = (
        "_api", "_ends", "_json", "avoid", "body", "chunked", "client", "declared", "endpoint",
        "errors", "finished", "gate", "has_left", "has_stale", "headers", "http10", "identity",
        "interim", "label", "method", "on_trial", "outcome", "path", "received_at", "route_api",
        "scheme", "target", "tenant", "upgrade", "want_continue",
    )
    # fmt: on

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: Body = b"",
        *,
        client: str = "",
        scheme: str = "http",
        received_at: float = 0.0,
    ) -> None:
        self.method = method
        self.target = target
        self.path = target.partition(b"?")[0]
        self.headers = headers
        self.body = body
        self.declared: Body | None = None
        self.client = client
        """Address of whoever speaks to us, behind trusted proxies the one they name."""
        self.scheme = scheme
        self.received_at = received_at
        self.chunked = False
        """The client framed its body in chunks; the upstream gets it so, too."""
        self.http10 = False
        self.upgrade: bytes | None = None
        self.want_continue: Callable[[], None] | None = None
        """Sends 100 Continue; set while the client waits for it."""
        self.interim: Callable[[int, bytes, Headers], None] | None = None
        """Passes an upstream's 1xx answer to the client; None where nobody can take it."""
        self.tenant: str | None = None
        self.identity: Identity | None = None
        self.avoid: frozenset[str] = frozenset()
        """Endpoints that failed this request already: taken only where no other is left."""
        self.gate: Gate | None = None
        self.has_left: Callable[[], bool] | None = None
        """Whether the client has left. Set where its body was not here with its head: while the
        rest is not read, no cancelling tells, so whoever has let the request wait asks.
        """
        self.has_stale = False
        """An outer layer has an older answer to give in the place of an error."""
        self.on_trial = False
        """Part of a shared call that failed: it is to find out whose item made it fail."""
        self.endpoint = ""
        """Name of the endpoint that the balancer chose; empty before."""
        self.label = "other"
        """Name of the route, for logs and metrics."""
        self.route_api: Api | None = None
        self.errors: ErrorForm | None = None
        """How this client is told of an error; None: as its API tells it."""
        self.outcome = Outcome()
        self.finished = False
        self._ends: list[Callable[[Outcome], None]] | None = None
        self._json: Any = _UNPARSED
        self._api: Api | None = None

    def header(self, name: bytes) -> bytes | None:
        """First value of `name` (given in lower case), or None."""
        return header(self.headers, name)

    async def read(self, max_bytes: int = 16 * 1024 * 1024) -> bytes:
        """The whole body, read into memory once. Raises BodyTooLarge; all of it is then still to
        be read.
        """
        body = self.body
        if not isinstance(body, bytes):
            if body is self.declared and int(self.header(b"content-length") or 0) > max_bytes:
                raise BodyTooLarge(f"the body is over {max_bytes} bytes")
            if self.want_continue is not None:
                # The upstream will get a body that is here already: nothing is left to ask for.
                self.want_continue()
                self.want_continue = None
                self.headers = [pair for pair in self.headers if pair[0].lower() != b"expect"]
            whole = await body.read_all(max_bytes, put_back=True)
            if self.declared is body:
                self.declared = whole
            body = self.body = whole
        if len(body) > max_bytes:
            raise BodyTooLarge(f"the body is over {max_bytes} bytes")
        return body

    def json(self) -> Any:
        """The body as JSON, parsed once; None where it is no JSON or was not read yet."""
        if self._json is _UNPARSED:
            try:
                self._json = orjson.loads(self.body) if isinstance(self.body, bytes) else None
            except orjson.JSONDecodeError:
                self._json = None
        return self._json

    def rewrite(self, body: bytes, json: Any = _UNPARSED) -> None:
        """Puts another body in the place of the one that was read, and forgets what was found
        from that. json: what `json()` gives from now on, where it is known.
        """
        self.body = body
        self._json = json
        self._api = None

    @property
    def api(self) -> Api:
        """The API this request speaks: the route's, or found from method, path and body."""
        if self._api is None:
            if self.route_api is not None:
                self._api = self.route_api
            else:
                self._api = (_recognise or _find_recognise())(self)
        return self._api

    def accuses(self, status: int) -> bool:
        """Whether an answer with this status is a fault of the server that counts against it. The
        failure of a call on trial has been counted already, and now tells of an item; what
        gateways say, and servers with too much to do, tells of none.
        """
        return status >= 500 and (not self.on_trial or status in _OF_NO_ITEM)

    def on_end(self, callback: Callable[[Outcome], None]) -> None:
        """Run `callback` exactly once when the exchange has ended, the last added first."""
        if self._ends is None:
            self._ends = [callback]
        else:
            self._ends.append(callback)

    @property
    def ends(self) -> int:
        """How many wait for the end so far: a mark for `settle`."""
        return len(self._ends) if self._ends is not None else 0

    def settle(self, mark: int, outcome: Outcome) -> None:
        """Tell `outcome` to those who came since `mark`, the last one first: what they watched
        has ended, the exchange goes on. A retry does so behind each attempt that failed.
        """
        while self._ends is not None and len(self._ends) > mark:
            try:
                self._ends.pop()(outcome)
            except Exception:
                log.exception("an on_end callback of route %s failed", self.label)

    def finish(self) -> None:
        """Tell every `on_end`. A second call does nothing; one that raises stops no other."""
        if self.finished:
            return
        self.finished = True
        ends, self._ends = self._ends, None
        while ends:
            try:
                ends.pop()(self.outcome)
            except Exception:
                log.exception("an on_end callback of route %s failed", self.label)

    def fork(self, body: bytes | None = None) -> Request:
        """A request of a layer's own: same target, headers, tenant and trace; own body and on_end.

        The body must have been read (`await read()`) or be given.
        """
        if body is None:
            if not isinstance(self.body, bytes):
                raise TypeError("fork() needs a body in memory: await request.read() first")
            body = self.body
        twin = Request(
            self.method, self.target, list(self.headers), body,
            client=self.client, scheme=self.scheme, received_at=self.received_at,
        )  # fmt: skip
        twin.declared = body if self.declared is body else None
        twin.chunked = self.chunked
        twin.http10 = self.http10
        twin.tenant = self.tenant
        twin.identity = self.identity
        twin.avoid = self.avoid
        twin.has_stale = self.has_stale
        twin.on_trial = self.on_trial
        twin.label = self.label
        twin.route_api = self.route_api
        return twin


class TunnelEnd(Protocol):
    """One end of an upgraded connection: raw bytes."""

    write: Callable[[bytes], None]

    def close(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Tunnel(Protocol):
    """The upstream's end. `open` gives it the client's; from then on each feeds the other."""

    def open(self, client: TunnelEnd) -> None: ...
    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Response:
    """An answer on its way back.

    headers: end-to-end ones only; `Content-Length` where the upstream sent it. body: bytes when
    all of it is here, else a Stream. filters: applied to each chunk in order, by the pump.
    declared: the very body that a Content-Length among the headers belongs to; a layer that
    puts another body in its place leaves it, and the pump then counts anew. chunked: the
    upstream framed it in chunks, and the client gets it so, too. failed: gives the last bytes of a
    body that breaks off, between two of its parts, to tell the client of the error; None: an event
    stream ends with the API's error event, and any other body is aborted.
    tunnel: set for 101 alone, when both sides now speak another protocol.
    """

    # fmt: off
    __slots__ = (
        "body", "chunked", "declared", "failed", "filters", "headers", "reason", "status",
        "trailers", "tunnel",
    )
    # fmt: on

    def __init__(
        self, status: int, headers: Headers, body: Body = b"", reason: bytes = b""
    ) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body
        self.declared: Body | None = None
        self.chunked = False
        self.trailers: Headers = []
        self.filters: list[BodyFilter] = []
        self.failed: Callable[[ProxyError], bytes] | None = None
        self.tunnel: Tunnel | None = None

    def header(self, name: bytes) -> bytes | None:
        """First value of `name` (given in lower case), or None."""
        return header(self.headers, name)
