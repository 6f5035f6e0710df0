"""What makes two requests the same: the key of a stored answer."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from proxy.exchange import Headers, Request

KEY_BYTES = 32

_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"')
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
# orjson reads an integer beyond 64 bits as a float: two of them could become one.
_LONG_NUMBER = re.compile(rb"\d{18}")
_NO_DIGITS = re.compile(rb"(?<!\d)0\.0+")  # of a small fraction: they only say where it begins
_DIGITS_AS_0 = bytes(0x30 if 0x30 <= byte <= 0x39 else byte for byte in range(256))
_LONG = b"0" * 18
_COLON_ESCAPED = b"\\u003"


class NotCanonical(ValueError):
    """The body has no one meaning (two members of one name, NaN, a lone surrogate): not cached."""


def canonical(body: bytes, ignore: Sequence[Sequence[str]] = ()) -> bytes:
    """`body` as JSON with sorted members and no white space; every other difference counts.

    ignore: JSON Pointers (RFC 6901), taken apart, of members that do not count. Raises
    NotCanonical where two servers could read the body in two ways.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotCanonical(str(error)) from None
    try:
        out = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:  # it reads deeper nesting than it writes
        raise NotCanonical(str(error)) from None
    # Each member has one colon outside of strings: a member that was dropped shows. All colons
    # are counted, strings and all, where none is escaped: bench `cache` pays for a pattern else.
    if _COLON_ESCAPED in body:
        same = _STRINGS.sub(b"", body).count(b":") == _STRINGS.sub(b"", out).count(b":")
    else:
        same = body.count(b":") == out.count(b":")
    if not same:
        raise NotCanonical("two members of one name")
    if _LONG in body.translate(_DIGITS_AS_0):
        numbers = _NO_DIGITS.sub(b"", _STRINGS.sub(b"", body))
        if _LONG_NUMBER.search(numbers):
            raise NotCanonical("a number of more digits than are compared")
    if ignore:
        for pointer in ignore:
            _remove(value, pointer)
        out = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return out


def pointer(text: str) -> tuple[str, ...]:
    """A JSON Pointer taken apart (RFC 6901 section 4). Raises ValueError."""
    if not text.startswith("/"):
        raise ValueError(f"`{text[:80]}` is not a JSON Pointer; write /user or /metadata/id")
    if re.search(r"~(?![01])", text):
        raise ValueError(f"`{text[:80]}` has a `~` that is neither ~0 nor ~1")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/"))


def _remove(value: Any, path: Sequence[str]) -> None:
    for part in path[:-1]:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and _INDEX.fullmatch(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return
    if isinstance(value, dict):
        value.pop(path[-1], None)


def digest(parts: Sequence[bytes]) -> bytes:
    """BLAKE2b-256 over the parts behind a line of their lengths, so that no two lists collide."""
    lengths = ",".join([str(len(part)) for part in parts]).encode()
    return blake2b(b"\n".join((lengths, b"".join(parts))), digest_size=KEY_BYTES).digest()


CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"api-key", b"cookie"))
"""Fields that say whose request it is."""


def tenants(secret: bytes | None = None) -> Callable[[Headers], bytes]:
    """A function that names the tenant of a request by an HMAC of its credentials, b"" for none.

    secret: shared by replicas that share a store; a random one otherwise. A key in a store then
    does not give a credential away, not even to whoever can try many.
    """
    key = secret if secret is not None else os.urandom(32)
    known: dict[bytes, bytes] = {}

    def tenant(headers: Headers) -> bytes:
        found = [
            part
            for name, value in headers
            if (low := name.lower()) in CREDENTIALS
            for part in (low, value)
        ]
        if not found:
            return b""
        credentials = b"\0".join(found)
        name = known.get(credentials)
        if name is None:
            if len(known) >= 1024:
                known.clear()
            name = known[credentials] = hmac.digest(key, credentials, "sha256")
        return name

    return tenant


def tenant_of(secret: bytes | None = None) -> Callable[[Request], bytes]:
    """The tenant of a request: the name that an `auth` layer gave it, else by its credentials."""
    by_credentials = tenants(secret)

    def tenant(request: Request) -> bytes:
        if request.tenant is not None:
            return b"named:" + request.tenant.encode()
        return by_credentials(request.headers)

    return tenant
