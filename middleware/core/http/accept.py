"""What a client accepts (RFC 9110 sections 12.4.2 and 12.5.1)."""

from __future__ import annotations

import re

from .fields import OWS, TOKEN, split

MAX_RANGES = 64
"""Members of an Accept that are looked at."""

_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_WEIGHT = re.compile(rb"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


class Accept:
    """Media ranges by their weight, in the order in which they came."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: dict[bytes, float]) -> None:
        self.ranges = ranges

    def weight(self, media_type: bytes) -> float:
        """Of a type in lower case, by the most specific range that takes it; 0: not acceptable."""
        found = self.ranges.get(media_type)
        if found is None:
            found = self.ranges.get(media_type.partition(b"/")[0] + b"/*")
        return self.ranges.get(b"*/*", 0.0) if found is None else found


ANYTHING = Accept({b"*/*": 1.0})


def parse_accept(value: bytes | None) -> Accept:
    """The lines of Accept, joined by commas; ANYTHING where there is none that can be read.

    Parameters other than `q` make no difference: `application/json; charset=utf-8` takes JSON. Of
    a range that stands twice the greater weight holds. Members beyond MAX_RANGES, and those with
    a weight that is none, are passed over.
    """
    if not value:
        return ANYTHING
    ranges: dict[bytes, float] = {}
    for member in split(value)[:MAX_RANGES]:
        if b'"' in member:
            member = _QUOTED.sub(b"", member)  # a semicolon in there divides nothing
        media_range, *parameters = (part.strip(OWS).lower() for part in member.split(b";"))
        main, _, sub = media_range.partition(b"/")
        if TOKEN.fullmatch(main) is None or TOKEN.fullmatch(sub) is None:
            continue
        weight = b"1"
        for parameter in parameters:
            if parameter.startswith(b"q="):
                weight = parameter[2:]
                break
        if _WEIGHT.fullmatch(weight) is not None:
            ranges[media_range] = max(float(weight), ranges.get(media_range, 0.0))
    return Accept(ranges) if ranges else ANYTHING
