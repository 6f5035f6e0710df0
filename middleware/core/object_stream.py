"""Server-sent events as MessagePack objects, one each, and back. No I/O.

An event whose data is JSON is the object that it says. `[DONE]` is that text. Data that is no JSON,
or that MessagePack cannot say, is binary: its own bytes. An event with an `id`, or with an `event`
name that its data does not repeat as `type`, is an extension of type EVENT whose payload is
[name or nil, id or nil, object].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack

from .documents import Unsayable, read_json, read_msgpack, write_json, write_msgpack
from .sse import MAX_EVENT, EventReader, EventTooLarge

EVENT = 69
"""The extension type: "E"."""

_BOM = b"\xef\xbb\xbf"
_DONE = b"[DONE]"


class Event(NamedTuple):
    """name and id: as the event's own fields have them, empty where it has none."""

    name: bytes
    id: bytes
    data: bytes


class EventFieldReader:
    """Like EventReader, and with each event's name and id. A `retry` and comments are dropped."""

    __slots__ = ("_fields", "_reader")

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._reader = _Reader(max_event)

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes. Raises EventTooLarge."""
        data = self._reader.feed(chunk)
        names, self._reader.names = self._reader.names, []
        return [Event(*name, one) for name, one in zip(names, data, strict=True)]


class _Reader(EventReader):
    __slots__ = ("_id", "_name", "names")

    def __init__(self, max_event: int) -> None:
        super().__init__(max_event)
        self._name = self._id = b""
        self.names: list[tuple[bytes, bytes]] = []

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                self.names.append((self._name, self._id))
            self._name = self._id = b""
        else:
            field, _, value = (line if self._begun else line.removeprefix(_BOM)).partition(b":")
            if field == b"event":
                self._name = value.removeprefix(b" ")
            elif field == b"id" and b"\0" not in value:
                self._id = value.removeprefix(b" ")
        super()._line(line, events)


def to_object(event: Event, pack: Callable[[bytes, Any], Any] | None = None) -> bytes:
    """One MessagePack object. pack: what is done to data that is JSON, given its text and value."""
    value: Any
    name = event.name
    if event.data == _DONE:
        value = "[DONE]"
    else:
        try:
            value = read_json(event.data)
        except Unsayable:
            value = event.data
        else:
            if name and isinstance(value, dict) and value.get("type") == _text(name):
                name = b""
            if pack is not None:
                value = pack(event.data, value)
    if name or event.id:
        named = [_text(name) or None, _text(event.id) or None, value]
        value = msgpack.ExtType(EVENT, write_msgpack(named))
    return write_msgpack(value)


def to_event(packed: bytes, most: int) -> bytes:
    """One whole event, blank line included, of one MessagePack object. most: as `read_msgpack`.

    Raises Unsayable.
    """
    value = read_msgpack(packed, most, extensions=True)
    fields = b""
    if isinstance(value, msgpack.ExtType) and value.code == EVENT:
        # Its data may be binary, which `_data` writes, and no extension again.
        named = read_msgpack(value.data, most)
        if not isinstance(named, list) or len(named) != 3:
            raise Unsayable("an event that is no list of three")
        for field, text in zip((b"event", b"id"), named, strict=False):
            if text is not None:
                fields += b"%b: %b\n" % (field, _one_line(text))
        value = named[2]
    return fields + _data(value) + b"\n"


class ObjectReader:
    """Feed it a stream of MessagePack objects, in any pieces; it gives each one's own bytes.

    max_object: bytes that one may take. Raises Unsayable and EventTooLarge.
    """

    __slots__ = ("_held", "_max", "_start", "_walker")

    def __init__(self, max_object: int = MAX_EVENT) -> None:
        self._max = max_object
        self._held = bytearray()
        self._start = 0  # of `_held`, in the stream
        self._walker = msgpack.Unpacker(max_buffer_size=0)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The objects that `chunk` completes."""
        self._held += chunk
        self._walker.feed(chunk)
        found: list[bytes] = []
        at = 0
        while True:
            try:
                self._walker.skip()
            except msgpack.OutOfData:
                break
            except ValueError:
                raise Unsayable("no MessagePack") from None
            end = self._walker.tell() - self._start
            self._check(end - at)
            found.append(bytes(self._held[at:end]))
            at = end
        del self._held[:at]
        self._start += at
        self._check(len(self._held))
        return found

    @property
    def between(self) -> bool:
        """No object has begun that is not whole."""
        return not self._held

    def _check(self, size: int) -> None:
        if size > self._max:
            raise EventTooLarge(f"an object of the stream is over {self._max} bytes")


def _data(value: Any) -> bytes:
    if isinstance(value, bytes):
        data = value.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    else:
        data = _DONE if value == "[DONE]" else write_json(value)
    return b"".join([b"data: %b\n" % line for line in data.split(b"\n")])


def _text(field: bytes) -> str:
    # As the standard reads an event stream: what is not UTF-8 is replaced.
    return field.decode(errors="replace")


def _one_line(text: Any) -> bytes:
    if not isinstance(text, str) or any(sign in text for sign in "\r\n\0"):
        raise Unsayable("an event's name that is no line of text")
    return text.encode()
