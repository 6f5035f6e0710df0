"""A client's end of a socket: sends raw bytes, reads answers and believes nothing odd of them."""

from __future__ import annotations

import re
import select
import socket
from dataclasses import dataclass, field

PATIENCE = 5.0
"""Seconds to wait for what must come at once on loopback."""

Address = tuple[str, int]
Fields = list[tuple[bytes, bytes]]

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d) ([\t\x20-\x7e\x80-\xff]*)")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([\t\x20-\x7e\x80-\xff]*)")


class Malformed(AssertionError):
    """Remora wrote something that is no HTTP/1.1."""


@dataclass
class Answer:
    """One answer. whole: its body came to the end that its framing names."""

    status: int
    reason: bytes
    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    whole: bool = False

    def get(self, name: bytes) -> bytes | None:
        """First value of `name` (given in lower case), or None."""
        return next((value for key, value in self.fields if key.lower() == name), None)


def parse_fields(lines: list[bytes]) -> Fields:
    """Field lines, strictly. Raises Malformed."""
    fields = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Malformed(f"not a field line: {line[:200]!r}")
        fields.append((match[1], match[2]))
    return fields


def unchunk(data: bytes) -> tuple[bytes, Fields, bytes, bool]:
    """(body, trailers, rest, whole) of a chunked body as remora writes it: no extensions."""
    body = b""
    while True:
        line, mark, data = data.partition(b"\r\n")
        if not mark:
            return body, [], b"", False
        if not re.fullmatch(rb"[0-9a-fA-F]{1,16}", line):
            raise Malformed(f"not a chunk size: {line[:200]!r}")
        size = int(line, 16)
        if not size:
            break
        body += data[:size]
        if len(data) < size + 2:
            return body, [], b"", False
        if data[size : size + 2] != b"\r\n":
            raise Malformed(f"no CRLF behind a chunk: {data[size : size + 20]!r}")
        data = data[size + 2 :]
    lines = []
    while True:
        line, mark, data = data.partition(b"\r\n")
        if not mark:
            return body, [], b"", False
        if not line:
            return body, parse_fields(lines), data, True
        lines.append(line)


def parse_answers(data: bytes, methods: list[bytes], ended: bool) -> tuple[list[Answer], bytes]:
    """The final answers in `data`, in order, and what is left. 1xx are checked and dropped.

    methods: of the requests asked, for HEAD; GET where there are more answers. ended: the
    connection is closed. An answer whose body has not all come is the last, with whole False.
    """
    answers: list[Answer] = []
    while b"\r\n\r\n" in data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        match = _STATUS.fullmatch(first)
        if match is None:
            raise Malformed(f"not a status line: {first[:200]!r}")
        answer = Answer(int(match[1]), match[2], parse_fields(lines))
        if answer.status < 200:
            continue
        method = methods[len(answers)] if len(answers) < len(methods) else b"GET"
        answers.append(answer)
        length, coding = answer.get(b"content-length"), answer.get(b"transfer-encoding")
        if length is not None and coding is not None:
            raise Malformed("an answer with Content-Length and Transfer-Encoding")
        if method == b"HEAD" or answer.status in (204, 304):
            answer.whole = True
        elif coding is not None:
            answer.body, answer.trailers, data, answer.whole = unchunk(data)
        elif length is not None:
            size = int(length)
            answer.body, data = data[:size], data[size:]
            answer.whole = len(answer.body) == size
        else:
            answer.body, data, answer.whole = data, b"", ended
        if not answer.whole:
            break
    return answers, data


class Wire:
    """One connection to remora. Everything blocks, for at most PATIENCE."""

    def __init__(self, address: Address) -> None:
        self._socket = socket.create_connection(address, timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.ended = False
        """Remora closed the connection, in whatever way."""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """A peer that closes in the middle has refused: what it said is still to be read."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def end(self) -> None:
        """Sends no more; still reads."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def refused(self, after: int) -> bool:
        """An answer beyond `after` is here, or the end of the connection. Does not wait."""
        while not self.ended and select.select([self._socket], [], [], 0)[0]:
            self.read_some()
        return self.ended or len(parse_answers(self.received, [], False)[0]) > after

    def read_some(self) -> bool:
        """False at the end. Raises TimeoutError after PATIENCE."""
        try:
            data = self._socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        self.received += data
        self.ended = self.ended or not data
        return not self.ended

    def read_to_end(self, methods: list[bytes]) -> tuple[list[Answer], bytes]:
        """Every answer until remora closes. Raises TimeoutError when it does not."""
        while self.read_some():
            pass
        return parse_answers(self.received, methods, True)

    def read(self, count: int, methods: list[bytes]) -> tuple[list[Answer], bytes]:
        """Until `count` whole answers are here or the connection is closed."""
        while True:
            answers, rest = parse_answers(self.received, methods, self.ended)
            if self.ended or len([answer for answer in answers if answer.whole]) >= count:
                return answers, rest
            self.read_some()
