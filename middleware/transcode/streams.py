"""The BodyFilters of `transcode`: each event leaves the moment it is whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.documents import Unsayable
from ..core.object_stream import EventFieldReader, ObjectReader, to_event, to_object
from ..core.sse import EventTooLarge
from .errors import AnswerNotConvertible


class EventsToObjects:
    """Server-sent events become MessagePack objects. pack: as `to_object` has it."""

    def __init__(self, pack: Callable[[bytes, Any], Any] | None) -> None:
        self._pack = pack
        self._reader = EventFieldReader()

    def feed(self, chunk: bytes) -> bytes:
        try:
            events = self._reader.feed(chunk)
        except EventTooLarge as error:
            raise AnswerNotConvertible(str(error)) from None
        return b"".join([to_object(event, self._pack) for event in events])

    def end(self) -> bytes:
        """An event without its blank line is none, as the standard has it."""
        return b""


class ObjectsToEvents:
    """MessagePack objects become server-sent events. most: as `read_msgpack` has it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._reader = ObjectReader()

    def feed(self, chunk: bytes) -> bytes:
        try:
            return b"".join([to_event(one, self._most) for one in self._reader.feed(chunk)])
        except (Unsayable, EventTooLarge) as error:
            raise AnswerNotConvertible(f"the stream cannot be told as events: {error}") from None

    def end(self) -> bytes:
        if not self._reader.between:
            raise AnswerNotConvertible("the stream ends within an object")
        return b""
