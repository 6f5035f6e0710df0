"""Text without what ends it, out of a stream that still has it."""

from __future__ import annotations

from collections.abc import Sequence


class Held:
    """OpenAI's text ends before the first stop sequence; TGI's has it, and what its last token has
    behind it. Gives text as soon as it can be no part of one. stopped: one of them has come.
    """

    __slots__ = ("_held", "_stops", "stopped")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        if (cut := first_stop(text, self._stops)) is not None:
            self.stopped = True
            self._held = ""
            return text[:cut]
        keep = 0
        for stop in self._stops:
            for size in range(min(len(stop), len(text)), keep, -1):
                if text.endswith(stop[:size]):
                    keep = size
                    break
        cut = len(text) - keep
        self._held = text[cut:]
        return text[:cut]

    def end(self) -> str:
        """The rest: it was the beginning of none."""
        rest, self._held = self._held, ""
        return rest


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the one begins that is whole first, the longest of several; None: there is none."""
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    return min(found)[1] if found else None
