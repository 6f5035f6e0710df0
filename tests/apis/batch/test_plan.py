"""Texts of requests for inference that are remembered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.apis.batch import plan
from proxy.apis.batch.pad import Pad
from proxy.apis.items import Parted
from proxy.exchange import Request

INT = {"name": "a", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}


@pytest.fixture(autouse=True)
def plans() -> Iterator[dict[Any, plan.Plan]]:
    plan._plans.clear()
    yield plan._plans
    plan._plans.clear()


def taken(body: dict[str, Any], pad: Pad | None = None) -> Parted | None:
    request = Request(b"POST", b"/v2/models/m/infer", [], json.dumps(body).encode())
    return request.api.parts(request, pad)


def call(body: dict[str, Any]) -> Any:
    parted = taken(body)
    assert parted is not None
    return json.loads(parted.call(parted.items).body)


def test_a_text_is_read_once(plans: dict[Any, plan.Plan]) -> None:
    """Requests that differ in rows and id alone have one plan, and each its own rows and id."""
    bodies = [{"id": f"r{n}", "inputs": [INT | {"data": [n, "x" * n]}]} for n in range(3)]
    assert [call(body) for body in bodies] == bodies
    assert len(plans) == 1
    assert [call(body) for body in bodies] == bodies


def test_what_else_differs_has_another(plans: dict[Any, plan.Plan]) -> None:
    """Other shapes, other nesting, another pad, another input."""
    bodies: list[dict[str, Any]] = [
        {"inputs": [INT]},
        {"inputs": [INT | {"data": [[1, 2]]}]},
        {"inputs": [INT | {"shape": [2, 1]}]},
        {"inputs": [INT], "parameters": {"p": 1}},
        {"inputs": [INT, INT | {"name": "b"}]},
        {"id": "x", "inputs": [INT]},
    ]
    for _ in range(2):
        assert [call(body) for body in bodies] == bodies
        assert len(plans) == len(bodies)
    assert taken(bodies[0], Pad(8)) is not None
    assert len(plans) == len(bodies) + 1


@pytest.mark.parametrize(
    ("other", "known"),
    [({"parameters": {"data": [1, 2, 3]}}, 0), ({"parameters": {"id": "x"}}, 0),
     ({"id": {"data": [1]}}, 0), ({"parameters": {"id": 7}}, 2), ({"id": None}, 2),
     ({"parameters": {"data": {}}}, 2), ({"outputs": [{"name": "o", "data": "x"}]}, 2)],
)  # fmt: skip
def test_names_that_mean_something_else(
    plans: dict[Any, plan.Plan], other: Any, known: int
) -> None:
    """A `data` or an `id` elsewhere is no row and no id: where it looks like one, such a text is
    read anew each time.
    """
    for data in ([1, 2], [3, 4]):
        for text in ({"inputs": [INT | {"data": data}]} | other,
                     other | {"inputs": [INT | {"data": data}]}):  # fmt: skip
            assert call(text) == text
    assert len(plans) == known


def test_a_name_in_a_text_is_none(plans: dict[Any, plan.Plan]) -> None:
    """Inside a string the quotes have backslashes."""
    for n in range(2):
        body = {"parameters": {"p": '"data": [7], "id": 3'}, "inputs": [INT | {"data": [n, n]}]}
        assert call(body) == body
    assert len(plans) == 1


def test_rows_that_do_not_fit_a_known_text() -> None:
    """What is known of the text says nothing of the rows: they are counted each time."""
    assert taken({"inputs": [INT]}) is not None
    for data in ([1], [1, 2, 3], [[1, 2]] * 2, [1, [2]], [], None, "x", {"a": 1}):
        assert taken({"inputs": [INT | {"data": data}]}) is None
    assert taken({"inputs": [INT]}) is not None


ELEMENTS = st.integers(-9, 9) | st.sampled_from([1.5, True, None, "", ' "]', "\\[,", "]}"])


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Inputs of a few rows; now and then one that has too few, or that are no rows."""
    rows, width = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    inputs = []
    for name in draw(st.sampled_from(["a", "b", "ab"])):
        listed = draw(st.lists(ELEMENTS, min_size=rows * width, max_size=rows * width))
        cut = [listed[at : at + width] for at in range(0, rows * width, width)]
        data = draw(st.sampled_from([listed, listed, listed, cut, cut, listed[1:], cut[0], None]))
        inputs.append({"name": name, "shape": [rows, width], "datatype": "INT64", "data": data})
    more = [{}, {}, {"id": "r"}, {"id": 'data":['}, {"id": 3}]
    more += [{"parameters": {"data": [one]}} for one in (1, 2)]
    return {"inputs": inputs} | draw(st.sampled_from(more))


WRITTEN = st.sampled_from([{"separators": (",", ":")}, {}, {"indent": 1}])


@given(st.lists(st.tuples(bodies(), WRITTEN), max_size=8), st.sampled_from([None, Pad(2)]))
def test_whoever_came_before(asked: list[Any], pad: Pad | None) -> None:
    """Makes no difference: a text that is known is taken apart as one that is read anew."""
    requests = [
        Request(b"POST", b"/v2/models/m/infer", [], json.dumps(body, **how).encode())
        for body, how in [*asked, *asked]
    ]

    def told(request: Request) -> Any:
        parted = request.api.parts(request, pad)
        return parted and (parted.group, parted.items, parted.call(parted.items))

    plan._plans.clear()
    warm = [told(request) for request in requests]
    for request, known in zip(requests, warm, strict=True):
        plan._plans.clear()
        assert told(request) == known


def test_no_rows_are_kept(plans: dict[Any, plan.Plan]) -> None:
    """A plan holds nothing that a client asked about, and its template nothing of a call."""
    secret = INT | {"datatype": "BYTES", "data": ["hunter2", "hunter2"]}
    call({"id": "hunter2", "inputs": [secret]})
    (key,) = plans
    (one,) = plans.values()
    template = one.template
    held = [key, *(getattr(of, name) for of in (one, template) for name in of.__slots__)]
    assert "hunter2" not in repr(held)


def test_plans_are_bounded(plans: dict[Any, plan.Plan]) -> None:
    """MAX_PLANS of them; with one more all are forgotten, and found again."""
    for n in range(plan.MAX_PLANS):
        assert taken({"inputs": [INT | {"name": f"n{n}"}]}) is not None
    assert len(plans) == plan.MAX_PLANS
    body = {"inputs": [INT | {"name": "more"}]}
    assert call(body) == body
    assert len(plans) == 1


def test_texts_are_bounded(plans: dict[Any, plan.Plan]) -> None:
    """MAX_TEXT bytes of one are remembered, not one more."""
    short = json.dumps({"inputs": [INT | {"name": "", "data": []}]})
    size = plan.MAX_TEXT - len(short) + len("[]")
    for more, kept in ((0, 1), (1, 0)):
        plans.clear()
        body = {"inputs": [INT | {"name": "n" * (size + more)}]}
        assert call(body) == body
        assert len(plans) == kept
