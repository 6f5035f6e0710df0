"""What a request gives a model to read, and about how many tokens that is."""

from __future__ import annotations

from typing import Any, NamedTuple

BYTES_PER_TOKEN = 4
"""UTF-8 bytes of an English token, on average (OpenAI's help on tokens). Code, digits and other
scripts differ: this estimates, it does not count.
"""

MAX_DEPTH = 8
"""Lists and objects in one another that are looked into; a message's parts lie four deep."""

# Where text stands in a message, a part of one, a document or a tool.
_TEXT = ("role", "name", "description", "content", "text", "input", "function", "parameters")


class Prompt(NamedTuple):
    """text: everything to read, in its order; token ids as digits. tokens: an estimate, exact
    where the client sent token ids.
    """

    text: str
    tokens: int


def prompt_of(*values: Any) -> Prompt:
    """The text in JSON values: strings, lists of them, chat messages, token ids."""
    pieces: list[str] = []
    size = ids = 0
    waiting = [(value, 0) for value in reversed(values)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            pieces.append(value)
            size += len(value) if value.isascii() else len(value.encode(errors="replace"))
        elif isinstance(value, int) and not isinstance(value, bool):
            pieces.append(str(value))
            ids += 1
        elif depth < MAX_DEPTH:
            if isinstance(value, dict):
                value = [value[key] for key in _TEXT if key in value]
            if not isinstance(value, list) or not value:
                continue
            if type(value[0]) is int and set(map(type, value)) == {int}:
                # One by one, 1 MiB of token ids would hold the loop for 0.2 s.
                pieces += map(str, value)
                ids += len(value)
            else:
                waiting += [(one, depth + 1) for one in reversed(value)]
    return Prompt("\n".join(pieces), ids + -(-size // BYTES_PER_TOKEN))


def most_of(value: Any, times: Any = None) -> int | None:
    """A bound on the tokens of an answer, `times` over; None where the client set none."""
    most = whole(value)
    return None if most is None else most * max(whole(times) or 1, 1)


def whole(value: Any) -> int | None:
    """A number from 0 on, also as 7.0 or "7", which servers on pydantic take for 7; else None."""
    if isinstance(value, str) and len(value) < 10 and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
