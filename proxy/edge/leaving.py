"""Whether a client has left that sends more than is read of it."""

from __future__ import annotations

import select
import sys


def has_left(fd: int) -> bool:
    """Whether the peer of a socket has closed or reset it, also where bytes before that end are
    unread and the loop waits for none. Told by Linux's POLLRDHUP; elsewhere False: not known.
    """
    if sys.platform != "linux":
        return False
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    return bool(poll.poll(0))
