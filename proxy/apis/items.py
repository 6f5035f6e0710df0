"""A request as the items it asks about, and an answer as theirs: what batching needs of an API.

Pure: no I/O, no waiting. An API that knows how gives a `Parted` from `Api.parts(request)`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, Protocol

from ..exchange import Headers, Response


class Item(NamedTuple):
    """One of the things that a request asks about.

    data: its piece of the request, hashable, for the API that made it. key: equal only where two
    items of a group ask the same. size: about how many tokens, by which padding is judged; of a
    tensor its length. weight: its bytes in a call.
    """

    data: Any
    key: bytes
    size: int
    weight: int


class Answer(NamedTuple):
    """What one item gets: `data`, its piece of an answer in the server's own bytes, and `tokens`,
    its part of each number that the answer tells for all (empty where it tells none). Holds
    nothing of its batch, so it can be kept and put into another answer of the same group.
    """

    data: bytes
    tokens: tuple[int, ...] = ()


class Call(NamedTuple):
    """A request with other items in it: end-to-end headers without Content-Length, and body."""

    headers: Headers
    body: bytes


class Shares(NamedTuple):
    """An answer to a call, taken apart.

    rest: its head, and of its body all but the items, with marks where they stood: small, for
    `join` alone to read, and good for any answers of the same group. It can be kept: its status,
    reason, headers and body are all there is to it. answers: one for each item, in their order.
    """

    rest: Response
    answers: list[Answer]


class Parted(Protocol):
    """A request taken apart. Any request of the same group could have sent any of its items."""

    @property
    def items(self) -> Sequence[Item]: ...

    @property
    def group(self) -> Hashable:
        """Everything of the body, and of headers that say how to read it, but the items.

        Equal groups may share a call where method and target are equal, too.
        """
        ...

    @property
    def bare(self) -> bool:
        """Its answer has another shape than that of a call to a list with its one item."""
        ...

    @property
    def drawn(self) -> bool:
        """Two items that ask the same get different answers, as the server throws its dice."""
        ...

    def call(self, items: Sequence[Item]) -> Call:
        """One request that asks about all of these, in this order; at least one.

        Its headers are this request's own, less those that frame its body, and they ask for an
        answer that is not compressed.
        """
        ...

    def split(self, response: Response, items: Sequence[Item]) -> Shares | None:
        """The items' own answers out of a successful one to `call(items)`, whose body is in memory.

        None where it does not have exactly one for each: nobody can tell then whose is whose.
        """
        ...

    def join(self, rest: Response, answers: Sequence[Answer], number: int = 0) -> Response:
        """The answer to this very request: one for each of its items, in their order and in the
        shape that it asked for, without Content-Length.

        rest: of a call of the same group; it is not changed. number: what no other client of that
        call has. An id that the server gave to the call is the client's own with it; 0 leaves it.
        """
        ...
