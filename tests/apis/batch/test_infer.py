"""KServe's protocol v2: tensors in JSON and in binary, merged along the first dimension."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.apis.batch.asked import MAX_ITEMS
from proxy.apis.batch.pad import Pad
from proxy.apis.batch.tensor import MAX_RANK, MAX_STRINGS
from proxy.apis.items import Parted
from proxy.exchange import Request, Response

from .servers import COMPACT, STYLES, Style, kept_apart, merged
from .tensors import infer, message, tensor, told

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "INT64": st.integers(-(2**63), 2**63 - 1),
    "UINT8": st.integers(0, 255),
    "FP32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "BOOL": st.booleans(),
    "BYTES": st.text(st.characters(codec="utf-8"), max_size=5),
}
FORM = st.sampled_from(["flat", "nested", "binary"])


def ask(
    text: dict[str, Any], tensors: list[Any], style: Style = COMPACT, api: str = "m"
) -> Request:
    headers, body = message(text, "inputs", tensors, style)
    headers.append((b"Content-Type", b"application/octet-stream"))
    return Request(b"POST", f"/v2/models/{api}/infer".encode(), headers, body)


def parts(request: Request) -> Parted:
    parted = request.api.parts(request)
    assert parted is not None
    return parted


@st.composite
def requests_of(draw: st.DrawFn) -> list[Request]:
    """Several of a group: the same inputs, each in its own encoding, with rows of their own."""
    inner = draw(st.lists(st.integers(1, 3), max_size=2))
    kinds = [
        (draw(st.sampled_from(sorted(VALUES))), draw(FORM)) for _ in range(draw(st.integers(1, 3)))
    ]
    asks: dict[str, Any] = draw(st.sampled_from([{}, {"outputs": [{"name": "pair"}]}]))
    named = draw(st.booleans())
    style = draw(st.sampled_from(STYLES))
    made = []
    for number in range(draw(st.integers(1, 3))):
        rows = draw(st.integers(1, 3))
        tensors = []
        for place, (datatype, form) in enumerate(kinds):
            shape = [rows, *inner, place + 1]
            count = math.prod(shape)
            values = draw(st.lists(VALUES[datatype], min_size=count, max_size=count))
            tensors.append(tensor(f"in{place}", datatype, shape, values, form))
        made.append(ask({"id": f"r{number}\u00e9"} | asks if named else asks, tensors, style))
    return made


@pytest.mark.parametrize("out", ["flat", "nested", "binary"])
@pytest.mark.parametrize("style", STYLES, ids=["compact", "spaced", "lines"])
def test_each_gets_what_it_would_have_got_alone(out: str, style: Style) -> None:
    """Rows, ids, shapes and lengths, for any inputs in any encoding."""
    server = functools.partial(infer, out=out)

    @given(requests_of())
    def check(requests: list[Request]) -> None:
        answers = merged([parts(one) for one in requests], server, style, requests[0])
        assert answers is not None
        for request, got in zip(requests, answers, strict=True):
            alone = server(request, style)
            if style is COMPACT:
                assert (got.body, got.headers) == (alone.body, alone.headers)
            size = b"inference-header-content-length"
            assert isinstance(got.body, bytes) and isinstance(alone.body, bytes)
            assert told(got.body, got.header(size))[1] == told(alone.body, alone.header(size))[1]
            assert (got.header(size) is None) is (out != "binary")

    check()


@given(requests_of())
def test_items_have_their_own_rows(requests: list[Request]) -> None:
    """Two items have one key exactly where a model would be given the same."""
    for request in requests:
        _, held = told(request.body, request.header(b"inference-header-content-length"))
        items = parts(request).items
        rows = [
            tuple(str(values[len(values) // len(items) * place :][: len(values) // len(items)])
                  for values in held.values())
            for place in range(len(items))
        ]  # fmt: skip
        for one, row in zip(items, rows, strict=True):
            for other, its in zip(items, rows, strict=True):
                assert (one.key == other.key) is (row == its)


@given(requests_of(), st.sampled_from(["flat", "nested", "binary"]))
def test_what_was_kept_of_an_answer(requests: list[Request], out: str) -> None:
    """Whoever kept the head and the body of it alone joins the same answer."""
    for number, request in enumerate(requests):
        parted = parts(request)
        shares = parted.split(infer(request, COMPACT, out), parted.items)
        assert shares is not None
        left, answers = shares.rest, shares.answers
        kept = Response(left.status, list(left.headers), left.body, left.reason)
        got, again = (parted.join(one, kept_apart(answers), number) for one in (left, kept))
        assert (got.body, got.headers, got.status) == (again.body, again.headers, again.status)


@pytest.mark.parametrize(
    ("data", "others", "sent"),
    [("[1,2]", ["[ 1 ,\n2 ]", "[1,\t2]"], "[1,2]"), ("[[1,2]]", ["[ [1 , 2]\r\n]"], "[[1,2]]"),
     ('["a b","c"]', [], '["a b","c"]'), ('[["a b", "c"]]', [], '[["a b", "c"]]')],
)  # fmt: skip
def test_white_space_between_numbers(data: str, others: list[str], sent: str) -> None:
    """Rows that differ in it alone are the same item; a text's own is sent as it is."""
    asks = [
        Request(
            b"POST", b"/v2/models/m/infer", [],
            b'{"inputs":[{"name":"a","shape":[1,2],"datatype":"INT64","data":%b}]}' % one.encode(),
        )
        for one in (data, *others)
    ]  # fmt: skip
    parted = [parts(one) for one in asks]
    assert {one.items[0].key for one in parted} == {parted[0].items[0].key}
    assert {one.call(one.items).body for one in parted} == {parted[0].call(parted[0].items).body}
    assert sent.encode() in parted[0].call(parted[0].items).body


