"""Finds the class of a layer by the name that a file gives it, and imports nothing else."""

from __future__ import annotations

import difflib
import importlib
import re
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel

if TYPE_CHECKING:
    from .chain import Middleware

GROUP = "remora.middleware"
"""Entry points of this group are layers: remora's own, and those of installed plugins."""

CLASS_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
"""`module:Class`, a layer that no entry point names."""


class UnknownLayer(LookupError):
    """No layer can be had by this name. `known`: the names that entry points give."""

    def __init__(self, message: str, known: list[str]) -> None:
        super().__init__(message)
        self.known = known


def names() -> list[str]:
    """The names of every built-in and installed layer, sorted; none is imported."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find(name: str) -> type[Middleware]:
    """The class of the layer `name`: an entry point's name, or `module:Class`.

    Raises UnknownLayer, also where the layer cannot be imported or is no layer.
    """
    if ":" in name:
        return _checked(name, _imported(name))
    points = list(entry_points(group=GROUP, name=name))
    if not points:
        raise UnknownLayer(_unknown(name), names())
    # A plugin cannot take the place of a layer that remora brings.
    point = min(points, key=lambda one: _distribution(one) != "remora")
    try:
        found = point.load()
    except Exception as error:
        raise _failed(name, error) from error
    return _checked(name, found)


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else ""


def _imported(name: str) -> Any:
    if re.fullmatch(CLASS_PATTERN, name) is None:
        raise UnknownLayer(f"`{name}` does not have the form `module:Class`", names())
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module is a stranger's: it may raise anything
        raise _failed(name, error) from error
    if not hasattr(module, attribute):
        raise UnknownLayer(f"the module `{module_name}` has no `{attribute}`", names())
    return getattr(module, attribute)


def _failed(name: str, error: Exception) -> UnknownLayer:
    return UnknownLayer(f"`{name}` cannot be imported: {type(error).__name__}: {error}", names())


def _unknown(name: str) -> str:
    known = names()
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"no layer is named `{name}`; did you mean `{near[0]}`?"
    if known:
        return f"no layer is named `{name}`; known: {', '.join(known)}, or `module:Class`"
    return f"no layer is named `{name}`; write `module:Class` for one of your own"


def _checked(name: str, found: Any) -> type[Middleware]:
    if not isinstance(found, type) or not callable(getattr(found, "bind", None)):
        raise UnknownLayer(f"`{name}` is not a layer: it has no `bind`", names())
    config = getattr(found, "Config", None)
    if not isinstance(config, type) or not issubclass(config, BaseModel):
        raise UnknownLayer(f"`{name}` is not a layer: its `Config` is no pydantic model", names())
    return cast("type[Middleware]", found)
