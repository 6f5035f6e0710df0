"""What the head of an upstream's answer says, checked (RFC 9112 section 6)."""

from __future__ import annotations

import re

from ..exchange import Headers, Request, Response
from ..headers import Kind, connection_options, kind_of, without

_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_CONTENT_LENGTH = int(Kind.CONTENT_LENGTH)
_TRANSFER_ENCODING = int(Kind.TRANSFER_ENCODING)
_CONNECTION = int(Kind.CONNECTION)
_UPGRADE = int(Kind.UPGRADE)
_HOP = int(Kind.HOP)


class Unframed(Exception):
    """What the upstream sent leaves in doubt where its answer ends; the message says what it is."""


NO_BODY, FIXED, CHUNKED, UNTIL_CLOSE = range(4)
"""How the body of an answer ends (RFC 9112 section 6.3)."""


def read_head(
    request: Request, status: int, reason: bytes, fields: Headers, *, http10: bool = False
) -> tuple[Response, int, bool]:
    """(the answer without its body, how its body ends, whether it says `Connection: close`).

    Raises Unframed.
    """
    headers: Headers = []
    connection: list[bytes] = []
    length: bytes | None = None
    chunked = False
    for pair in fields:
        if pair[1][-1:] in (b" ", b"\t"):
            pair = (pair[0], pair[1].rstrip(b" \t"))
        kind = kind_of(pair[0])
        if kind == 0:
            headers.append(pair)
        elif kind == _CONTENT_LENGTH:
            if length is not None or not _LENGTH.fullmatch(pair[1]):
                raise Unframed("a malformed Content-Length")
            length = pair[1]
            headers.append(pair)
        elif kind == _TRANSFER_ENCODING:
            # RFC 9112 section 6.1: an HTTP/1.0 message with it has faulty framing.
            if chunked or http10 or pair[1].lower() != b"chunked":
                raise Unframed("a Transfer-Encoding not chunked")
            chunked = True
        elif kind == _CONNECTION:
            connection.append(pair[1])
        elif kind == _UPGRADE:
            if status == 426:
                # RFC 9110 section 15.5.22: this answer has to name the protocol that it asks for.
                headers += [pair, (b"Connection", b"Upgrade")]
        elif kind != _HOP:
            headers.append(pair)
    if chunked and length is not None:
        raise Unframed("Content-Length beside Transfer-Encoding")
    close = False
    if connection:
        options = connection_options(connection)
        close = b"close" in options
        if named := options - {b"close", b"keep-alive", b"upgrade", b""}:
            headers = without(headers, named)
    if request.method == b"HEAD" or status == 204 or status == 304:
        ending = NO_BODY
    elif chunked:
        ending = CHUNKED
    else:
        ending = UNTIL_CLOSE if length is None else FIXED
    return Response(status, headers, b"", reason), ending, close
