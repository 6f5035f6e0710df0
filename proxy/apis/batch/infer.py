"""KServe's protocol v2, the Open Inference Protocol, as items: each is one place of the first
dimension, a row of every input; its answer is that row of every output.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from ...exchange import Headers, Response, header
from ..base import parse
from ..items import Answer, Call, Item, Parted, Shares
from ..prompt import BYTES_PER_TOKEN
from ..shape import Untold
from .asked import group_of
from .pad import Pad, own_steps
from .plan import known
from .rest import ID, Edit, body_to_split, call_headers, kept, rest_of
from .scan import elements, ends, member, members, whole
from .template import LENGTH, Template, edits_of, ones, packed, unpacked
from .tensor import Tensor, rows_as_parsed, rows_in_binary, rows_in_text, tensors

if TYPE_CHECKING:
    from ...exchange import Request

_SPLIT = b"inference-header-content-length"


class Rest(Response):
    """What `split` leaves of an answer; its template is cut once for all who share the answer."""

    __slots__ = ("template",)

    def __init__(self, rest: Response) -> None:
        super().__init__(rest.status, rest.headers, rest.body, rest.reason)
        assert isinstance(rest.body, bytes)
        self.template = Template(rest.body)


class Tensors:
    """A request for inference, taken apart."""

    bare = False
    drawn = False

    __slots__ = ("_id", "_plan", "_request", "_split", "group", "items")

    def __init__(self, request: Request, pad: Pad | None) -> None:
        """Raises Untold."""
        self._request = request
        size = request.header(_SPLIT)
        self._split = size is not None
        head, parsed = _head(request, size)
        self._plan, self._id, data = known(head, parsed, pad)
        rows = self._rows(len(head), data, parsed["inputs"])
        self.items: list[Item] = list(map(self._item, zip(*rows, strict=True)))
        self.group: Hashable = group_of(request, "infer", (self._plan.group, self._split))

    def _rows(
        self, at: int, data: Sequence[bytes | list[bytes]], parsed: Sequence[dict[str, Any]]
    ) -> list[list[bytes]]:
        """Every input's rows. at: where the raw bytes begin."""
        rows = []
        raw = self._request.body
        assert isinstance(raw, bytes)
        texts = iter(data)
        for one, value in zip(self._plan.read, parsed, strict=True):
            if one.size is None:
                rows.append(rows_as_parsed(next(texts), value["data"], one))
            else:
                rows.append(rows_in_binary(raw, at, one, one.shape[0]))
                at += one.bytes_
        if at != len(raw):
            raise Untold
        return rows

    def _item(self, row: tuple[bytes, ...]) -> Item:
        plan = self._plan
        size = -(-len(row[0]) // BYTES_PER_TOKEN) if plan.of_texts else plan.length
        weight = sum(map(len, row)) + len(row)
        return Item((row, plan.length), packed(row), size, weight)

    # -- the contract

    def call(self, items: Sequence[Item]) -> Call:
        plan = self._plan
        steps = self._steps(items)
        side = plan.pad.side if plan.pad is not None else "right"
        columns = []
        for place, input_ in enumerate(plan.columns):
            columns.append([
                input_.longer(item.data[0][place], steps - item.data[1], side) for item in items
            ])  # fmt: skip
        if plan.mask is not None:
            columns.append([ones(plan.mask, item.data[1], steps, side) for item in items])
        head, tail = plan.template.filled(self._id or b"", steps, columns)
        headers = call_headers(self._request, _SPLIT)
        if self._split:
            headers.append((b"Inference-Header-Content-Length", b"%d" % len(head)))
        return Call(headers, b"".join((head, *tail)))

    def _steps(self, items: Sequence[Item]) -> int:
        pad = self._plan.pad
        if pad is None:
            return self._plan.length
        return pad.length(item.data[1] for item in items)

    def split(self, response: Response, items: Sequence[Item]) -> Shares | None:
        try:
            return self._split_up(response, items)
        except Untold:
            return None

    def _split_up(self, response: Response, items: Sequence[Item]) -> Shares:
        raw = body_to_split(response)
        size = header(response.headers, _SPLIT)
        if size is not None and (not size.isdigit() or len(size) > 12 or int(size) > len(raw)):
            raise Untold
        head = raw if size is None else raw[: int(size)]
        held, end = members(head, whole(head, b"{"), {b"outputs": tensors})
        ends(head, end)
        outputs = member(held, b"outputs")
        if outputs is None or not outputs.read:
            raise Untold
        edits: list[Edit] = []
        identity = member(held, b"id")
        told = b"" if identity is None else head[identity.start : identity.end]
        if identity is not None and self._id is not None:
            edits.append((identity.start, identity.end, ID))
        elif identity is not None and told.endswith(b'"'):
            edits.append((identity.end - 1, identity.end - 1, ID))
        at = len(head)
        columns = []
        for one in outputs.read:
            if one.shape[0] != len(items):
                raise Untold
            edits += edits_of(one)
            columns.append(self._column(raw, at, one, items, edits))
            at += one.bytes_
        if at != len(raw):
            raise Untold
        answers = [Answer(packed(row)) for row in zip(*columns, strict=True)]
        rest = Rest(kept(response, rest_of(head, edits)))
        if common := _value(told):
            mark = ID if self._id is not None else common + ID
            rest.headers = [
                (name, mark if value == common else value) for name, value in rest.headers
            ]
        return Shares(rest, answers)

    def _column(
        self, raw: bytes, at: int, one: Tensor, items: Sequence[Item], edits: list[Edit]
    ) -> list[bytes]:  # fmt: skip
        """Each item's row of an output, cut back where it was made longer."""
        pad = self._plan.pad
        steps = self._steps(items)
        cuts = (
            pad is not None and len(one.shape) > 1 and one.shape[1] == steps and pad.cuts(one.name)
        )
        count = one.shape[0] * (steps if cuts else 1)
        nested_ = False
        if one.data is None:
            pieces = rows_in_binary(raw, at, one, count)
        else:
            pieces, nested_ = rows_in_text(one.data.read, one, count)
        if not cuts:
            return pieces
        assert pad is not None
        edits.append((*one.dims[1], LENGTH))
        between = b"" if one.data is None else b","
        column = []
        for place, item in enumerate(items):
            if nested_:
                row = elements(pieces[place], 0)[0]
            else:
                row = pieces[place * steps : (place + 1) * steps]
            if len(row) != steps:
                raise Untold
            own = between.join(own_steps(row, item.data[1], pad.side))
            column.append(b"[%b]" % own if nested_ else own)
        return column

    def join(self, rest: Response, answers: Sequence[Answer], number: int = 0) -> Response:
        template = rest.template if isinstance(rest, Rest) else Rest(rest).template
        rows = [unpacked(one.data, template.tensors) for one in answers]
        columns = list(zip(*rows, strict=True))
        id_ = self._id
        if id_ is None:
            id_ = b"-%d" % number if number else b""
        head, tail = template.filled(id_, self._plan.length, columns)
        headers: Headers = []
        for name, value in rest.headers:
            if name.lower() == _SPLIT:
                value = b"%d" % len(head)
            elif ID in value:
                value = value.replace(ID, _value(id_))
                if not value:
                    continue
            headers.append((name, value))
        return Response(rest.status, headers, b"".join((head, *tail)), rest.reason)


def _value(id_: bytes) -> bytes:
    """An id as a header field tells it; nothing where it cannot."""
    return b"" if b"\\" in id_ else id_.strip(b'"')


def parts(request: Request, pad: Pad | None = None) -> Parted | None:
    """None where the inputs' first dimensions differ, their elements are in shared memory, or the
    request is one of a sequence.

    pad: inputs of numbers that are as long, in their second dimension, as the first that has one
    may share a call with others whose are longer or shorter. Where that cannot be done, rows of one
    length may.
    """
    try:
        return Tensors(request, pad)
    except Untold:
        return parts(request) if pad is not None else None


def _head(request: Request, size: bytes | None) -> tuple[bytes, dict[str, Any]]:
    """The text of the request, as bytes and as JSON. size: its length, where raw bytes may follow.
    Raises Untold.
    """
    raw = request.body
    if not isinstance(raw, bytes):
        raise Untold
    if size is None:
        parsed = request.json()
    else:
        if not size.isdigit() or len(size) > 12 or int(size) > len(raw):
            raise Untold
        raw = raw[: int(size)]
        parsed = parse(raw)
    if not isinstance(parsed, dict) or not isinstance(parsed.get("inputs"), list):
        raise Untold
    return raw, parsed
