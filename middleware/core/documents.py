"""JSON and MessagePack documents, read so that each can be said in the other without loss.

What cannot be is refused, never changed: see docs/transcode.md for the rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import hypot, isfinite
from typing import Any

import msgpack
import orjson

from .number_arrays import ARRAY, BadArray, unpacked

MAX_DEPTH = 128
"""Lists and objects in one another."""
MAX_CONTAINERS = 500_000
"""Lists and objects in one document: an empty one takes one byte there, and eighty here."""
MAX_MEMBERS = 750_000
"""Members of all objects of one document: as many in one object take half a second."""

# A float from here on may have been an integer that orjson could not hold.
_INTEGERS = 2.0**63
_PIECE = 64 * 1024
_INTEGER = re.compile(rb"(?<![0-9.eE+-])-?([0-9]{19,})(?![0-9.eE])")


class Unsayable(ValueError):
    """A document that is none, or that the other form cannot say. The message quotes nothing."""


def read_json(body: bytes) -> Any:
    """Raises Unsayable: no JSON (RFC 8259), a member twice, an integer beyond 64 bits, too deep,
    too many lists, objects and members.
    """
    if len(body) > MAX_CONTAINERS:
        _few(body)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unsayable(f"no JSON: {error.msg}") from None
    members, extreme = _survey(value)
    if body.count(b":") != members and _dropped(body, value, members):
        raise Unsayable("an object with two members of one name")
    if extreme:
        for match in _INTEGER.finditer(_bare(body)):
            # int() of a long one takes its time.
            if len(match[1]) > 20 or not -(2**63) <= int(match[0]) < 2**64:
                raise Unsayable("an integer beyond 64 bits")
    return value


def write_json(value: Any) -> bytes:
    """What `read_msgpack` gave. Raises Unsayable: binary, an extension, a key that is no text."""
    try:
        return orjson.dumps(value, default=_refuse)
    except TypeError as error:
        if isinstance(error.__cause__, Unsayable):
            raise error.__cause__ from None
        raise Unsayable("a map key that is no text") from None


def read_msgpack(body: bytes, most: int, extensions: bool = False) -> Any:
    """Raises Unsayable: no MessagePack, more than one object, a key that is no text or stands
    twice, NaN or Infinity, too deep. most: numbers and lists that may come out of arrays.

    extensions: an extension that is no array is kept (`write_json` refuses it), else refused.
    """
    _walk(body)
    left = [most, MAX_CONTAINERS, MAX_MEMBERS]

    def count(held: Any) -> Any:
        left[1] -= 1
        if left[1] < 0:
            raise Unsayable("too many lists and maps")
        return held

    def object_of(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        held: dict[Any, Any] = count(dict(pairs))
        if len(held) != len(pairs):
            raise Unsayable("a map with two entries of one key")
        left[2] -= len(held)
        if left[2] < 0:
            raise Unsayable("too many entries of maps")
        return held

    def extension(code: int, data: bytes) -> Any:
        if code == ARRAY:
            value, cost = unpacked(data, left[0])
            left[0] -= cost
            return value
        if not extensions:
            raise Unsayable("an extension type")
        return msgpack.ExtType(code, data)

    try:
        value = msgpack.unpackb(
            body, list_hook=count, object_pairs_hook=object_of, ext_hook=extension,
            max_map_len=MAX_MEMBERS,
        )  # fmt: skip
    except UnicodeDecodeError:
        raise Unsayable("a text that is not UTF-8") from None
    except BadArray as error:
        raise Unsayable(str(error)) from None
    except Unsayable:
        raise
    except ValueError as error:
        raise Unsayable(_why(error)) from None
    _, extreme = _survey(value)
    if extreme and not _finite([value]):
        raise Unsayable("a number that is NaN or infinite")
    return value


def write_msgpack(value: Any) -> bytes:
    """What `read_json` gave, with arrays and events in it."""
    packed: bytes = msgpack.packb(value)
    return packed


def _dropped(text: bytes, value: Any, members: int) -> bool:
    """Whether a member of `text` is not in `value`: outside of strings each has one colon."""
    if b"\\u003a" in text or b"\\u003A" in text:
        return _bare(text).count(b":") != members
    # Written anew, the strings have as many as they had: a twentieth of the time.
    return text.count(b":") != orjson.dumps(value).count(b":")


def _bare(text: bytes) -> bytes:
    """JSON without its strings."""
    # Without escaped quotes each quote begins a string or ends one. A piece at a time: all the
    # pieces of a long text at once take ten times its bytes, and twice the time.
    text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    kept: list[bytes] = []
    within = 0
    for at in range(0, len(text), _PIECE):
        parts = text[at : at + _PIECE].split(b'"')
        kept.append(b"".join(parts[within::2]))
        within ^= (len(parts) - 1) & 1
    return b"".join(kept)


def _few(text: bytes) -> None:
    """Raises Unsayable where JSON has too much in it, before it is made."""

    def begun(text: bytes) -> int:
        return text.count(b"[") + text.count(b"{")

    if begun(text) > MAX_CONTAINERS or text.count(b":") > MAX_MEMBERS:
        text = _bare(text)
        if begun(text) > MAX_CONTAINERS:
            raise Unsayable("too many lists and objects")
        if text.count(b":") > MAX_MEMBERS:
            raise Unsayable("too many members of objects")


def _walk(body: bytes) -> None:
    """Raises Unsayable where `body` is not one whole object.

    Nothing is built meanwhile: a reader that builds makes room for as many items as a list's
    head claims, and heads that claim too much could stand in one another.
    """
    walker = msgpack.Unpacker(max_buffer_size=len(body) or 1)
    walker.feed(body)
    try:
        walker.skip()
    except msgpack.OutOfData:
        raise Unsayable("no MessagePack: it breaks off") from None
    except ValueError as error:
        raise Unsayable(_why(error)) from None
    if walker.tell() != len(body):
        raise Unsayable("more than one object")


def _why(error: ValueError) -> str:
    if isinstance(error, msgpack.StackError):
        return "too deep"
    if "map key" in str(error):
        return "a map key that is no text"
    return "too many entries of maps" if "max_map_len" in str(error) else "no MessagePack"


def _refuse(value: Any) -> Any:
    raise Unsayable("binary" if isinstance(value, bytes) else "an extension type")


def _survey(value: Any) -> tuple[int, bool]:
    """How many members all objects have together, and whether a number stands out: one of 2**63
    or more, or none. Level by level. Raises Unsayable over MAX_DEPTH.
    """
    members = depth = 0
    extreme = type(value) is float and not abs(value) < _INTEGERS
    level = [value]
    while level:
        deeper: list[Any] = []
        for held in level:
            inner: Iterable[Any]
            if type(held) is dict:
                members += len(held)
                inner = held.values()
            elif type(held) is list:
                # A vector at a time (tests/bench/transcode.py): hypot() is no less than any of
                # its numbers, whatever their signs.
                if held and type(held[0]) is float:
                    try:
                        if hypot(*held) < _INTEGERS:
                            continue
                    except TypeError:
                        pass
                inner = held
            else:
                continue
            for one in inner:
                kind = type(one)
                if kind is dict or kind is list:
                    deeper.append(one)
                elif kind is float and not abs(one) < _INTEGERS:
                    extreme = True
        depth += bool(deeper)
        if depth >= MAX_DEPTH:
            raise Unsayable(f"over {MAX_DEPTH} lists and objects in one another")
        level = deeper
    return members, extreme


def _finite(level: list[Any]) -> bool:
    while level:
        deeper: list[Any] = []
        for one in level:
            if type(one) is dict:
                deeper.extend(one.values())
            elif type(one) is list:
                deeper.extend(one)
            elif type(one) is float and not isfinite(one):
                return False
        level = deeper
    return True
