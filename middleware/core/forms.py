"""The forms that a document may have, by media type."""

from __future__ import annotations

from typing import Literal

Form = Literal["json", "msgpack"]

JSON_TYPE = b"application/json"
EVENT_STREAM = b"text/event-stream"
MSGPACK_TYPES = (b"application/msgpack", b"application/x-msgpack", b"application/vnd.msgpack")


def essence(content_type: bytes | None) -> bytes:
    """The type without its parameters, in lower case; empty where there is none."""
    return content_type.partition(b";")[0].strip(b" \t").lower() if content_type else b""


def form_of(media_type: bytes) -> Form | None:
    """The form that an essence names; None: neither (an event stream is a stream of JSON)."""
    if media_type == JSON_TYPE or media_type == b"text/json" or media_type.endswith(b"+json"):
        return "json"
    return "msgpack" if media_type in MSGPACK_TYPES else None
