"""Whether an event stream begins well, found out before its head leaves."""

from __future__ import annotations

import asyncio

from proxy.apis import Api
from proxy.exchange import Response

from ..core.sse import EventReader, EventTooLarge

MAX_LOOK = 64 * 1024
"""Bytes of a stream that are looked at for its first event: beyond, it passes unseen."""

_JSON = (b"{", b"[")


def is_event_stream(response: Response) -> bool:
    """Whether the body is server-sent events in clear."""
    body = response.body
    if isinstance(body, bytes) and body.startswith(_JSON):
        return False  # no field's name begins so; saves most answers the look at their head
    kind = response.header(b"content-type") or b""
    if not kind.lower().startswith(b"text/event-stream"):
        return False
    return (response.header(b"content-encoding") or b"identity").lower() == b"identity"


async def begins_well(response: Response, api: Api, patience: float) -> bool:
    """False: it ended before any event, or the first one tells of an error.

    Waits `patience` seconds at most for the first event, then lets the stream pass. What was
    read is put back: the stream is as it was. Raises what it broke off with before any event.
    """
    body = response.body
    reader = EventReader(MAX_LOOK)
    if isinstance(body, bytes):
        known = _well(reader, body[:MAX_LOOK], api)
        return known if known is not None else len(body) > MAX_LOOK
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(patience) as limit:
            while piece := await body.read():
                pieces.append(piece)
                known = _well(reader, piece, api)
                if known is not None:
                    return known
                size += len(piece)
                if size > MAX_LOOK:
                    return True
    except TimeoutError:
        if not limit.expired():
            raise
        return True
    finally:
        body.unread(b"".join(pieces))
    return False


def _well(reader: EventReader, piece: bytes, api: Api) -> bool | None:
    """What the first event says; None where it is not whole yet."""
    try:
        events = reader.feed(piece)
    except EventTooLarge:
        return True
    return not api.fails_stream(events[0]) if events else None
