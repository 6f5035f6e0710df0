"""Where the values of a JSON text stand (RFC 8259), found without reading them.

Parsing and dumping 32 vectors of 384 numbers takes twenty times as long, and writes other digits
than the server did (tests/bench: batching). Strings and brackets are always told apart rightly;
what a number looks like is nobody's concern here. Everything raises Untold for a text that has
no such value; nothing else is raised, whatever the bytes are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..shape import Untold

MAX_DEPTH = 128
"""Brackets in one another inside a value; a value that has more is told by nobody."""

_SPACE = re.compile(rb"[ \t\n\r]*+")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_MARK = re.compile(rb'[\[\]{}"]')
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]++")
# The next key of an object, up to its value; or no key, and the end.
_FIRST = re.compile(rb'[ \t\n\r]*+(?:"([^"\\]*+)"[ \t\n\r]*+:[ \t\n\r]*+|\})')
_FURTHER = re.compile(rb'[ \t\n\r]*+(?:,[ \t\n\r]*+"([^"\\]*+)"[ \t\n\r]*+:[ \t\n\r]*+|\})')
_NEXT = re.compile(rb"[ \t\n\r]*+([,\]}])[ \t\n\r]*+")

_FLAT = b"0123456789+-.eE, \t\r\nNaNInfinitytruefalsenull"
"""What a list of numbers and words may be made of; NaN and Infinity as Python writes them."""

_QUOTE, _LIST, _OBJECT, _ESCAPE = b'"[{\\'
_CLOSED_BY = {_LIST: b"]"[0], _OBJECT: b"}"[0]}


class Member(NamedTuple):
    """A member of an object: its key as written, and where its value begins and ends.

    read: what a reader that was named for the key made of the value.
    """

    key: bytes
    start: int
    end: int
    read: Any = None


Reader = Callable[[bytes, int], tuple[Any, int]]
"""Reads the value that begins at a place; gives it and where it ends."""


NOBODY: Mapping[bytes, Reader] = {}


def begin(raw: bytes, at: int = 0) -> int:
    """Where the next thing that is no white space stands."""
    found = _SPACE.match(raw, at)
    return found.end() if found else at


def whole(raw: bytes, opener: bytes) -> int:
    """Where a text's only value begins, which must begin with this."""
    at = begin(raw)
    if raw[at : at + 1] != opener:
        raise Untold
    return at


def skip(raw: bytes, at: int) -> int:
    """The end of the value that begins at `at`."""
    lead = raw[at] if at < len(raw) else 0
    if lead == _QUOTE:
        return _string(raw, at)
    if lead in _CLOSED_BY:
        return _nested(raw, at)
    found = _SCALAR.match(raw, at)
    if found is None:
        raise Untold
    return found.end()


def _string(raw: bytes, at: int) -> int:
    end = raw.find(b'"', at + 1)
    if end > 0 and raw[end - 1] != _ESCAPE:
        return end + 1
    found = _STRING.match(raw, at)
    if found is None:
        raise Untold
    return found.end()


def _flat(raw: bytes, at: int) -> int:
    """Where the bracket stands that closes the list, if it holds numbers and words alone."""
    end = raw.find(b"]", at + 1)
    for mark in (b"[", b'"', b"{"):
        if raw.find(mark, at + 1, end) >= 0:
            return -1
    return end


def _nested(raw: bytes, at: int) -> int:
    """Only marks are looked at one by one; strings and lists of numbers are leapt over."""
    closers: list[int] = []
    while found := _MARK.search(raw, at):
        at = found.start()
        mark = raw[at]
        if mark == _QUOTE:
            at = _string(raw, at)
            continue
        if mark == _LIST and (end := _flat(raw, at)) > 0:
            at = end + 1
        elif mark in _CLOSED_BY:
            closers.append(_CLOSED_BY[mark])
            if len(closers) > MAX_DEPTH:
                break
            at += 1
            continue
        elif not closers or mark != closers.pop():
            break
        else:
            at += 1
        if not closers:
            return at
    raise Untold


def spans(raw: bytes, at: int) -> tuple[list[tuple[int, int]], int]:
    """Begin and end of each element of the list that begins at `at`, and where it ends."""
    at = begin(raw, at + 1)
    if raw[at : at + 1] == b"]":
        return [], at + 1
    found: list[tuple[int, int]] = []
    while True:
        end = skip(raw, at)
        found.append((at, end))
        next_ = _NEXT.match(raw, end)
        if next_ is None:
            raise Untold
        mark = next_[1]
        if mark != b",":
            break
        at = next_.end()
    if mark != b"]":
        raise Untold
    return found, next_.end(1)


