"""Text without what ends it, out of a stream that still has it."""

from __future__ import annotations

from collections.abc import Sequence


class Held:
    """OpenAI leaves the stop sequence out of the text; TGI leaves it in, a token at a time. Gives
    text as soon as it can be no part of one.
    """

    __slots__ = ("_held", "_stops")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""

    def feed(self, text: str) -> str:
        text = self._held + text
        keep = 0
        for stop in self._stops:
            for size in range(min(len(stop), len(text)), keep, -1):
                if text.endswith(stop[:size]):
                    keep = size
                    break
        cut = len(text) - keep
        self._held = text[cut:]
        return text[:cut]

    def end(self, stopped: bool) -> str:
        """The rest; stopped: by one of them, which is left out."""
        rest, self._held = self._held, ""
        return without_stop(rest, self._stops) if stopped else rest


def without_stop(text: str, stops: Sequence[str]) -> str:
    """The longest of them that ends it, cut off."""
    ending = [stop for stop in stops if stop and text.endswith(stop)]
    return text[: -len(max(ending, key=len))] if ending else text
