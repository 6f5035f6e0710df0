"""Which content coding a client would like best (RFC 9110 section 12.5.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from proxy.exchange import Headers

from .fields import OWS

MAX_CODINGS = 32
"""Members of an Accept-Encoding that are looked at."""

_WEIGHT = re.compile(rb"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def preferred(offered: Sequence[bytes], headers: Headers) -> bytes | None:
    """The offered coding of the greatest weight, the first of those that have it; None for the
    body as it is: where the client asks for nothing, or likes `identity` better.
    """
    weights: dict[bytes, float] = {}
    for name, value in headers:
        if len(name) == 15 and name.lower() == b"accept-encoding":
            for member in value.split(b",")[:MAX_CODINGS]:
                coding, _, parameter = member.partition(b";")
                coding = coding.strip(OWS).lower().removeprefix(b"x-")
                parameter = parameter.strip(OWS).lower()
                written = parameter[2:] if parameter.startswith(b"q=") else b"1"
                if _WEIGHT.fullmatch(written) is not None:
                    weights.setdefault(coding, float(written))
    if not weights:
        return None
    rest = weights.get(b"*", 0.0)
    best, most = None, weights.get(b"identity", 0.0)
    for coding in offered:
        weight = weights.get(coding, rest)
        if weight > most or (weight == most > 0 and best is None):
            best, most = coding, weight
    return best
