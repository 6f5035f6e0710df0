"""Requests whose body holds a list of items in JSON, and answers that hold a list of theirs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ...exchange import Response
from ..items import Answer, Call, Item, Shares
from ..prompt import BYTES_PER_TOKEN
from ..shape import Untold
from .meter import characters_of, has_headers, headers_of, tokens_of, told_again, usage_of
from .pointer import Pointer, find
from .rest import ID, ITEMS, Edit, body_to_split, call_headers, kept, rest_of
from .scan import Member, begin, elements, ends, member, members, records, skip, whole

if TYPE_CHECKING:
    from ...exchange import Request


class Cut(NamedTuple):
    """An answer's body, cut. list_: where its list begins and ends. pieces: each item's own.

    told: how long each item's answer is, in tokens. usage: where the object with the numbers is.
    id: where the call's id stands.
    """

    list_: tuple[int, int]
    pieces: list[bytes]
    told: Sequence[int] = ()
    usage: Member | None = None
    id: Member | None = None


class Form(Protocol):
    """How the items' answers stand in an answer."""

    def cut(self, raw: bytes, items: int) -> Cut:
        """Raises Untold where there is not exactly one for each."""
        ...

    def written(self, pieces: Sequence[bytes]) -> bytes:
        """What stands where the list stood."""
        ...


class Listed:
    """A request with a list of items. head, tail: its body, before the list and behind it.

    besides: characters that TEI counts to each item though they stand elsewhere.
    """

    __slots__ = ("_besides", "_form", "_head", "_request", "_tail", "drawn", "group", "items")

    def __init__(
        self,
        request: Request,
        group: Hashable,
        items: Sequence[Item],
        around: tuple[bytes, bytes],
        form: Form,
        besides: int = 0,
        drawn: bool = False,
    ) -> None:
        self.items = items
        self.drawn = drawn
        self.group = group
        self._request = request
        self._head, self._tail = around
        self._form = form
        self._besides = besides

    @property
    def bare(self) -> bool:
        return isinstance(self._form, Bare)

    def call(self, items: Sequence[Item]) -> Call:
        listed = b",".join([item.data for item in items])
        body = b"".join((self._head, b"[", listed, b"]", self._tail))
        return Call(call_headers(self._request), body)

    def split(self, response: Response, items: Sequence[Item]) -> Shares | None:
        try:
            raw = body_to_split(response)
            if ITEMS in raw:
                raise Untold
            cut = self._form.cut(raw, len(items))
            edits: list[Edit] = [(*cut.list_, ITEMS)]
            if cut.id is not None and raw[cut.id.end - 1 : cut.id.end] == b'"':
                edits.append((cut.id.end - 1, cut.id.end - 1, ID))
            sizes = [item.size for item in items]
            numbers, columns = usage_of(raw, cut.usage, sizes, cut.told or [0] * len(items))
            if has_headers(response.headers):
                characters = [characters_of(item, self._besides) for item in items]
                columns += headers_of(response, sizes, characters)
            rest = kept(response, rest_of(raw, edits + numbers))
        except Untold:
            return None
        return Shares(rest, list(map(Answer, cut.pieces, tokens_of(columns, len(items)))))

    def join(self, rest: Response, answers: Sequence[Answer], number: int = 0) -> Response:
        assert isinstance(rest.body, bytes)
        body, headers = told_again(rest, rest.body, answers)
        if ID in body:
            body = body.replace(ID, b"-%d" % number if number else b"", 1)
        head, _, tail = body.partition(ITEMS)
        listed = self._form.written([answer.data for answer in answers])
        return Response(rest.status, headers, b"".join((head, listed, tail)), rest.reason)


class Plain:
    """A list of answers in the items' order, at a place in the body.

    opener: what each begins with; empty: anything.
    """

    def __init__(self, at: Pointer = (), opener: bytes = b"") -> None:
        self._at = at
        self._opener = opener

    def cut(self, raw: bytes, items: int) -> Cut:
        start, pieces, end = self._listed(raw)
        if len(pieces) != items:
            raise Untold
        if not all(piece.startswith(self._opener) for piece in pieces):
            raise Untold
        return Cut((start, end), pieces)

    def _listed(self, raw: bytes) -> tuple[int, list[bytes], int]:
        first = begin(raw)
        if not self._at:
            pieces, end = elements(raw, first)
            ends(raw, end)
            return first, pieces, end
        if len(self._at) == 1 and raw[first : first + 1] == b"{":
            held, last = members(raw, first, {self._at[0]: elements})
            ends(raw, last)
            found = member(held, self._at[0])
            if found is None:
                raise Untold
            return found.start, found.read, found.end
        ends(raw, skip(raw, first))
        start = find(raw, self._at)
        return start, *elements(raw, start)

    def written(self, pieces: Sequence[bytes]) -> bytes:
        return b"[%b]" % b",".join(pieces)