def test_an_id_that_the_server_made() -> None:
    """A client that gave none has that of the call, with its number."""
    request = ask({}, [tensor("a", "INT64", [1, 1], [1], "flat")])
    parted = parts(request)
    answer = b'{"id":"made","outputs":[{"name":"o","datatype":"INT64","shape":[1],"data":[5]}]}'
    shares = parted.split(Response(200, [], answer), parted.items)
    assert shares is not None
    ids = [json.loads(parted.join(shares.rest, shares.answers, n).body)["id"] for n in range(3)]
    assert ids == ["made", "made-1", "made-2"]


@pytest.mark.parametrize("odd", [None, 7, ["x"]])
def test_an_id_that_is_no_text(odd: Any) -> None:
    """Is none: it is asked as it is, among its like, and the answer tells what the server tells."""
    data = [tensor("a", "INT64", [1, 1], [1], "flat")]
    one, other, none = (parts(ask(text, data)) for text in ({"id": odd}, {"id": "x"}, {}))
    assert json.loads(one.call(one.items).body)["id"] == odd
    assert len({one.group, other.group, none.group}) == 3
    answer = b'{"id":"made","outputs":[{"name":"o","datatype":"INT64","shape":[1],"data":[5]}]}'
    shares = one.split(Response(200, [], answer), one.items)
    assert shares is not None
    ids = [json.loads(one.join(shares.rest, shares.answers, n).body)["id"] for n in range(2)]
    assert ids == ["made", "made-1"]


ANSWER = b'{"id":%b,"outputs":[{"name":"o","datatype":"INT64","shape":[2],"data":[5,6]}]}'
ECHO = [(b"ce-id", b"one"), (b"Ce-RequestId", b"one"), (b"ce-modelid", b"m")]


