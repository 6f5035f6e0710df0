"""Field lines and comma-separated lists (RFC 9110 sections 5.3 and 5.6.1)."""

from __future__ import annotations

import re

from proxy.exchange import Headers

OWS = b" \t"
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110 section 5.6.2."""

_MARK = re.compile(rb'[",]')
_MARK_OR_ESCAPE = re.compile(rb'[",\\]')


def values(headers: Headers, name: bytes) -> list[bytes]:
    """The values of every line of `name` (given in lower case), in order."""
    size = len(name)
    return [value for key, value in headers if len(key) == size and key.lower() == name]


def split(line: bytes, escapes: bool = True) -> list[bytes]:
    """The members of one line, trimmed, without empty ones. A comma within quotes divides nothing.

    escapes: a backslash within quotes escapes, as in a quoted-string; an entity-tag has none.
    A quote that never closes is no quote: what follows it must not be hidden.
    """
    if b'"' in line:
        parts = _split_quoted(line, _MARK_OR_ESCAPE if escapes else _MARK)
    else:
        parts = line.split(b",")
    return [member for part in parts if (member := part.strip(OWS))]


def _split_quoted(line: bytes, marks: re.Pattern[bytes]) -> list[bytes]:
    parts: list[bytes] = []
    start = at = 0
    quoted = False
    while (mark := marks.search(line, at)) is not None:
        at = mark.end()
        sign = mark.group()
        if sign == b'"':
            quoted = not quoted
        elif quoted:
            at += sign == b"\\"
        elif sign == b",":
            parts.append(line[start : mark.start()])
            start = at
    if quoted:
        parts.extend(line[start:].split(b","))
    else:
        parts.append(line[start:])
    return parts


def members(headers: Headers, name: bytes, escapes: bool = True) -> list[bytes]:
    """The members of every line of `name` (given in lower case).

    Each line is read on its own, so that a quote left open in one hides nothing in the next.
    """
    return [member for line in values(headers, name) for member in split(line, escapes)]
