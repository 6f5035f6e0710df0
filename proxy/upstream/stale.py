"""The keep-alive race: a kept connection that dies before one byte of an answer.

The endpoint closed it while our request was on the way, so the request goes on a fresh one, once
(knative/serving#12414), where the endpoint cannot have read it or may read it twice.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios

from ..errors import UpstreamClosed
from ..exchange import IDEMPOTENT, Request


class StaleConnection(UpstreamClosed):
    """`sent`: or the endpoint read the request, and died of it."""


def unseen(transport: asyncio.Transport) -> bool:
    """Whether the endpoint closed before the last of what was written came. To be asked in
    `eof_received`.

    What closes a TCP connection acknowledges all that came before it (RFC 9293 section 3.6): bytes
    that still wait for that came too late. Told by Linux (tcp(7), SIOCOUTQ); elsewhere, and of a
    unix socket, False: not known.
    """
    if sys.platform != "linux":
        return False
    socket = transport.get_extra_info("socket")
    try:
        waiting = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):
        return False
    return waiting != bytes(4)


def may_repeat(request: Request) -> bool:
    """Whether an endpoint may read it twice. Of a body that streams past nothing is known."""
    if request.method in IDEMPOTENT:
        return True
    return isinstance(request.body, bytes) and request.api.repeatable(request)
