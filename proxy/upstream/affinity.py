"""What of a request decides which endpoint it has to be near to."""

from __future__ import annotations

from hashlib import blake2b
from typing import Protocol

from ..exchange import Request
from .ring import hashed

MAX_STEPS = 32
"""Times that `chars` characters of a prompt are looked at."""
MAX_POPULAR = 4096
"""Beginnings of prompts that are counted; when there are more, all counts are halved."""
ENOUGH = 64
"""Requests seen before any beginning is called popular."""
FADES = 65536
"""Requests after which counts are halved, so that old habits are forgotten."""
SPLIT = 4
"""A beginning is popular whose requests are over one in SPLIT of an endpoint's share."""


class Affinity(Protocol):
    """Gives requests that belong together one key."""

    async def key(self, request: Request, endpoints: int) -> int | None:
        """64 bits, or None where the request belongs nowhere. endpoints: how many there are."""
        ...


class BySession:
    """The value of a header."""

    def __init__(self, header: str) -> None:
        self._header = header.lower().encode()

    async def key(self, request: Request, endpoints: int) -> int | None:
        value = request.header(self._header)
        return hashed(value) if value else None


class Popular:
    """How often each beginning came, of late. Bounded: rare ones are forgotten first."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = 0

    def __len__(self) -> int:
        return len(self._counts)

    def request(self) -> None:
        """One more request, of however many beginnings."""
        self._total += 1
        if self._total >= FADES:
            self._fade()

    def seen(self, key: int, endpoints: int) -> bool:
        """Counts a beginning; whether so many requests share it that it tells too little."""
        counts = self._counts
        count = counts[key] = counts.get(key, 0) + 1
        while len(counts) > MAX_POPULAR:
            self._fade()
            counts = self._counts
        return self._total >= ENOUGH and SPLIT * endpoints * count > self._total

    def _fade(self) -> None:
        self._total //= 2
        self._counts = {key: count // 2 for key, count in self._counts.items() if count > 1}


class ByPrefix:
    """The start of the prompt and the model's name.

    `chars` characters, and while those are popular as many again: prompts with one system prompt
    are told apart by what follows it, so that each conversation stays at one endpoint and all
    endpoints work. What is popular every endpoint has in its cache anyhow.
    """

    def __init__(self, chars: int, max_body: int) -> None:
        self._chars = chars
        self._max_body = max_body
        self._popular = Popular()

    async def key(self, request: Request, endpoints: int) -> int | None:
        if request.method != b"POST" or request.header(b"content-encoding") is not None:
            return None
        if not isinstance(request.body, bytes):
            # Only a body that says how long it is: of another one the end is not in sight.
            length = request.header(b"content-length")
            kind = request.header(b"content-type")
            if length is None or int(length) > self._max_body:
                return None
            if kind is not None and b"json" not in kind.lower():
                return None
            await request.read(self._max_body)
        elif len(request.body) > self._max_body:
            return None
        api = request.api
        text = api.prompt(request).text
        return self.of(api.model(request), text, endpoints) if text else None

    def of(self, model: str, text: str, endpoints: int) -> int:
        """The key of a prompt."""
        chars, popular = self._chars, self._popular
        popular.request()
        digest = blake2b(model.encode(errors="replace") + b"\0", digest_size=8)
        end = 0
        for _ in range(MAX_STEPS):
            start, end = end, end + chars
            digest.update(text[start:end].encode(errors="replace"))
            key = int.from_bytes(digest.digest(), "big")
            if end >= len(text) or not popular.seen(key, endpoints):
                break
        return key
