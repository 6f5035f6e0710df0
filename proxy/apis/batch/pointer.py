"""JSON Pointers (RFC 6901) into a JSON text."""

from __future__ import annotations

import re

from ..shape import Untold
from .scan import begin, member, members, spans

MAX_STEPS = 16
"""Reference tokens of a pointer."""

Pointer = tuple[bytes, ...]
"""The reference tokens, unescaped, as UTF-8."""

_INDEX = re.compile(rb"0|[1-9][0-9]{0,8}")


def pointer(text: str) -> Pointer:
    """Raises ValueError for what is no pointer, or has more than MAX_STEPS tokens."""
    if text and not text.startswith("/"):
        raise ValueError("a JSON Pointer begins with `/` (RFC 6901)")
    if re.search(r"~(?![01])", text):
        raise ValueError("in a JSON Pointer `~` is written `~0`, and `/` in a key `~1` (RFC 6901)")
    steps = text.split("/")[1:]
    if len(steps) > MAX_STEPS:
        raise ValueError(f"a JSON Pointer of at most {MAX_STEPS} steps is expected")
    return tuple(step.replace("~1", "/").replace("~0", "~").encode() for step in steps)


def find(raw: bytes, to: Pointer) -> int:
    """Where the value begins. Raises Untold where there is none, or a key on the way is ambiguous.

    A key that is written with escapes is ambiguous, too.
    """
    at = begin(raw)
    for step in to:
        if raw[at : at + 1] == b"{":
            found = member(members(raw, at)[0], step)
            if found is None:
                raise Untold
            at = found.start
        elif raw[at : at + 1] == b"[" and _INDEX.fullmatch(step):
            listed, _ = spans(raw, at)
            if int(step) >= len(listed):
                raise Untold
            at = listed[int(step)][0]
        else:
            raise Untold
    return at
