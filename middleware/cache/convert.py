"""A stream out of a stored answer, and an answer out of a stored stream."""

from __future__ import annotations

from dataclasses import replace

import orjson

from proxy.exchange import Headers, Request

from ..core.entry import Entry
from ..core.sse import EventReader, EventTooLarge

_OF_THE_FORM = frozenset((b"content-type", b"content-length", b"etag", b"cache-control"))


def converted(request: Request, streams: bool, entry: Entry) -> Entry | None:
    """`entry`, of the other form, as the form that `request` asks for. None: it cannot be told."""
    return _to_stream(request, entry) if streams else _to_answer(request, entry)


def _to_stream(request: Request, entry: Entry) -> Entry | None:
    try:
        answer = orjson.loads(entry.body)
    except orjson.JSONDecodeError:
        return None
    events = request.api.to_stream(request, answer)
    if events is None:
        return None
    return replace(
        entry,
        headers=_headers(entry, b"text/event-stream"),
        body=b"".join(events),
        pieces=tuple(map(len, events)),
    )


def _to_answer(request: Request, entry: Entry) -> Entry | None:
    try:
        events = EventReader().feed(entry.body)
    except EventTooLarge:
        return None
    answer = request.api.to_answer(request, events)
    if answer is None:
        return None
    return replace(
        entry,
        headers=_headers(entry, b"application/json"),
        body=orjson.dumps(answer),
        pieces=(),
    )


def _headers(entry: Entry, content_type: bytes) -> Headers:
    kept = [pair for pair in entry.headers if pair[0].lower() not in _OF_THE_FORM]
    return [*kept, (b"content-type", content_type)]
