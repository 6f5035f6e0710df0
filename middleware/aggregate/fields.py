"""Which header fields keep requests apart, and which a shared call and its answers carry."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from proxy.exchange import Headers, Request

from ..core.key import CREDENTIALS
from ..core.trace import TRACE

PLACE = frozenset(
    (b"x-forwarded-for", b"forwarded", b"x-real-ip", b"x-client-ip", b"true-client-ip",
     b"cf-connecting-ip", b"x-envoy-external-address")
)  # fmt: skip
"""They say where one client is: a shared call carries none."""

_NEVER_APART = TRACE | PLACE | {
    # The API says by itself what of these counts, and frames the body anew.
    b"content-length", b"content-type", b"accept", b"accept-encoding",
    b"inference-header-content-length", b"user-agent", b"date",
}  # fmt: skip

_SDK = b"x-stainless-"
"""What OpenAI's and Anthropic's clients tell of the machine they run on, of retries and time."""

MAX_NAMES = 1024
"""Names of fields, as clients spell them, of which it is remembered whether they matter."""


def apart(
    across: bool, ignore: Iterable[bytes]
) -> Callable[[Headers], tuple[tuple[bytes, bytes], ...]]:
    """A function that gives the fields by which requests are kept apart, in their order.

    across: whose credential it is makes no difference.
    """
    never = _NEVER_APART | set(ignore)
    if across:
        never |= CREDENTIALS
    known: dict[bytes, bytes] = {}

    def low(name: bytes) -> bytes:
        """In lower case; nothing where the field keeps nobody apart."""
        lowered = name.lower()
        if lowered in never or lowered.startswith(_SDK):
            lowered = b""
        if len(known) < MAX_NAMES:
            known[name] = lowered
        return lowered

    def fields(headers: Headers) -> tuple[tuple[bytes, bytes], ...]:
        # One look-up for each field that was seen before: bench `aggregate` pays for the table.
        found = []
        for name, value in headers:
            lowered = known.get(name)
            if lowered is None:
                lowered = low(name)
            if lowered:
                found.append((lowered, value))
        return tuple(found)

    return fields


def tenant_of(request: Request, headers: Iterable[tuple[bytes, bytes]]) -> Hashable:
    """Among whom turns are taken: the tenant that `auth` found, else who has the credential.

    headers: those of the request that have its credential.
    """
    if request.tenant is not None:
        return request.tenant
    found = [pair for pair in headers if pair[0].lower() in CREDENTIALS]
    return tuple(found) if found else None


def shared(headers: Headers) -> Headers:
    """Of a call's fields those of a call for several."""
    return [pair for pair in headers if pair[0].lower() not in PLACE]


_NOT_OF_ALL = TRACE | {b"set-cookie", b"content-length"}


def common(headers: Headers) -> Headers:
    """Of an answer's fields those that concern each of the call's clients."""
    return [pair for pair in headers if pair[0].lower() not in _NOT_OF_ALL]


def own(request: Request) -> Headers:
    """The client's own x-request-id, for an answer that told the shared call's."""
    mine = request.header(b"x-request-id")
    return [] if mine is None else [(b"x-request-id", mine)]


def patience_of(request: Request, name: bytes) -> float | None:
    """Seconds that the client gives its request from the beginning; None where it says nothing."""
    value = request.header(name)
    if value is None or len(value) > 20:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    if not 0 <= number < 1e9:
        return None
    return number / 1000 if name.endswith(b"-ms") else number
