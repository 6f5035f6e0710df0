"""What a translation is, whichever way it goes."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from ...errors import ProxyError


class Untranslatable(ProxyError):
    """The call asks for what the other API cannot say; the message names the parameter."""

    status = 400
    code = "unsupported_parameter"


class Call(NamedTuple):
    """What the server is asked. body: None for one that has none."""

    method: bytes
    target: bytes
    body: dict[str, Any] | None
    streams: bool


class EventTurner(Protocol):
    """Turns a stream's events, one after the other. Feed it each one's data."""

    def feed(self, data: bytes) -> bytes:
        """Whole events for the client: none, one or several."""
        ...

    def end(self) -> bytes:
        """What is still to come when the server's stream is over. Raises UpstreamClosed where it
        was not whole.
        """
        ...


class Translation(Protocol):
    """One call in the server's words, and its answer in the client's."""

    @property
    def call(self) -> Call: ...

    def answer(self, answer: Any) -> Any:
        """A whole JSON answer of 2xx. Raises Untold where it has not the shape that it should."""
        ...

    def events(self) -> EventTurner: ...

    def error(self, status: int, answer: Any) -> tuple[int, Any]:
        """Status and JSON of an error answer; `answer` is None where the server's was no JSON."""
        ...


def number_of(parameters: dict[str, Any], name: str) -> float | None:
    """A number among parameters, None where it is left out. Raises Untranslatable."""
    value = parameters.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Untranslatable(f"`{name}` must be a number")
    return value


def flag_of(parameters: dict[str, Any], name: str) -> bool:
    """True or false, which it is where it is left out. Raises Untranslatable."""
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise Untranslatable(f"`{name}` must be true or false")
    return value is True


def texts_of(parameters: dict[str, Any], name: str) -> list[str]:
    """A string or a list of them. Raises Untranslatable."""
    value = parameters.get(name)
    if value is None:
        return []
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise Untranslatable(f"`{name}` must be a string or a list of strings")
    return [one for one in values if one]


def refuse(parameters: dict[str, Any], names: tuple[str, ...], who: str) -> None:
    """Raises Untranslatable for the first of these that asks for anything."""
    for name in names:
        if parameters.get(name) not in (None, False, 0, "", [], {}):
            raise Untranslatable(f"`{name}` has no counterpart in {who}; leave it out")
