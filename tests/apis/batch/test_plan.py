"""Texts of requests for inference that are remembered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

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
    "other",
    [{"parameters": {"data": [1, 2, 3]}}, {"parameters": {"id": 7}}, {"parameters": {"data": {}}},
     {"outputs": [{"name": "o", "data": "x"}]}, {"id": {"data": [1]}}],
)  # fmt: skip
def test_names_that_mean_something_else(plans: dict[Any, plan.Plan], other: Any) -> None:
    """A `data` or an `id` elsewhere is no row and no id: such a text is read anew each time."""
    for data in ([1, 2], [3, 4]):
        for text in ({"inputs": [INT | {"data": data}]} | other,
                     other | {"inputs": [INT | {"data": data}]}):  # fmt: skip
            if "id" not in other:
                assert call(text) == text
            else:
                assert taken(text) is not None
    assert len(plans) == (2 if "id" in other else 0)


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


def test_no_rows_are_kept(plans: dict[Any, plan.Plan]) -> None:
    """A plan holds nothing that a client asked about."""
    secret = INT | {"datatype": "BYTES", "data": ["hunter2", "hunter2"]}
    assert taken({"id": "hunter2", "inputs": [secret]}) is not None
    (key,) = plans
    (one,) = plans.values()
    held = [key, *(getattr(one, name) for name in one.__slots__)]
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
