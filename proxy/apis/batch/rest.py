"""What is left of an answer when its items are out, and the heads of calls and answers.

A body is kept as it was, with a mark where something stood that differs from client to client. A
mark is a control character that no JSON text may hold (RFC 8259 section 7), so none is ever met
by chance; a body that has one is no JSON and is not taken apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...exchange import Headers, Response
from ..shape import Untold

if TYPE_CHECKING:
    from ...exchange import Request

ITEMS = b"\0"
"""In a body: where the items stood. In an item's own piece: where its place in the list stood."""

ID = b"\x0e"
"""The end of the id that the server gave to the call."""

MAX_KINDS = 8
"""Numbers of an answer's `usage` that are shared out; an answer with more is not taken apart."""

TOKENS = tuple(bytes((mark,)) for mark in range(1, MAX_KINDS + 1))
"""Where the numbers of `usage` stood, in their order."""

_MARKS = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f]")

# Of the body that was taken apart, or meant for one client of several.
_NOT_KEPT = frozenset(
    {b"content-length", b"etag", b"content-md5", b"digest", b"content-digest", b"repr-digest"}
    | {b"set-cookie"}
)

Edit = tuple[int, int, bytes]
"""Begin, end, and what stands there instead."""


def retold(raw: bytes, edits: Iterable[Edit]) -> bytes:
    """The text with all of these done; none may overlap another."""
    pieces: list[bytes] = []
    done = 0
    for start, end, new in sorted(edits):
        pieces += (raw[done:start], new)
        done = end
    pieces.append(raw[done:])
    return b"".join(pieces)


def rest_of(raw: bytes, edits: Iterable[Edit]) -> bytes:
    """The text with marks for edits. Raises Untold where it holds a mark already."""
    pieces: list[bytes] = []
    done = 0
    for start, end, new in sorted(edits):
        kept = raw[done:start]
        if _MARKS.search(kept):
            raise Untold
        pieces += (kept, new)
        done = end
    if _MARKS.search(raw, done):
        raise Untold
    pieces.append(raw[done:])
    return b"".join(pieces)


def body_to_split(response: Response) -> bytes:
    """The body of an answer that may be taken apart. Raises Untold."""
    body = response.body
    if not 200 <= response.status < 300 or not isinstance(body, bytes):
        raise Untold
    coding = response.header(b"content-encoding")
    if coding is not None and _is_coded(coding):
        raise Untold
    return body


def _is_coded(coding: bytes) -> bool:
    return coding.strip().lower() != b"identity"


def kept(response: Response, body: bytes) -> Response:
    """The same head for a part of the answer, or for another client's."""
    headers = [pair for pair in response.headers if pair[0].lower() not in _NOT_KEPT]
    return Response(response.status, headers, body, response.reason)


def call_headers(request: Request, *but: bytes) -> Headers:
    """A request's own for a call, less `but`. A compressed answer could not be taken apart."""
    left_out = {b"content-length", b"accept-encoding", *but}
    headers = [pair for pair in request.headers if pair[0].lower() not in left_out]
    headers.append((b"Accept-Encoding", b"identity"))
    return headers


def reading(request: Request) -> tuple[bytes, bytes]:
    """What the headers say of how to read the body, and which form of an answer is wanted.

    Raises Untold for a body that is compressed.
    """
    kind = accept = b""
    for name, value in request.headers:
        # One look at each, by its length first: this is done for every request.
        size = len(name)
        if size == 6 and name.lower() == b"accept":
            accept = value
        elif size == 12 and name.lower() == b"content-type":
            kind = value.lower()
        elif size == 16 and name.lower() == b"content-encoding" and _is_coded(value):
            raise Untold
    if accept not in _ANY and any(part.strip().lower() in _ANY for part in accept.split(b",")):
        accept = b""
    return kind, b"" if accept in _ANY else accept


_ANY = (b"*/*", b"application/json", b"application/*")
