"""What a call will cost in tokens, and what it has cost."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from proxy.apis.prompt import BYTES_PER_TOKEN
from proxy.errors import BodyTooLarge
from proxy.exchange import Outcome, Request, Response, Stream

from ..core.sse import EventReader, EventTooLarge

MAX_ANSWER = 256 * 1024
"""Bytes of a JSON answer that are looked through for its usage; a longer one is estimated."""
LAST_EVENTS = 4
"""Events of a stream that are kept: the usage stands in one of the last."""


class Estimate(NamedTuple):
    """Tokens: of the prompt, and of the longest answer."""

    prompt: int
    answer: int

    @property
    def total(self) -> int:
        """At least one: audio is no text, and its answer may tell its usage all the same."""
        return max(1, self.prompt + self.answer)


async def estimate(
    request: Request, max_bytes: int, default: int, refuses: bool
) -> Estimate | None:
    """What the call may take; None for what takes no tokens. max_bytes, refuses: as for `read`.
    default: tokens of an answer on which the client set no bound.
    """
    if request.method != b"POST" or request.upgrade is not None:
        return None
    length = await read(request, max_bytes, refuses)
    api = request.api
    if length is not None:
        return Estimate(-(-length // BYTES_PER_TOKEN), default)
    answer = api.max_tokens(request)
    return Estimate(api.prompt(request).tokens, default if answer is None else answer)


async def read(request: Request, max_bytes: int, refuses: bool) -> int | None:
    """Takes the body in; or its length, where that is over `max_bytes` and the body is left to
    stream past. One that is too long and did not say so raises BodyTooLarge if `refuses`; else
    it is left as well, at the least that it can have.
    """
    if isinstance(request.body, Stream):
        length = int(request.header(b"content-length") or 0)
        if length > max_bytes:
            return length
        try:
            await request.read(max_bytes)
        except BodyTooLarge:
            if refuses:
                raise
            return max_bytes + 1
    return None


class Meter:
    """Sees an answer pass, as its BodyFilter, and tells what the call has used."""

    observes = True

    def __init__(self, request: Request, expected: Estimate) -> None:
        self._request = request
        self._expected = expected
        self._response: Response | None = None
        self._failed = False
        self._events: EventReader | None = None
        self._count = 0
        self._last: list[bytes] = []
        self._size = 0
        self._pieces: list[bytes] | None = []

    def answered(self, response: Response) -> None:
        """The head is here."""
        self._response = response
        if response.status >= 400:
            return
        if not isinstance(response.body, Stream):
            self.feed(response.body)
            return
        kind = response.header(b"content-type") or b""
        if kind[:17].lower() == b"text/event-stream":
            self._events = EventReader()
            self._pieces = None
        response.filters.append(self)

    def feed(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._events is not None:
            try:
                events = self._events.feed(chunk)
            except EventTooLarge:
                self._events = None
                return chunk
            if events:
                self._count += len(events)
                self._last = (self._last + events)[-LAST_EVENTS:]
        elif self._pieces is not None:
            if self._size > MAX_ANSWER:
                self._pieces = None
            else:
                self._pieces.append(chunk)
        return chunk

    def end(self) -> bytes:
        return b""

    def used(self, outcome: Outcome) -> int:
        """Tokens, once the exchange has ended. A failed call has used none; of one that broke
        off, what was seen of it counts, and of one whose client left before the answer began,
        the prompt, which the model may have read.
        """
        response = self._response
        if response is None:
            return self._expected.prompt if outcome.cancelled else 0
        if response.status >= 400:
            return 0
        return self._told() or self._expected.prompt + self._seen()

    def _told(self) -> int:
        api = self._request.api
        if self._pieces is None:
            return api.stream_usage(self._last)
        try:
            return api.usage(orjson.loads(b"".join(self._pieces)))
        except orjson.JSONDecodeError:
            return 0

    def _seen(self) -> int:
        """An event is one token, as servers stream them; of JSON, four bytes, up to the bound."""
        if self._count:
            return self._count - self._request.api.ends_stream(self._last[-1])
        return min(self._expected.answer, -(-self._size // BYTES_PER_TOKEN))
