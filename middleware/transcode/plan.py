"""What becomes of an exchange, by the request's Content-Type and Accept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from proxy.errors import ProxyError
from proxy.exchange import Request

from ..core.forms import EVENT_STREAM, JSON_TYPE, MSGPACK_TYPES, Form, essence, form_of
from ..core.http.accept import Accept, parse_accept
from ..core.http.fields import split
from .config import TranscodeConfig
from .errors import NotAcceptable, UnsupportedMediaType

MEMO_ENTRIES = 256
"""Pairs of Content-Type and Accept remembered for a route."""
MEMO_VALUE = 256
"""Bytes of one pair; a longer one is looked at anew each time."""

Events = Literal["sse", "msgpack"]
T = TypeVar("T", bound=str)

_OURS = frozenset((JSON_TYPE, *MSGPACK_TYPES))
_TYPE_OF: dict[Form, bytes] = {"json": JSON_TYPE, "msgpack": b"application/msgpack"}


@dataclass(frozen=True, slots=True)
class Plan:
    """refuse: makes the error that the request gets. spoken: the form of its body, if any.

    document: the form in which a document goes to the client; None: as it comes, because the
    client accepts neither. events: the same for a stream; wants_events: the client names event
    streams. media_type: what the client calls MessagePack. accept: what the server is sent for
    the client's Accept; None: that very one. changes: an answer may have to be converted.
    passes: nothing is done at all, but a `Vary` on answers to GET and HEAD.
    """

    refuse: Callable[[], ProxyError] | None
    spoken: Form | None
    document: Form | None
    events: Events | None
    media_type: bytes
    accept: bytes | None
    wants_events: bool
    changes: bool
    passes: bool


class Plans:
    """A route's plans, made once for each pair of Content-Type and Accept."""

    def __init__(self, config: TranscodeConfig) -> None:
        self._native = config.upstream
        self._clients = config.clients
        self._media_type = config.media_type.encode()
        self._known: dict[tuple[bytes | None, bytes | None], Plan] = {}

    def of(self, request: Request) -> Plan:
        content_type = accept = None
        # One pass over the fields for both of them: bench `transcode`, row "nothing to do".
        for name, value in request.headers:
            size = len(name)
            if size == 12:
                if content_type is None and name.lower() == b"content-type":
                    content_type = value
            elif size == 6 and name.lower() == b"accept":
                accept = value if accept is None else accept + b", " + value
        plan = self._known.get((content_type, accept))
        return self._new(content_type, accept) if plan is None else plan

    def _new(self, content_type: bytes | None, accept: bytes | None) -> Plan:
        plan = self._plan(essence(content_type), accept)
        if len(content_type or b"") + len(accept or b"") <= MEMO_VALUE:
            if len(self._known) >= MEMO_ENTRIES:
                self._known.clear()
            self._known[content_type, accept] = plan
        return plan

    def _plan(self, sent: bytes, accept: bytes | None) -> Plan:
        accepted = parse_accept(accept)
        spoken = form_of(sent)
        named = _named(accepted)
        msgpack = accepted.weight(named) if named else _unnamed_msgpack(accepted)
        may: dict[Form, float] = {"json": accepted.weight(JSON_TYPE), "msgpack": msgpack}
        names: set[str] = {"msgpack"} if named else set()
        names |= {
            form
            for form, media_type in (("json", JSON_TYPE), ("sse", EVENT_STREAM))
            if media_type in accepted.ranges
        }
        weights: dict[Form, float] = {form: may[form] for form in self._clients}
        document = _best(weights, names, spoken, self._native)
        streams: dict[Events, float] = {"sse": accepted.weight(EVENT_STREAM)}
        if "msgpack" in self._clients:
            streams["msgpack"] = msgpack
        native: Events = "sse" if self._native == "json" else "msgpack"
        events = _best(streams, names, "sse" if spoken == "json" else spoken, native)
        refuse = self._refusal(spoken, document, accepted)
        changes = document not in (None, self._native) or events not in (None, native)
        return Plan(
            refuse=refuse,
            spoken=spoken,
            document=document,
            events=events,
            media_type=named or (sent if spoken == "msgpack" else self._media_type),
            accept=self._accept(accept) if changes else None,
            wants_events=accepted.ranges.get(EVENT_STREAM, 0.0) > 0,
            changes=changes,
            passes=not (
                changes
                or refuse is not None
                or "msgpack" in (spoken, document)  # its errors are told in MessagePack
                or spoken not in (None, self._native)
            ),
        )

    def _refusal(
        self, spoken: Form | None, document: Form | None, accepted: Accept
    ) -> Callable[[], ProxyError] | None:
        names = " or ".join(_TYPE_OF[form].decode() for form in self._clients)
        if spoken is not None and spoken not in self._clients:
            return partial(
                UnsupportedMediaType,
                f"this is read as {names}",
                headers=[(b"accept", b", ".join(_TYPE_OF[form] for form in self._clients))],
            )
        # Whoever accepts anything else may be served by the server: only it knows.
        others = any(its > 0 and name not in _OURS for name, its in accepted.ranges.items())
        if document is None and not others:
            return partial(NotAcceptable, f"this is given as {names}")
        return None

    def _accept(self, accept: bytes | None) -> bytes | None:
        """The client's Accept with the server's form in the place of the others."""
        if accept is None:
            return None
        members = split(accept)
        kept = [member for member in members if essence(member) not in _OURS]
        if len(kept) == len(members):
            return None
        ours = JSON_TYPE if self._native == "json" else self._media_type
        # What a cache inside looks up is then the same whoever asks.
        return b", ".join([ours, *kept])


def _named(accepted: Accept) -> bytes:
    """The name of MessagePack that the client likes best; empty where it has none for it."""
    best = b""
    weight = 0.0
    for name, its in accepted.ranges.items():
        if name in MSGPACK_TYPES and its > weight:
            best, weight = name, its
    return best


def _unnamed_msgpack(accepted: Accept) -> float:
    if any(name in MSGPACK_TYPES for name in accepted.ranges):
        return 0.0  # named, with weight 0
    return accepted.weight(MSGPACK_TYPES[0])


def _best(weights: dict[T, float], names: set[str], spoken: T | None, native: T) -> T | None:
    """The heaviest; of equals what the client names, then what it spoke, then what the server."""

    def rank(one: T) -> tuple[float, bool, bool, bool]:
        return -weights[one], one not in names, one != spoken, one != native

    best = min(weights, key=rank)
    return best if weights[best] > 0 else None
