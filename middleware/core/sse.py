"""Takes an event stream apart, as the WHATWG HTML standard says (section 9.2.6). No I/O."""

from __future__ import annotations

MAX_EVENT = 1024 * 1024
"""Bytes that an event's data, and any one line of a stream, may take."""

_BOM = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """An event, or one line of it, is over the bound. The reader is of no more use."""


class EventReader:
    """Feed it a stream's bytes, in any pieces; it gives the data of each event once it is whole.

    max_event: bytes, as MAX_EVENT.
    """

    __slots__ = ("_begun", "_data", "_max", "_partial", "_partial_size", "_size", "_skip_lf")

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max = max_event
        self._begun = False
        self._skip_lf = False
        self._partial: list[bytes] = []
        self._partial_size = 0
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Data of the events that `chunk` completes, the lines of each joined by LF.

        An event without a `data` field is none. Raises EventTooLarge.
        """
        if not chunk:
            return []
        if self._skip_lf and chunk[0] == 0x0A:
            chunk = chunk[1:]
        # A CR ends its line at once, so that an event need not wait for an LF that may follow.
        self._skip_lf = chunk[-1:] == b"\r"
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *lines = chunk.split(b"\n")
        self._partial.append(first)
        self._partial_size += len(first)
        self._check(self._partial_size)
        if not lines:
            return []
        rest = lines.pop()
        lines.insert(0, b"".join(self._partial))
        self._partial = [rest]
        self._partial_size = len(rest)
        events: list[bytes] = []
        for line in lines:
            self._line(line, events)
        self._check(self._partial_size)
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        self._check(len(line))
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data = []
                self._size = 0
            return
        # A line that begins with a colon is a comment: a field without a name.
        field, _, value = line.partition(b":")
        if field == b"data":
            value = value.removeprefix(b" ")
            self._size += len(value) + bool(self._data)
            self._data.append(value)

    def _check(self, line: int) -> None:
        if self._size > self._max or line > self._max:
            raise EventTooLarge(f"an event of the stream is over {self._max} bytes")
