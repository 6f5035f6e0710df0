"""Rows of differing length in one tensor, and answers cut back to them."""

from __future__ import annotations

import functools
import json
import math
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.apis.batch.pad import MAX_LENGTH, Pad, binary, number, padded_list
from proxy.apis.items import Parted
from proxy.apis.shape import Untold
from proxy.exchange import Request, Response

from .servers import COMPACT, STYLES, merged
from .tensors import infer, message, tensor, told

Side = Literal["left", "right"]
SIDES: list[Side] = ["left", "right"]
FORM = st.sampled_from(["flat", "nested", "binary"])


def infer_request(tensors: list[Any]) -> Request:
    headers, body = message({}, "inputs", tensors, COMPACT)
    return Request(b"POST", b"/v2/models/m/infer", headers, body)


def parts(request: Request, pad: Pad) -> Parted:
    parted = request.api.parts(request, pad)
    assert parted is not None
    return parted


def unpadded(request: Request, pad: Pad) -> bool:
    """Whether it is taken apart as without a pad."""
    parted = request.api.parts(request)
    assert parted is not None
    return parts(request, pad).group == parted.group


def called(requests: list[Request], pad: Pad) -> tuple[Any, dict[str, list[Any]]]:
    """The text of the one call for all, and each input's elements."""
    taken = [parts(one, pad) for one in requests]
    assert len({one.group for one in taken}) == 1
    call = taken[0].call([item for one in taken for item in one.items])
    size = [value for name, value in call.headers if name.lower().endswith(b"content-length")]
    return told(call.body, size[0] if size else None)


@pytest.mark.parametrize("form", ["flat", "nested", "binary"])
@pytest.mark.parametrize("side", SIDES)
def test_rows_are_made_equal(form: str, side: Side) -> None:
    """To the longest, rounded up, on the side that is asked for; other lengths stay."""
    requests = [
        infer_request([
            tensor("ids", "INT32", [rows, length, 2], range(rows * length * 2), form),
            tensor("kinds", "FP32", [rows, length], [0.5] * rows * length, form),
            tensor("fixed", "INT64", [rows, 9], [7] * rows * 9, form),
            tensor("word", "BYTES", [rows, 1], ["w"] * rows, form),
        ])
        for rows, length in ((2, 3), (1, 5))
    ]  # fmt: skip
    text, held = called(requests, Pad(to_multiple_of=4, side=side, value=-1))
    assert [one["shape"] for one in text["inputs"]] == [[3, 8, 2], [3, 8], [3, 9], [3, 1]]
    rows = [list(range(6)), list(range(6, 12)), list(range(10))]
    longer = [[-1] * (16 - len(row)) for row in rows]
    assert held["ids"] == [
        one
        for row, more in zip(rows, longer, strict=True)
        for one in (row + more if side == "right" else more + row)
    ]
    own = [[0.5] * 3, [0.5] * 3, [0.5] * 5]
    assert held["kinds"] == [
        one
        for row in own
        for one in (row + [-1] * (8 - len(row)) if side == "right" else [-1] * (8 - len(row)) + row)
    ]
    assert held["fixed"] == [7] * 27 and held["word"] == ["w"] * 3


@pytest.mark.parametrize("form", ["flat", "nested", "binary"])
@pytest.mark.parametrize("side", SIDES)
def test_the_mask(form: str, side: Side) -> None:
    """Made where a request has none; one that it has is zero where steps were put."""
    with_one, without = [
        [
            infer_request([
                tensor("ids", "INT32", [1, length], [5] * length, form),
                *([tensor("mask", "INT64", [1, length], [1] * length, form)] if has else []),
            ])
            for length in (1, 3)
        ]
        for has in (True, False)
    ]  # fmt: skip
    pad = Pad(side=side, value=9, mask="mask")
    expected = [1, 0, 0, 1, 1, 1] if side == "right" else [0, 0, 1, 1, 1, 1]
    for requests, datatype in ((with_one, "INT64"), (without, "INT32")):
        text, held = called(requests, pad)
        assert held["mask"] == expected
        assert text["inputs"][1]["datatype"] == datatype
        assert held["ids"] == [5 if one else 9 for one in expected]
    assert parts(with_one[0], pad).group != parts(without[0], pad).group
    text, held = called(without[:1], pad)
    assert held["mask"] == [1], "also where nothing is put"


