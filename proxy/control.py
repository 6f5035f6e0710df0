"""What layers offer on the admin port, and how what several of them say becomes one answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .chain import Control

MAX_LISTED = 1000
"""Items of a list in an answer; those of further layers and workers are left out."""


class Controls:
    """The controls of one process, by name. One name may be several layers'."""

    def __init__(self) -> None:
        self._controls: dict[str, list[Control]] = {}

    def add(self, name: str, control: Control) -> None:
        self._controls.setdefault(name, []).append(control)

    @property
    def names(self) -> list[str]:
        return list(self._controls)

    def show(self, name: str) -> dict[str, Any]:
        """The sum of what all of the name show. Raises KeyError."""
        return add_up(control.show() for control in self._controls[name])

    def told(self, name: str, shown: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """The answer to whoever asks, from what every worker has shown. Raises KeyError."""
        return self._controls[name][0].told(add_up(shown))

    async def act(self, name: str, action: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Has all of the name do it. Raises KeyError and ControlRefused."""
        return add_up([await control.act(action, query) for control in self._controls[name]])


def add_up(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One object for many, as `Control` says."""
    total: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = _sum(total[key], value) if key in total else value
    return total


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, bool) and isinstance(other, bool):
        return one and other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one + other
    if isinstance(one, list) and isinstance(other, list):
        return (one + other)[:MAX_LISTED]
    if isinstance(one, dict) and isinstance(other, dict):
        return add_up((one, other))
    return one