def test_fields_that_tell_an_id_tell_the_clients_own() -> None:
    """MLServer names a call's id in its head, too: nobody is to read another's there."""
    data = [tensor("a", "INT64", [1, 1], [1], "flat")]
    one, two, odd = (parts(ask({"id": name}, data)) for name in ("one", "two", 'a\r\n"'))
    shares = one.split(Response(200, ECHO, ANSWER % b'"one"'), [*one.items, *two.items])
    assert shares is not None
    mine, other = shares.answers
    assert one.join(shares.rest, [mine]).headers == ECHO
    assert two.join(shares.rest, [other], 1).headers == [
        (b"ce-id", b"two"), (b"Ce-RequestId", b"two"), (b"ce-modelid", b"m"),
    ]  # fmt: skip
    # One that cannot stand in a head is in none.
    assert odd.join(shares.rest, [other], 1).headers == [(b"ce-modelid", b"m")]


def test_fields_that_tell_an_id_that_the_server_made() -> None:
    """They tell it with the client's number, as the body does."""
    parted = parts(ask({}, [tensor("a", "INT64", [2, 1], [1, 2], "flat")]))
    shares = parted.split(Response(200, ECHO, ANSWER % b'"one"'), parted.items)
    assert shares is not None
    for number, value in enumerate((b"one", b"one-1")):
        head = parted.join(shares.rest, shares.answers, number).headers
        assert head == [(b"ce-id", value), (b"Ce-RequestId", value), (b"ce-modelid", b"m")]