@pytest.mark.parametrize("out", ["flat", "nested", "binary"])
@pytest.mark.parametrize("side", SIDES)
def test_each_gets_what_it_would_have_got_alone(out: str, side: Side) -> None:
    """A model that heeds the mask gives the same with and without other steps; what it says of each
    step is cut back to the request's own.
    """
    pad = Pad(to_multiple_of=16, side=side, value=3, mask="mask")
    server = functools.partial(infer, out=out, steps=True)

    @given(
        st.lists(
            st.tuples(st.integers(1, 2), st.sampled_from([1, 3, 4, 16])), min_size=1, max_size=4
        ),
        FORM,
        st.sampled_from(STYLES),
    )
    def check(sizes: list[tuple[int, int]], form: str, style: Any) -> None:
        requests = []
        for place, (rows, length) in enumerate(sizes):
            values = [place * 100 + n for n in range(rows * length)]
            requests.append(infer_request([tensor("ids", "INT64", [rows, length], values, form)]))
        answers = merged([parts(one, pad) for one in requests], server, style, requests[0])
        assert answers is not None
        for request, (rows, length), got in zip(requests, sizes, answers, strict=True):
            size = b"inference-header-content-length"
            assert isinstance(request.body, bytes)
            _, held = told(request.body, request.header(size))
            ids = tensor("ids", "INT64", [rows, length], held["ids"], form)
            ones = tensor("mask", "INT64", [rows, length], [1] * rows * length, form)
            alone = server(infer_request([ids, ones]), style)
            assert isinstance(got.body, bytes) and isinstance(alone.body, bytes)
            assert told(got.body, got.header(size)) == told(alone.body, alone.header(size))

    check()


def answer(shape: list[int]) -> bytes:
    """One output, whose elements count from 0."""
    data = list(range(math.prod(shape)))
    output = {"name": "o", "datatype": "INT64", "shape": shape, "data": data}
    return json.dumps({"outputs": [output]}).encode()