def _pieces(raw: bytes, at: int) -> tuple[list[bytes], int]:
    found, end = spans(raw, at)
    return [raw[begin_:end_] for begin_, end_ in found], end


def elements(raw: bytes, at: int) -> tuple[list[bytes], int]:
    """The elements of the list that begins at `at`, and where it ends."""
    if raw[at : at + 1] != b"[":
        raise Untold
    end = _flat(raw, at)
    if end < 0:
        return _pieces(raw, at)
    inner = raw[at + 1 : end]
    if inner.translate(None, _FLAT):
        raise Untold
    pieces = inner.split(b",")
    if b" " in inner or b"\n" in inner or b"\t" in inner or b"\r" in inner:
        pieces = [piece.strip(b" \t\r\n") for piece in pieces]
    if pieces == [b""]:
        return [], end + 1
    if b"" in pieces:
        raise Untold
    return pieces, end + 1


def strings(raw: bytes) -> list[bytes]:
    """The elements of a list that holds strings alone, and is sound."""
    return _STRING.findall(raw)


def words_or_elements(raw: bytes, at: int) -> tuple[bytes | list[bytes], int]:
    """The inside of a list of numbers and words as it stands; of any other list its elements."""
    if raw[at : at + 1] != b"[":
        raise Untold
    end = _flat(raw, at)
    return _pieces(raw, at) if end < 0 else (raw[at + 1 : end], end + 1)


def runs(words: bytes, count: int, each: int) -> list[bytes]:
    """The inside of a list of `count * each` numbers as `count` texts of `each`, commas between.

    Where a run ends is guessed by its length, and put right by counting commas: to make an object
    of every number costs three times as much (tests/bench: batching).
    """
    if each == 1:
        pieces = words.split(b",")
        if len(pieces) != count or b"" in map(bytes.strip, pieces):
            raise Untold
        return pieces
    pieces = []
    start = 0
    for left in range(count, 1, -1):
        end = start + (len(words) - start) // left
        commas = words.count(b",", start, end)
        while commas > each:
            end = words.rfind(b",", start, end)
            commas -= 1
        while commas < each:
            end = words.find(b",", end) + 1
            if not end:
                raise Untold
            commas += 1
        end = words.rfind(b",", start, end)
        pieces.append(words[start:end])
        start = end + 1
    if words.count(b",", start) != each - 1:
        raise Untold
    pieces.append(words[start:])
    return pieces


def members(
    raw: bytes, at: int, readers: Mapping[bytes, Reader] = NOBODY
) -> tuple[list[Member], int]:
    """The members of the object that begins at `at`, and where it ends.

    readers: by key, for values that would be scanned a second time otherwise.
    Untold also where a key stands twice, or is written with escapes: servers differ in what they
    make of it.
    """
    if raw[at : at + 1] != b"{":
        raise Untold
    held: list[Member] = []
    found = _FIRST.match(raw, at + 1)
    while found is not None:
        key = found[1]
        if key is None:
            if len({one.key for one in held}) < len(held):
                break
            return held, found.end()
        start = found.end()
        reader = readers.get(key)
        if reader is None:
            held.append(Member(key, start, end := skip(raw, start)))
        else:
            read, end = reader(raw, start)
            held.append(Member(key, start, end, read))
        found = _FURTHER.match(raw, end)
    raise Untold


def records(
    raw: bytes, at: int, readers: Mapping[bytes, Reader] = NOBODY
) -> tuple[list[tuple[int, list[Member], int]], int]:
    """Begin, members and end of each object of the list that begins at `at`, and where it ends."""
    if raw[at : at + 1] != b"[":
        raise Untold
    at = begin(raw, at + 1)
    if raw[at : at + 1] == b"]":
        return [], at + 1
    read = []
    while True:
        held, end = members(raw, at, readers)
        read.append((at, held, end))
        found = _NEXT.match(raw, end)
        if found is None:
            raise Untold
        mark = found[1]
        if mark != b",":
            break
        at = found.end()
    if mark != b"]":
        raise Untold
    return read, found.end(1)


def member(held: Sequence[Member], key: bytes) -> Member | None:
    for one in held:
        if one.key == key:
            return one
    return None


def ends(raw: bytes, at: int) -> None:
    """Raises Untold where there is more than white space behind `at`."""
    if begin(raw, at) != len(raw):
        raise Untold