class Bare(Plain):
    """The same, for a request with one item that stands in no list; nor does its answer."""

    def written(self, pieces: Sequence[bytes]) -> bytes:
        return pieces[0]


class Indexed:
    """OpenAI's: objects with an `index`, in any order, `each` of them for every item."""

    def __init__(self, key: bytes, each: int = 1, generated: bool = False) -> None:
        self._key = key
        self._each = each
        self._generated = generated

    def cut(self, raw: bytes, items: int) -> Cut:
        held, end = members(raw, whole(raw, b"{"), {self._key: records})
        ends(raw, end)
        listed = member(held, self._key)
        if listed is None or len(listed.read) != items * self._each:
            raise Untold
        choices = [b""] * len(listed.read)
        told = [0] * len(choices)
        for start, fields, stop in listed.read:
            index, place = _index(raw, fields, choices)
            choices[place] = raw[start : index.start] + ITEMS + raw[index.end : stop]
            if self._generated:
                told[place] = _length(raw, fields)
        each = self._each
        if each > 1:
            firsts = range(0, len(choices), each)
            choices = [b",".join(choices[first : first + each]) for first in firsts]
            told = [sum(told[first : first + each]) for first in firsts]
        return Cut(
            (listed.start, listed.end), choices, told, member(held, b"usage"), member(held, b"id")
        )

    def written(self, pieces: Sequence[bytes]) -> bytes:
        listed = b",".join(pieces)
        numbered: list[bytes] = []
        done = place = 0
        # `split` looks at each byte of a vector by itself: 2 us more (tests/bench: batching).
        while (at := listed.find(ITEMS, done)) >= 0:
            numbered += (listed[done:at], b"%d" % place)
            done = at + 1
            place += 1
        return b"[%b%b]" % (b"".join(numbered), listed[done:])


class Ranked:
    """TEI's rerank: objects with the `index` of a text, the highest `score` first."""

    def cut(self, raw: bytes, items: int) -> Cut:
        start = whole(raw, b"[")
        read, end = records(raw, start)
        ends(raw, end)
        if len(read) != items:
            raise Untold
        pieces = [b""] * items
        for first, fields, stop in read:
            index, place = _index(raw, fields, pieces)
            _score(raw, fields)
            pieces[place] = raw[first : index.start] + ITEMS + raw[index.end : stop]
        return Cut((start, end), pieces)

    def written(self, pieces: Sequence[bytes]) -> bytes:
        """TEI sorts upwards and turns the list round, so of equal scores the last is first."""
        scores = []
        for piece in pieces:
            whole_ = piece.replace(ITEMS, b"0", 1)
            scores.append(_score(whole_, members(whole_, 0)[0]))
        order = sorted(range(len(pieces)), key=scores.__getitem__)[::-1]
        ranked = [pieces[place].replace(ITEMS, b"%d" % place, 1) for place in order]
        return b"[%b]" % b",".join(ranked)


def _index(raw: bytes, fields: Sequence[Member], taken: Sequence[bytes]) -> tuple[Member, int]:
    """Where the index stands, and the place it names, which is free yet. Raises Untold."""
    index = member(fields, b"index")
    if index is None:
        raise Untold
    digits = raw[index.start : index.end]
    if not digits.isdigit() or len(digits) > 9:
        raise Untold
    place = int(digits)
    if place >= len(taken) or taken[place]:
        raise Untold
    return index, place


def _score(raw: bytes, fields: Sequence[Member]) -> float:
    found = member(fields, b"score")
    try:
        score = float(raw[found.start : found.end]) if found is not None else math.nan
    except ValueError:
        raise Untold from None
    if not math.isfinite(score):
        raise Untold
    return score


def _length(raw: bytes, fields: Sequence[Member]) -> int:
    """Tokens of a completion: those of its log probabilities, else about, by its text."""
    logprobs = member(fields, b"logprobs")
    if logprobs is not None and raw[logprobs.start : logprobs.start + 1] == b"{":
        inner, _ = members(raw, logprobs.start)
        tokens = member(inner, b"tokens")
        if tokens is not None and raw[tokens.start : tokens.start + 1] == b"[":
            return len(elements(raw, tokens.start)[0])
    text = member(fields, b"text")
    return -(-(text.end - text.start - 2) // BYTES_PER_TOKEN) if text is not None else 0