@pytest.mark.parametrize(
    ("pad", "shape", "cut"),
    [(Pad(8), [2, 8], [0, 1, 2]), (Pad(8, "left"), [2, 8], [5, 6, 7]), (Pad(8), [2, 7], None),
     (Pad(8), [2], None), (Pad(8), [2, 8, 2], [0, 1, 2, 3, 4, 5]), (Pad(8), [2, 2, 8], None),
     (Pad(8, outputs=()), [2, 8], None), (Pad(8, outputs=("o",)), [2, 8], [0, 1, 2])],
)  # fmt: skip
def test_what_is_cut(pad: Pad, shape: list[int], cut: list[int] | None) -> None:
    """An output whose second dimension is the padded length, unless others are named."""
    parted = [
        parts(infer_request([tensor("a", "INT64", [1, n], [1] * n, "flat")]), pad) for n in (3, 6)
    ]
    shares = parted[0].split(Response(200, [], answer(shape)), [one.items[0] for one in parted])
    assert shares is not None
    joined = parted[0].join(shares.rest, shares.answers[:1]).body
    assert isinstance(joined, bytes)
    text, held = told(joined, None)
    assert held["o"] == (list(range(math.prod(shape) // 2)) if cut is None else cut)
    assert text["outputs"][0]["shape"] == [1, *shape[1:]] if cut is None else [1, 3, *shape[2:]]


def test_only_named_inputs_are_made_longer() -> None:
    """Where inputs are named, another that is as long by chance is not."""
    requests = [
        infer_request([
            tensor("scale", "FP32", [1, 1], [0.5], "flat"),
            tensor("ids", "INT64", [1, n], [1] * n, "flat"),
        ])
        for n in (1, 2)
    ]  # fmt: skip
    text, _ = called(requests, Pad(4, inputs=("ids",)))
    assert [one["shape"] for one in text["inputs"]] == [[2, 1], [2, 4]]


def test_groups() -> None:
    """Only the length may differ: other steps, other datatypes, other inputs part requests."""
    pad = Pad(8)
    base = tensor("a", "INT64", [1, 3], [1, 2, 3], "flat")
    group = parts(infer_request([base]), pad).group
    longer = infer_request([tensor("a", "INT64", [2, 4], [1] * 8, "flat")])
    assert parts(longer, pad).group == group
    assert longer.api.parts(longer).group != group  # type: ignore[union-attr]
    assert parts(longer, Pad(16)).group != group
    for other in (
        tensor("a", "INT64", [1, 3, 1], [1, 2, 3], "flat"),
        tensor("a", "INT32", [1, 3], [1, 2, 3], "flat"),
        tensor("a", "INT64", [1, 3], [1, 2, 3], "nested"),
    ):
        assert parts(infer_request([other]), pad).group != group


def test_sizes_are_lengths() -> None:
    """An item's size is how many steps it has of its own."""
    request = infer_request([tensor("a", "INT64", [2, 5, 3], [1] * 30, "flat")])
    assert [item.size for item in parts(request, Pad(8)).items] == [5, 5]


def test_length_is_bounded() -> None:
    """Rows are made MAX_LENGTH steps long at most; where that is too few they are not padded."""
    assert Pad(MAX_LENGTH).length([1]) == MAX_LENGTH
    with pytest.raises(Untold):
        Pad(MAX_LENGTH).length([MAX_LENGTH + 1])
    request = infer_request([tensor("a", "INT64", [1, 2], [1, 2], "flat")])
    assert unpadded(request, Pad(MAX_LENGTH + 1))
    assert not unpadded(request, Pad(MAX_LENGTH))


@pytest.mark.parametrize(
    ("value", "datatype", "text", "raw"),
    [(0, "INT64", b"0", b"\0" * 8), (7.0, "UINT8", b"7", b"\7"),
     (0.5, "FP32", b"0.5", b"\0\0\0\x3f"),
     (1, "BOOL", b"true", b"\1"), (0, "BOOL", b"false", b"\0"), (-1, "INT16", b"-1", b"\xff\xff"),
     (1, "FP16", b"1", b"\0\x3c"), (1, "BF16", b"1", b"\x80\x3f"),
     (2, "FP64", b"2", b"\0" * 7 + b"@")],
)  # fmt: skip
def test_what_a_step_holds(value: float, datatype: str, text: bytes, raw: bytes) -> None:
    """The value in JSON and in raw bytes, little-endian."""
    assert (number(value, datatype), binary(value, datatype)) == (text, raw)


@pytest.mark.parametrize(
    ("value", "datatype"),
    [(0.5, "INT8"), (300, "UINT8"), (-1, "UINT32"), (0, "BYTES"), (0, "ODD"), (1e40, "BF16")],
)
def test_a_value_that_does_not_fit(value: float, datatype: str) -> None:
    """A request whose inputs cannot hold the value is not padded."""
    with pytest.raises(Untold):
        binary(value, datatype)
    if datatype not in ("BYTES", "ODD"):
        request = infer_request([tensor("a", "UINT8", [1, 2], [1, 2], "flat")])
        assert unpadded(request, Pad(8, value=value))


def test_a_large_value() -> None:
    """One that no integer of 64 bits holds is a number all the same."""
    assert json.loads(number(1e40, "FP64")) == 1e40


@pytest.mark.parametrize("row", [b"[]", b"[ ]", b"[1]", b"[ 1 , 2 ]", b" [1]"])
def test_lists_that_are_made_longer(row: bytes) -> None:
    """Empty ones, and those with white space, stay JSON."""
    own = json.loads(row)
    assert json.loads(padded_list(row, 2, b"0", "right")) == [*own, 0, 0]
    assert json.loads(padded_list(row, 2, b"0", "left")) == [0, 0, *own]
    assert padded_list(row, 0, b"0", "left") == row


# -- instances


def predict_request(instances: list[Any]) -> Request:
    return Request(
        b"POST", b"/v1/models/m:predict", [], json.dumps({"instances": instances}).encode()
    )


def instances_of(requests: list[Request], pad: Pad) -> list[Any]:
    taken = [parts(one, pad) for one in requests]
    assert len({one.group for one in taken}) == 1
    call = taken[0].call([item for one in taken for item in one.items])
    instances: list[Any] = json.loads(call.body)["instances"]
    return instances


def test_instances_that_are_rows() -> None:
    """Lists of numbers, or of lists of as many numbers."""
    requests = [predict_request([[1, 2, 3]]), predict_request([[4], [5, 6]])]
    assert instances_of(requests, Pad(2)) == [[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 0, 0]]
    requests = [predict_request([[[1, 2]]]), predict_request([[[1.5, 2], [3, 4]]])]
    assert instances_of(requests[1:], Pad(side="left")) == [[[1.5, 2], [3, 4]]]
    assert parts(requests[0], Pad()).group != parts(requests[1], Pad()).group
    requests = [predict_request([[[1, 2]]]), predict_request([[[5, 2], [3, 4]]])]
    assert instances_of(requests, Pad(side="left")) == [[[0, 0], [1, 2]], [[5, 2], [3, 4]]]


def test_instances_with_names() -> None:
    """All lists as long as the first are made longer, a mask among them or made; others are not."""
    requests = [
        predict_request([{"ids": [1], "kinds": [2], "fixed": [1, 2, 3], "t": "x"}]),
        predict_request([{"ids": [1, 2], "kinds": [2, 2], "fixed": [4, 5, 6], "t": "y"}]),
    ]
    assert instances_of(requests, Pad(value=9, mask="mask")) == [
        {"ids": [1, 9], "kinds": [2, 9], "fixed": [1, 2, 3], "t": "x", "mask": [1, 0]},
        {"ids": [1, 2], "kinds": [2, 2], "fixed": [4, 5, 6], "t": "y", "mask": [1, 1]},
    ]
    requests = [predict_request([{"ids": [1] * n, "mask": [1] * n}]) for n in (1, 2)]
    assert instances_of(requests, Pad(side="left", value=9, mask="mask")) == [
        {"ids": [9, 1], "mask": [0, 1]}, {"ids": [1, 1], "mask": [1, 1]},
    ]  # fmt: skip


def test_instances_that_cannot_be_padded() -> None:
    """They are merged with those of their own length: a list has no place for a mask."""
    for pad, instances in (
        (Pad(8, mask="mask"), [[1, 2]]),
        (Pad(8), ["text"]),
        (Pad(8), [{"t": "text"}]),
        (Pad(8), [{}]),
        (Pad(8), [[["a"], ["b"]]]),
        (Pad(8), [[[1], [1, 2]]]),
        (Pad(8, value=0.5), [[1, 2]]),
        (Pad(8, inputs=("x",)), [{"ids": [1, 2]}]),
    ):
        request = predict_request(instances)
        parted = parts(request, pad)
        assert json.loads(parted.call(parted.items).body) == {"instances": instances}
        assert unpadded(request, pad)


@pytest.mark.parametrize(
    ("pad", "prediction", "cut"),
    [(Pad(4), [1, 2, 3, 4], [1, 2]), (Pad(4, "left"), [1, 2, 3, 4], [3, 4]),
     (Pad(4), [1, 2], [1, 2]),
     (Pad(4), 5, 5), (Pad(4), "abcd", "abcd"), (Pad(4), [[1], [2], [3], [4]], [[1], [2]]),
     (Pad(4), {"a": [1, 2, 3, 4], "b": [1]}, {"a": [1, 2], "b": [1]}),
     (Pad(4, outputs=("b",)), {"a": [1, 2, 3, 4]}, {"a": [1, 2, 3, 4]}),
     (Pad(4, outputs=("a",)), {"a": [1, 2, 3, 4]}, {"a": [1, 2]}),
     (Pad(4, outputs=("a",)), [1, 2, 3, 4], [1, 2, 3, 4])],
)  # fmt: skip
def test_predictions_that_are_cut(pad: Pad, prediction: Any, cut: Any) -> None:
    """A list, or a named one, that is as long as the padded rows were."""
    parted = parts(predict_request([[1, 2], [1, 2, 3]]), pad)
    raw = json.dumps({"predictions": [prediction, prediction]}).encode()
    shares = parted.split(Response(200, [], raw), parted.items)
    assert shares is not None
    assert json.loads(parted.join(shares.rest, shares.answers[:1]).body)["predictions"] == [cut]


def test_a_prediction_that_is_broken() -> None:
    """A list in it that has no elements to count: nobody's."""
    parted = parts(predict_request([[1, 2], [1, 2, 3]]), Pad(4))
    for piece in (b"[1;2]", b'{"a":[1 2}'):
        raw = b'{"predictions":[%b,%b]}' % (piece, piece)
        assert parted.split(Response(200, [], raw), parted.items) is None
