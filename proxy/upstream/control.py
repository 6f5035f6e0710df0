"""`GET /upstreams` on the admin port: the endpoints and how they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..chain import ControlRefused
from .group import Group


class EndpointStates:
    """A Control. Workers may see an endpoint differently: each keeps watch by itself."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = groups

    def show(self) -> dict[str, Any]:
        return {group.name: group.show() for group in self._groups}

    def told(self, total: dict[str, Any]) -> dict[str, Any]:
        """With the state's name alone where all workers agree."""
        return {
            name: {endpoint: _plain(numbers) for endpoint, numbers in group.items()}
            for name, group in total.items()
        }

    async def act(self, action: str, query: Mapping[str, str]) -> dict[str, Any]:
        raise ControlRefused("there is nothing to be done here: GET /upstreams shows endpoints")


def _plain(numbers: Mapping[str, Any]) -> dict[str, Any]:
    states: dict[str, int] = numbers["states"]
    rest = {key: value for key, value in numbers.items() if key != "states"}
    if len(states) == 1:
        return {"state": next(iter(states)), **rest}
    return {"states": states, **rest}
