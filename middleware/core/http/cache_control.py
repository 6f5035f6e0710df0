"""Cache-Control, and what has its grammar (RFC 9111 section 5.2).

What is malformed is read in the way that reuses least: a number that is none counts as 0 seconds,
a list of fields that is none as no list.
"""

from __future__ import annotations

import re
from functools import lru_cache

from proxy.exchange import Headers

from .fields import OWS, TOKEN, split, values

MAX_SECONDS = 2**31
"""What a larger number of seconds is taken for (RFC 9111 section 1.2.2)."""

_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_MALFORMED = b""
_REMEMBERED_BYTES = 256


class Directives:
    """The directives of one message, by lower-case name. Immutable; shared between callers."""

    __slots__ = ("_arguments",)

    def __init__(self, arguments: dict[bytes, list[bytes | None]]) -> None:
        self._arguments = arguments

    def __contains__(self, name: bytes) -> bool:
        return name in self._arguments

    def argument(self, name: bytes) -> bytes | None:
        """What follows `=` where `name` first stands, unquoted; b"" where malformed, else None."""
        given = self._arguments.get(name)
        return given[0] if given else None

    def seconds(self, name: bytes) -> int:
        """The first argument as whole seconds, at most MAX_SECONDS; 0 where it is not a number.

        RFC 9111 section 4.2.1 lets the first of several count. 0, too, without the directive.
        """
        return delta_seconds(self.argument(name) or _MALFORMED) or 0

    def fields(self, name: bytes) -> frozenset[bytes]:
        """Lower-case field names that `no-cache` or `private` is limited to; empty: to none.

        One directive without a list outweighs those that have one.
        """
        found: set[bytes] = set()
        for argument in self._arguments.get(name, ()):
            names = [part.strip(OWS).lower() for part in (argument or _MALFORMED).split(b",")]
            if not all(TOKEN.fullmatch(one) for one in names):
                return frozenset()
            found.update(names)
        return frozenset(found)

    def unqualified(self, name: bytes) -> bool:
        """Whether `name` is there and holds for the whole message."""
        return name in self._arguments and not self.fields(name)


NONE = Directives({})


def delta_seconds(value: bytes) -> int | None:
    """Whole seconds, at most MAX_SECONDS; None where it is no delta-seconds (section 1.2.2)."""
    if not value.isdigit():
        return None
    digits = value.lstrip(b"0")
    return MAX_SECONDS if len(digits) > 10 else min(int(digits or b"0"), MAX_SECONDS)


def parse(headers: Headers, name: bytes = b"cache-control") -> Directives:
    """The directives of every line of `name` (given in lower case). Never raises."""
    lines = tuple(values(headers, name))
    if not lines:
        return NONE
    # A hit reads this field twice, and few values are in use: (tests/bench: hit).
    if sum(map(len, lines)) <= _REMEMBERED_BYTES:
        return _remembered(lines)
    return _parse(lines)


def _parse(lines: tuple[bytes, ...]) -> Directives:
    arguments: dict[bytes, list[bytes | None]] = {}
    for line in lines:
        for member in split(line):
            name, argument = _directive(member)
            if name:
                arguments.setdefault(name, []).append(argument)
    return Directives(arguments)


_remembered = lru_cache(maxsize=512)(_parse)


def _directive(member: bytes) -> tuple[bytes, bytes | None]:
    found = TOKEN.match(member)
    if found is None:
        return b"", None
    name, rest = found.group().lower(), member[found.end() :]
    if not rest:
        return name, None
    argument = rest[1:]
    if rest[:1] != b"=":
        # `no-store; x` and `max-age =1`: the name still forbids, the rest gives nothing.
        return name, _MALFORMED
    if argument[:1] == b'"':
        closed = len(argument) > 1 and argument[-1:] == b'"'
        return name, _ESCAPED.sub(rb"\1", argument[1:-1]) if closed else _MALFORMED
    return name, argument if TOKEN.fullmatch(argument) else _MALFORMED
