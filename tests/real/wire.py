"""One HTTP/1.1 exchange over a plain socket: what a client library would tidy up is kept."""

from __future__ import annotations

import socket
from dataclasses import dataclass

# These belong to one connection (RFC 9110 section 7.6.1, RFC 9112 section 6.1), and Date to the
# moment of the answer.
OF_THE_HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"date"}


@dataclass(frozen=True)
class Answer:
    """headers: the end-to-end ones as they came, spaces after the colon too. body: unframed."""

    status_line: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.status_line.split(b" ", 2)[1])

    def header(self, name: bytes) -> bytes | None:
        """First value of `name`, which is given in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), None)


def request(
    method: str,
    target: str,
    body: bytes = b"",
    headers: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """The bytes of a request on a connection that is closed after it."""
    lines = [f"{method} {target} HTTP/1.1", "Host: model.test", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def exchange(port: int, sent: bytes) -> Answer:
    """Send `sent` to a loopback port and read until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        received = bytearray()
        while piece := connection.recv(65536):
            received += piece
    head, _, rest = bytes(received).partition(b"\r\n\r\n")
    status_line, *lines = head.split(b"\r\n")
    fields = [_field(line) for line in lines]
    chunked = any(name.lower() == b"transfer-encoding" for name, _ in fields)
    return Answer(
        status_line,
        tuple(pair for pair in fields if pair[0].lower() not in OF_THE_HOP),
        _unchunk(rest) if chunked else rest,
    )


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value


def _unchunk(framed: bytes) -> bytes:
    body = bytearray()
    while True:
        size_line, _, framed = framed.partition(b"\r\n")
        size = int(size_line.split(b";")[0], 16)
        if size == 0:
            return bytes(body)
        assert framed[size : size + 2] == b"\r\n", "a chunk that does not end where it says"
        body += framed[:size]
        framed = framed[size + 2 :]
