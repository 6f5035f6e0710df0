"""The numbers that an answer tells for all of its items, shared out to each.

A number is shared by largest remainder (Hamilton's method), so that the parts add up to it
exactly: what is said of the prompt by the items' sizes, what is said of the answer by the length
of each one's own. Where the weights themselves add up to the number (token ids, log
probabilities) each part is exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

import orjson

from ...exchange import Headers, Response
from ..items import Answer, Item
from ..shape import Untold
from .rest import MAX_KINDS, TOKENS, Edit
from .scan import Member, members

_NUMBER = re.compile(rb"[0-9]{1,15}")

# TEI's, of the whole call.
_TOKENS_HEADER = b"x-compute-tokens"
_CHARACTERS_HEADER = b"x-compute-characters"
_METERS = (_TOKENS_HEADER, _CHARACTERS_HEADER)
_LENGTHS = tuple(map(len, _METERS))

_ASKED = (b"prompt", b"input")
_TOLD = (b"completion", b"output")


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in parts that add up to it, as near to `weights` as whole numbers can be."""
    weight = sum(weights)
    if weight == total:
        return list(weights)
    if weight <= 0:
        weights, weight = [1] * len(weights), len(weights)
    parts = [total * one // weight for one in weights]
    by_remainder = sorted(range(len(weights)), key=lambda place: -(total * weights[place] % weight))
    for place in by_remainder[: total - sum(parts)]:
        parts[place] += 1
    return parts


class _Number(NamedTuple):
    key: bytes
    start: int
    end: int
    value: int


def usage_of(
    raw: bytes, usage: Member | None, sizes: Sequence[int], told: Sequence[int]
) -> tuple[list[Edit], list[list[int]]]:
    """Marks for the numbers of a `usage` object, and each number's parts by item.

    sizes: of the items. told: of their answers. Raises Untold for what cannot be shared: a
    fraction, or more than MAX_KINDS numbers.
    """
    if usage is None or raw[usage.start : usage.end] == b"null":
        return [], []
    numbers = list(_numbers(raw, usage.start, b""))
    if len(numbers) > MAX_KINDS:
        raise Untold
    sums: dict[bytes, int] = {}
    for number in numbers:
        sums.setdefault(number.key, number.value)
    asked = next((key for key in sums if key.startswith(_ASKED)), None)
    answered = next((key for key in sums if key.startswith(_TOLD)), None)
    columns = []
    for key, _, _, value in numbers:
        if key.startswith(_ASKED):
            columns.append(apportion(value, sizes))
        elif key.startswith(_TOLD):
            columns.append(apportion(value, told))
        elif value == (sums[asked] if asked else 0) + (sums[answered] if answered else 0):
            of_asked = apportion(sums[asked], sizes) if asked else [0] * len(sizes)
            of_told = apportion(sums[answered], told) if answered else [0] * len(sizes)
            columns.append([one + other for one, other in zip(of_asked, of_told, strict=True)])
        else:
            both = [one + other for one, other in zip(sizes, told, strict=True)]
            columns.append(apportion(value, both))
    edits = [
        (number.start, number.end, mark) for number, mark in zip(numbers, TOKENS, strict=False)
    ]
    return edits, columns


def _numbers(raw: bytes, at: int, outer: bytes) -> Iterator[_Number]:
    held, _ = members(raw, at)
    for key, start, end, _ in held:
        lead = raw[start : start + 1]
        if _NUMBER.fullmatch(raw, start, end):
            yield _Number(outer or key, start, end, int(raw[start:end]))
        elif lead == b"{" and not outer:
            yield from _numbers(raw, start, key)
        elif lead not in (b"n", b"t", b"f", b'"'):
            raise Untold


def headers_of(
    response: Response, sizes: Sequence[int], characters: Sequence[int]
) -> list[list[int]]:
    """The parts of TEI's numbers, which stand in headers, in the headers' order."""
    columns = []
    for name, value in response.headers:
        low = name.lower()
        if low in _METERS and _NUMBER.fullmatch(value):
            weights = sizes if low == _TOKENS_HEADER else characters
            columns.append(apportion(int(value), weights))
    return columns


def has_headers(headers: Headers) -> bool:
    return any(name.lower() in _METERS for name, _ in headers)


def characters_of(item: Item, besides: int) -> int:
    """Unicode characters of an item's strings, as TEI counts them; a token id is one."""
    waiting = [orjson.loads(item.data)]
    count = besides
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        else:
            count += len(one) if isinstance(one, str) else 1
    return count


def tokens_of(columns: Sequence[Sequence[int]], items: int) -> list[tuple[int, ...]]:
    return list(zip(*columns, strict=True)) if columns else [()] * items


def told_again(rest: Response, body: bytes, answers: Sequence[Answer]) -> tuple[bytes, Headers]:
    """The body with its numbers where their marks stood, and the headers with theirs."""
    if len(answers) == 1:
        sums: Sequence[int] = answers[0].tokens
    else:
        sums = [sum(column) for column in zip_longest(*(a.tokens for a in answers), fillvalue=0)]
    kinds = 0
    for mark in TOKENS:
        if mark not in body:
            break
        total = sums[kinds] if kinds < len(sums) else 0
        body = body.replace(mark, b"%d" % total, 1)
        kinds += 1
    headers = list(rest.headers)
    for place, (name, value) in enumerate(headers):
        if len(name) in _LENGTHS and name.lower() in _METERS and _NUMBER.fullmatch(value):
            total = sums[kinds] if kinds < len(sums) else 0
            headers[place] = (name, b"%d" % total)
            kinds += 1
    return body, headers