INT = {"name": "a", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}
UNTOUCHED: list[dict[str, Any]] = [
    {},
    {"inputs": []},
    {"inputs": {}},
    {"inputs": [1]},
    {"inputs": [{}]},
    {"inputs": [INT | {"shape": []}]},
    {"inputs": [INT | {"shape": [0, 2], "data": []}]},
    {"inputs": [INT | {"shape": [1, -2]}]},
    {"inputs": [INT | {"shape": [1, 2.0]}]},
    {"inputs": [INT | {"shape": "12"}]},
    {"inputs": [INT | {"shape": [1, 3]}]},
    {"inputs": [INT | {"shape": [1, 1, 1]}]},
    {"inputs": [INT | {"data": [1, [2]]}]},
    {"inputs": [INT | {"data": [[1], [2]]}]},
    {"inputs": [INT | {"data": [[1, [2]]]}]},
    {"inputs": [INT | {"data": [[1, 2, 3]]}]},
    {"inputs": [INT | {"data": 3}]},
    {"inputs": [INT | {"data": {"a": 1}}]},
    {"inputs": [INT | {"datatype": 3}]},
    {"inputs": [INT | {"name": None}]},
    {"inputs": [INT, INT | {"name": "b", "shape": [2, 1]}]},
    {"inputs": [INT], "parameters": {"sequence_id": 3}},
    {"inputs": [INT], "parameters": {"sequence_start": True}},
    {"inputs": [INT], "outputs": [{"name": "o", "parameters": {"shared_memory_region": "r"}}]},
    {"inputs": [INT | {"data": None}]},
    {"inputs": [{"name": "a", "shape": [1], "datatype": "INT64",
                 "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 8}}]},
    {"inputs": [INT | {"parameters": {"binary_data_size": 16}}]},
]  # fmt: skip


@pytest.mark.parametrize("body", UNTOUCHED, ids=str)
def test_left_alone(body: Any) -> None:
    """First dimensions that differ, elements elsewhere or too many, steps of a sequence."""
    request = Request(b"POST", b"/v2/models/m/infer", [], json.dumps(body).encode())
    assert request.api.parts(request) is None


def test_other_paths_are_left_alone() -> None:
    """Only inference is merged."""
    body = json.dumps({"inputs": [INT]}).encode()
    for path, taken in (
        (b"/v2/models/m/infer", True), (b"/v2/models/m/versions/1/infer", True),
        (b"/v2/models/m/generate", False), (b"/v2/repository/index", False),
    ):  # fmt: skip
        request = Request(b"POST", path, [], body)
        assert (request.api.parts(request) is not None) is taken


def binary_ask(head: dict[str, Any], tail: bytes, size: bytes | None = None) -> Any:
    raw = json.dumps(head).encode()
    headers = [(b"Inference-Header-Content-Length", b"%d" % len(raw) if size is None else size)]
    request = Request(b"POST", b"/v2/models/m/infer", headers, raw + tail)
    return request.api.parts(request)


def head(datatype: str, shape: list[int], size: Any) -> dict[str, Any]:
    one = {"name": "a", "shape": shape, "datatype": datatype}
    return {"inputs": [one | {"parameters": {"binary_data_size": size}}]}


@pytest.mark.parametrize(
    ("datatype", "shape", "size", "tail", "rows"),
    [("INT32", [2, 1], 8, b"\0" * 8, 2), ("INT32", [2, 1], 8, b"\0" * 7, None),
     ("INT32", [2, 1], 8, b"\0" * 9, None), ("INT32", [2, 1], 7, b"\0" * 7, None),
     ("INT32", [2, 1], "8", b"\0" * 8, None), ("INT32", [2, 1], -8, b"\0" * 8, None),
     ("ODD", [2, 1], 8, b"\0" * 8, None), ("BF16", [3], 6, b"\0" * 6, 3),
     ("BYTES", [2], 9, b"\1\0\0\0a\0\0\0\0", 2), ("BYTES", [2], 9, b"\2\0\0\0a\0\0\0\0", None),
     ("BYTES", [2], 9, b"\1\0\0\0a\1\0\0\0", None), ("BYTES", [2], 8, b"\1\0\0\0a\0\0\0", None),
     ("BYTES", [1], 9, b"\1\0\0\0a\0\0\0\0", None), ("BYTES", [1], 4, b"\xff\xff\xff\xff", None)],
)  # fmt: skip
def test_raw_bytes(
    datatype: str, shape: list[int], size: Any, tail: bytes, rows: int | None
) -> None:
    """They are as many as the shape says, and each string ends where the next one begins."""
    parted = binary_ask(head(datatype, shape, size), tail)
    assert (parted and len(parted.items)) == rows


@pytest.mark.parametrize("size", [b"", b"x", b"-1", b"0", b"9" * 14, b"10000"])
def test_a_header_that_lies(size: bytes) -> None:
    """The text's length is a number, and no more than there is."""
    assert binary_ask(head("INT32", [1], 4), b"\0" * 4, size) is None


def test_groups() -> None:
    """Names, datatypes, inner shapes, encodings, parameters and what is asked for part requests."""
    base = tensor("a", "INT64", [1, 2], [1, 2], "flat")
    group = parts(ask({}, [base])).group
    assert parts(ask({}, [tensor("a", "INT64", [2, 2], [5, 6, 7, 8], "flat")])).group == group
    for other in (
        ask({}, [tensor("b", "INT64", [1, 2], [1, 2], "flat")]),
        ask({}, [tensor("a", "INT32", [1, 2], [1, 2], "flat")]),
        ask({}, [tensor("a", "INT64", [1, 1], [1], "flat")]),
        ask({}, [tensor("a", "INT64", [1, 2, 1], [1, 2], "flat")]),
        ask({}, [tensor("a", "INT64", [1, 2], [1, 2], "nested")]),
        ask({}, [tensor("a", "INT64", [1, 2], [1, 2], "binary")]),
        ask({"parameters": {"p": 1}}, [base]),
        ask({"outputs": [{"name": "o"}]}, [base]),
        ask({}, [base, tensor("b", "INT64", [1, 2], [1, 2], "flat")]),
    ):
        assert parts(other).group != group
    with_ids = [parts(ask({"id": one}, [base])).group for one in ("x", "y")]
    assert with_ids[0] == with_ids[1]


OUT = {"name": "o", "datatype": "INT64", "shape": [2, 2], "data": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("change", "sound"),
    [({}, True), ({"data": [[1, 2], [3, 4]]}, True), ({"shape": [2, 2, 1]}, True),
     ({"shape": [1, 2]}, False), ({"shape": [3, 2]}, False), ({"shape": [4]}, False),
     ({"shape": [2]}, False), ({"data": [1, 2, 3]}, False), ({"data": [1, 2, 3, 4, 5]}, False),
     ({"data": [[1, 2, 3, 4]]}, False), ({"data": [[1, 2], 3]}, False), ({"data": None}, False),
     ({"data": []}, False), ({"shape": None}, False), ({"name": 1}, False),
     ({"parameters": {"shared_memory_region": "r"}}, False),
     ({"parameters": {"binary_data_size": 0}}, False)],
)  # fmt: skip
def test_outputs(change: dict[str, Any], sound: bool) -> None:
    """Each has a row for each item, or nobody can tell whose is whose."""
    parted = parts(ask({}, [tensor("a", "INT64", [2, 1], [1, 2], "flat")]))
    for outputs in ([OUT | change], [OUT, OUT | {"name": "p"} | change]):
        raw = json.dumps({"outputs": outputs}).encode()
        assert (parted.split(Response(200, [], raw), parted.items) is not None) is sound


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"outputs":[]}', b'{"error":"no"}', b"\0"])
def test_no_outputs(raw: bytes) -> None:
    """An answer without any."""
    parted = parts(ask({}, [tensor("a", "INT64", [2, 1], [1, 2], "flat")]))
    assert parted.split(Response(200, [], raw), parted.items) is None


@given(
    st.integers(0, 400),
    st.integers(0, 9),
    st.binary(max_size=6),
    st.sampled_from(["flat", "binary"]),
)
def test_any_damage(at: int, less: int, more: bytes, out: str) -> None:
    """Bytes cut out, put in or changed, in text and tensors: never an exception."""
    request = ask({}, [tensor("a", "INT64", [2, 1], [1, 2], "binary")])
    parted = parts(request)
    answer = infer(request, COMPACT, out)
    assert isinstance(answer.body, bytes)
    answer.body = answer.body[:at] + more + answer.body[at + less :]
    shares = parted.split(answer, parted.items)
    if shares is not None:
        parted.join(shares.rest, shares.answers)
    assert isinstance(request.body, bytes)
    broken = request.body[:at] + more + request.body[at + less :]
    other = Request(b"POST", request.target, request.headers, broken)
    taken = other.api.parts(other)
    if taken is not None:
        taken.call(taken.items)


def test_sizes() -> None:
    """Of numbers the second dimension, of a text its tokens, of what is padded its steps."""
    words = tensor("w", "BYTES", [2, 1], ["a" * 36, "a" * 4], "binary")
    ids = tensor("i", "INT64", [2, 3], list(range(6)), "flat")
    for tensors, pad, sizes in (
        ([ids], None, [3, 3]), ([ids, words], None, [3, 3]), ([words, ids], None, [10, 2]),
        ([words, ids], Pad(2), [3, 3]), ([words], Pad(2), [10, 2]),
    ):  # fmt: skip
        request = ask({}, tensors)
        parted = request.api.parts(request, pad)
        assert parted is not None and [one.size for one in parted.items] == sizes


def test_rows_are_bounded() -> None:
    """MAX_ITEMS are taken apart, one more is not."""
    for rows, taken in ((MAX_ITEMS, True), (MAX_ITEMS + 1, False)):
        request = ask({}, [tensor("a", "INT64", [rows], [1] * rows, "flat")])
        assert (request.api.parts(request) is not None) is taken


def test_dimensions_are_bounded() -> None:
    """MAX_RANK of them are read."""
    for rank, taken in ((MAX_RANK, True), (MAX_RANK + 1, False)):
        request = ask({}, [tensor("a", "INT64", [1] * rank, [1], "flat")])
        assert (request.api.parts(request) is not None) is taken


def test_strings_are_bounded() -> None:
    """MAX_STRINGS are looked for one by one in raw bytes, and no more."""
    for more, taken in ((0, True), (2, False)):
        count = MAX_STRINGS + more
        request = ask({}, [tensor("a", "BYTES", [2, count // 2], [""] * count, "binary")])
        assert (request.api.parts(request) is not None) is taken
