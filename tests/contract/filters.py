"""BodyFilters for the tests of the contract."""

from __future__ import annotations

from typing import Any

from proxy.errors import ProxyError


class TooManyCats(ProxyError):
    status = 429
    code = "too_many_cats"


class Marks:
    """Puts brackets around each chunk, and an end behind the last."""

    def __init__(self, left: bytes = b"[", right: bytes = b"]", last: bytes = b".") -> None:
        self.left, self.right, self.last = left, right, last
        self.feeds = 0
        self.ends = 0

    def feed(self, chunk: bytes) -> bytes:
        self.feeds += 1
        return self.left + chunk + self.right if chunk else b""

    def end(self) -> bytes:
        self.ends += 1
        return self.last


class Holds:
    """Lets nothing out before the end."""

    def __init__(self) -> None:
        self.held = b""

    def feed(self, chunk: bytes) -> bytes:
        self.held += chunk
        return b""

    def end(self) -> bytes:
        return self.held


class Looks:
    """Counts bytes, and changes nothing."""

    observes = True

    def __init__(self) -> None:
        self.seen = 0

    def feed(self, chunk: bytes) -> bytes:
        self.seen += len(chunk)
        return chunk

    def end(self) -> bytes:
        return b""


class BadFilter:
    """Fails at the chunk that holds `bad`; at the end of one that held `worse`."""

    def __init__(self) -> None:
        self.worse = False

    def feed(self, chunk: bytes) -> bytes:
        if b"bad" in chunk:
            raise ZeroDivisionError("secret of the filter")
        self.worse |= b"worse" in chunk
        return chunk

    def end(self) -> bytes:
        if self.worse:
            raise ZeroDivisionError("secret of the filter")
        return b""


class Guard:
    """Refuses the chunk that holds `bad`, with an error of its own."""

    def feed(self, chunk: bytes) -> bytes:
        if b"bad" in chunk:
            raise TooManyCats("no more")
        return chunk

    def end(self) -> bytes:
        return b""


KINDS: dict[str, Any] = {
    "square": Marks,
    "round": lambda: Marks(b"(", b")", b"!"),
    "holds": Holds,
    "looks": Looks,
    "bad": BadFilter,
    "guard": Guard,
}
