"""What one row of the table is, and the short ways to write one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NEVER = b"GET /never HTTP/1.1\r\nHost: h\r\n\r\n"
"""Written after hostile bytes; no upstream may ever see it."""


@dataclass(frozen=True)
class Seen:
    """One request as the upstream must get it.

    start: method and target. fields: whole lines, in order, without those that frame the body.
    """

    start: bytes
    fields: tuple[bytes, ...] = ()
    body: bytes = b""
    trailers: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Case:
    """Raw bytes of a client, the RFC section that they are about, and what must come of them.

    kind "refused": one answer of `status`, then the connection is closed; `sees` alone went
    upstream. kind "cut": as refused, or the connection is closed without an answer, and the
    upstream may have seen a head but never a whole request. kind "passed": the upstream gets
    exactly `sees`, the client one 200 for each.
    """

    name: str
    section: str
    raw: bytes
    kind: Literal["refused", "cut", "passed"]
    status: tuple[int, ...] = (400,)
    sees: tuple[Seen, ...] = ()
    eof: bool = False
    """The client ends its side after the bytes."""
    closes: bool = False
    """A passed exchange after which remora must close."""


def refused(name: str, section: str, raw: bytes, *status: int, sees: tuple[Seen, ...] = ()) -> Case:
    """Hostile in its head: answered by remora itself, 400 unless another status is named."""
    return Case(name, section, raw, "refused", status or (400,), sees)


def cut(name: str, section: str, raw: bytes, *, eof: bool = False) -> Case:
    """Hostile in its body: the head may have gone upstream, a whole request never."""
    return Case(name, section, raw, "cut", (400, 408, 413, 431), eof=eof)


def passed(name: str, section: str, raw: bytes, *sees: Seen, closes: bool = False) -> Case:
    """Odd or plain, but right: goes through, byte for byte."""
    return Case(name, section, raw, "passed", (200,), sees, closes=closes)


def seen(start: bytes, fields: bytes = b"", body: bytes = b"", trailers: bytes = b"") -> Seen:
    """`fields` and `trailers` as they stand on the wire, CRLF between lines."""
    return Seen(
        start,
        tuple(fields.split(b"\r\n")) if fields else (),
        body,
        tuple(trailers.split(b"\r\n")) if trailers else (),
    )


def get(fields: bytes = b"Host: h\r\n", target: bytes = b"/x", version: bytes = b"1.1") -> bytes:
    """A GET with exactly these field lines, each ended by its own CRLF."""
    return b"GET " + target + b" HTTP/" + version + b"\r\n" + fields + b"\r\n"


def post(fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    """A POST to /x with a Host, these field lines, and these body bytes."""
    return b"POST /x HTTP/" + version + b"\r\nHost: h\r\n" + fields + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    """A POST to /x, announced as chunked."""
    return post(b"Transfer-Encoding: chunked\r\n", body)
