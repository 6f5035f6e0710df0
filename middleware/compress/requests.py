"""Request bodies in clear, for a server that reads no Content-Encoding."""

from __future__ import annotations

import asyncio

from proxy.errors import ProxyError
from proxy.exchange import Request

from .codings import CODINGS, Malformed, TooLarge, expand, installed

FREE = 1024 * 1024
"""Bytes that a body may hold whatever its ratio: JSON of one repeated word is no attack."""
AT_ONCE = 16 * 1024
"""Bytes of a compressed body that are expanded on the event loop; more goes to a thread."""


_OF_THE_BYTES = frozenset(
    (b"content-encoding", b"content-digest", b"content-md5", b"digest", b"repr-digest")
)


class UnsupportedCoding(ProxyError):
    """A Content-Encoding that nobody here can undo (RFC 9110 sections 12.5.3 and 15.5.16)."""

    status = 415
    code = "unsupported_content_encoding"


class MalformedBody(ProxyError):
    """The body is not what its Content-Encoding says."""

    status = 400
    code = "malformed_body"


class ExpandedTooLarge(ProxyError):
    """The body holds more than `max_request`, or grew more than `max_ratio` times."""

    status = 413
    code = "body_too_large"


async def in_clear(request: Request, most: int, ratio: int) -> None:
    """Puts what the body holds in its place. Raises ProxyError of 400, 413 or 415."""
    codings = [
        one.strip(b" \t").lower()
        for name, value in request.headers
        if name.lower() == b"content-encoding"
        for one in value.split(b",")
    ]
    codings = [one for one in codings if one and one != b"identity"]
    if codings:
        coding = codings[0].decode("latin-1").removeprefix("x-")
        if len(codings) > 1 or coding not in CODINGS or not installed(coding):
            known = ", ".join(one for one in CODINGS if installed(one))
            raise UnsupportedCoding(
                f"one Content-Encoding of {known} is expected",
                headers=[(b"accept-encoding", known.encode())],
            )
        body = await request.read(most)
        bound = min(most, max(FREE, len(body) * ratio))
        try:
            if len(body) <= AT_ONCE:
                body = expand(coding, body, bound)
            else:
                body = await asyncio.to_thread(expand, coding, body, bound)
        except Malformed as error:
            raise MalformedBody(str(error)) from None
        except TooLarge:
            raise ExpandedTooLarge(f"the body holds more than {bound} bytes") from None
        request.rewrite(body)
    gone = _OF_THE_BYTES if codings else (b"content-encoding",)
    request.headers = [pair for pair in request.headers if pair[0].lower() not in gone]
