"""Clients that read at once, read slowly, or leave in the middle."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from tests.chain.asks import Ask, Asker, Wrong, check
from tests.chain.rig import Running
from tests.road.wire import Client, Gone, Message

SLOW = 0.004
"""Seconds between two pieces that a slow client takes."""


async def receive(client: Client, method: str, slow: bool = False) -> tuple[Message, bool]:
    """The answer with as much of its body as came, and whether that is all. Raises Gone."""
    message = await client.head()
    while message.status < 200:
        message = await client.head()
    if method == "HEAD" or message.status in (204, 304):
        return message, True
    pieces: list[bytes] = []
    try:
        if message.chunked:
            while piece := await client.chunk():
                pieces.append(piece)
                if slow:
                    await asyncio.sleep(SLOW)
            message.trailers = client.trailers
        else:
            left = int(message["content-length"] or 0)
            while left:
                piece = await client.exactly(min(left, 1000 if slow else left))
                pieces.append(piece)
                left -= len(piece)
                if slow:
                    await asyncio.sleep(SLOW)
    except Gone:
        message.body = b"".join(pieces)
        return message, False
    message.body = b"".join(pieces)
    return message, True


def names_no_model(ask: Ask) -> bool:
    """Whether a key for certain models is refused: none is named, or not in clear."""
    if ask.method in ("GET", "HEAD") or ask.kind in ("predict", "infer"):
        return False
    return ask.kind in ("embed", "page") or ask.body != ask.plain


class User:
    """One client with a key and a mind of its own. seen: what became of its requests.

    named: its key is for certain models.
    """

    def __init__(
        self, remora: Running, chance: random.Random, key: str | None, model: str = "m",
        texts: int = 40, leaves: float = 0.0, faults: bool = False, named: bool = False,
    ) -> None:  # fmt: skip
        self.remora = remora
        self.chance = chance
        self.asker = Asker(chance, texts)
        self.model = model
        self.leaves = leaves
        self.faults = faults
        self.named = named
        self.seen: Counter[str] = Counter()
        self._fields = [f"Authorization: Bearer {key}"] if key else []
        self._client: Client | None = None

    async def run(self, requests: int) -> None:
        """Asks so many times, one after the other."""
        for _ in range(requests):
            ask = self.asker.draw(self.model)
            ask.fields += self._fields
            await self._exchange(ask)
            if self.chance.random() < 0.2:
                await asyncio.sleep(self.chance.random() * 0.01)
        if self._client is not None:
            self._client.abort()

    async def _exchange(self, ask: Ask) -> None:
        client = await self._connected()
        raw = ask.raw()
        leaves = self.chance.random() < self.leaves
        try:
            if leaves:
                await self._leave(client, raw)
                self.seen["left"] += 1
                return
            if self.chance.random() < 0.2 and len(raw) > 200:
                cut = self.chance.randrange(1, len(raw))
                client.send(raw[:cut])
                await client.flush()
                await asyncio.sleep(0.002)
                client.send(raw[cut:])
            else:
                client.send(raw)
            answer, whole = await receive(client, ask.method, self.chance.random() < 0.15)
        except Gone:
            raise Wrong(f"{ask.kind}: no answer to {ask.plain[:200]!r}") from None
        told = self._checked(ask, answer, whole)
        self.seen[told] += 1
        if not whole or answer["connection"] == "close" or told == "failed within the stream":
            client.abort()
            self._client = None

    def _checked(self, ask: Ask, answer: Message, whole: bool) -> str:
        refused = answer["x-remora-error"] == "model_not_allowed"
        if refused != (self.named and names_no_model(ask)):
            raise Wrong(f"{ask.kind} of a key for models: {answer.status} to {ask.body[:100]!r}")
        return "refused" if refused else check(ask, answer, whole, self.faults)

    async def _leave(self, client: Client, raw: bytes) -> None:
        """Somewhere between the first byte of the request and the last one of the answer."""
        self._client = None
        when = self.chance.random()
        client.send(raw[: self.chance.randrange(len(raw))] if when < 0.2 else raw)
        await client.flush()
        await asyncio.sleep(self.chance.random() ** 2 * 0.03)
        if when > 0.7:
            client.hold()
        client.abort()

    async def _connected(self) -> Client:
        if self._client is None or self.chance.random() < 0.1:
            if self._client is not None:
                self._client.abort()
            self._client = await self.remora.connect(stalled=False)
        return self._client
