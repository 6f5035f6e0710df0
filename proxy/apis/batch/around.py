"""What stands around the items in a body. Clients write it alike in request after request, so that
it is read once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from .asked import asked, besides

if TYPE_CHECKING:
    from ...exchange import Request

MAX_KNOWN = 8
"""Texts around items that are remembered of a kind of request; with one more all are forgotten."""

MAX_TEXT = 4096
"""Bytes of such a text; a longer one is read anew each time."""

_SPACE = b" \t\r\n"


class Around(NamedTuple):
    """head, tail: the body before the items and behind them. rest: its other members, whatever
    their order. told: what was to be found out of them.
    """

    head: bytes
    tail: bytes
    rest: Hashable
    told: Any


class Found(NamedTuple):
    """piece: what stands at the key, as written. value: the same, parsed."""

    around: Around
    piece: bytes
    value: Any


class Items:
    """One kind of request: an object with its items at `key`. look: gives what is to be known of
    the whole body, whatever the items are; raises Untold where it is not to be taken apart.
    """

    def __init__(self, key: str, look: Callable[[dict[str, Any]], Any] = lambda body: None) -> None:
        self._key = key
        self._look = look
        self._known: list[Around] = []

    def find(self, request: Request) -> Found:
        """Raises Untold, as `asked` does, and where there is nothing at the key."""
        raw = request.body
        if isinstance(raw, bytes):
            for around in self._known:
                if raw.startswith(around.head) and raw.endswith(around.tail):
                    found = _between(raw, around)
                    if found is not None:
                        return found
                    break
        return self._read(request)

    def _read(self, request: Request) -> Found:
        body = asked(request)
        at = body.at(self._key)
        raw, value = body.raw, body.parsed[self._key]
        told = self._look(body.parsed)
        around = Around(raw[: at.start], raw[at.end :], besides(body, at.key), told)
        self._remember(around)
        return Found(around, raw[at.start : at.end], value)

    def _remember(self, around: Around) -> None:
        if _size(around) > MAX_TEXT:
            return
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known.append(around)
        # A body that fits two has the members of the larger one; and only one is ever tried.
        self._known.sort(key=_size, reverse=True)


def _size(around: Around) -> int:
    return len(around.head) + len(around.tail)


def _between(raw: bytes, around: Around) -> Found | None:
    """What stands between them, if that is one JSON value: the whole is sound then, and says
    elsewhere what it said with another value there (RFC 8259 section 2; tests/bench: batching).
    """
    piece = raw[len(around.head) : len(raw) - len(around.tail)]
    if piece[:1] in _SPACE or piece[-1:] in _SPACE:  # also where there is nothing
        return None
    try:
        return Found(around, piece, orjson.loads(piece))
    except orjson.JSONDecodeError:
        return None
