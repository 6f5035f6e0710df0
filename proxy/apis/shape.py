"""JSON that has the shape a conversion needs: each gives it back, or raises Untold."""

from __future__ import annotations

from typing import Any


class Untold(Exception):
    """An answer's other form cannot be told from the one that is here."""


def plain_of(held: dict[str, Any], but: tuple[str, ...]) -> dict[str, Any]:
    """The strings, numbers and nulls of an object; raises Untold where anything else holds much."""
    plain = {}
    for key, value in held.items():
        if key in but or value in ([], {}):
            continue
        if isinstance(value, list | dict):
            raise Untold
        plain[key] = value
    return plain


def object_of(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Untold
    return value


def list_of(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Untold
    return value


def text_of(value: Any) -> str:
    if not isinstance(value, str):
        raise Untold
    return value


def index_of(held: Any) -> int:
    index = object_of(held).get("index")
    if not isinstance(index, int) or isinstance(index, bool):
        raise Untold
    return index
