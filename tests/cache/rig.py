"""The cache between a client and an origin that says what it is told, on a clock of its own."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

import orjson

from middleware.cache import Cache
from tests.conftest import Running
from tests.road.scripted import Peer
from tests.road.wire import Client, Message, ok

CACHE = "middleware.cache:Cache"
START = 1_790_000_000.0

Answer = bytes | Callable[[Peer, Message], Awaitable[None] | bytes]
"""Raw bytes, or what makes or sends them."""


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


class Origin:
    """An upstream that gives its answers in order, the last one again and again; with none left
    to say it numbers them.
    """

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.seen: list[Message] = []

    @property
    def count(self) -> int:
        return len(self.seen)

    async def __call__(self, peer: Peer) -> None:
        while True:
            message = await peer.request()
            self.seen.append(message)
            if not self.answers:
                peer.send(numbered(self.count))
                continue
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, bytes):
                peer.send(answer)
                continue
            told = answer(peer, message)
            if inspect.isawaitable(told):
                await told
            else:
                assert isinstance(told, bytes)
                peer.send(told)


def numbered(number: int) -> bytes:
    return ok(b'{"answer":%d}' % number, "Content-Type: application/json")


class Rig:
    """A running remora with one client connected; `ask` sends a question a model answers alike."""

    def __init__(self, running: Running, origin: Origin, clock: Clock) -> None:
        self.running = running
        self.origin = origin
        self.clock = clock
        self.cache: Cache = running.layer(Cache)
        self._client: Client | None = None

    async def client(self) -> Client:
        return await self.running.connect()

    async def own(self) -> Client:
        if self._client is None:
            self._client = await self.client()
        return self._client

    async def ask(self, body: Any = None, *fields: str, target: str = "/v1/embeddings") -> Message:
        """body: JSON or bytes; without one, the same question each time."""
        return await (await self.own()).exchange("POST", target, *fields, body=written(body))

    async def get(self, target: str = "/page", *fields: str, method: str = "GET") -> Message:
        return await (await self.own()).exchange(method, target, *fields)

    def now(self) -> float:
        return self.cache.now()

    def date(self, seconds: float = 0.0) -> str:
        return formatdate(self.now() + seconds, usegmt=True)


def written(body: Any = None) -> bytes:
    if isinstance(body, bytes):
        return body
    return orjson.dumps(QUESTION if body is None else body)


QUESTION = {"model": "m", "input": "the same"}

_TOKEN = r"[A-Za-z*][A-Za-z0-9_\-.*:/%!#$&'+^`|~]*"
_PARAMETER = r"[a-z*][a-z0-9_\-.*]*"
_VALUE = rf'(?:-?[0-9]{{1,15}}|"(?:[ !#-\[\]-~]|\\["\\])*"|{_TOKEN}|\?[01])'
_MEMBER = rf"{_TOKEN}(?: *; *{_PARAMETER}(?:={_VALUE})?)*"
CACHE_STATUS = re.compile(rf"{_MEMBER}(?:[ \t]*,[ \t]*{_MEMBER})*")
"""A List of Structured Fields whose members are tokens with parameters (RFC 9211, RFC 8941)."""
FORWARDED = {"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"}


def status(message: Message) -> dict[str, str]:
    """The parameters of remora's own `cache-status`, checked against its grammar."""
    value = message["cache-status"]
    assert value is not None, "no cache-status"
    assert CACHE_STATUS.fullmatch(value), f"{value!r} is no cache-status"
    name, *parameters = value.split(";")
    assert name == "remora"
    found = {}
    for parameter in parameters:
        key, _, argument = parameter.strip().partition("=")
        assert key not in found, f"{key} stands twice in {value!r}"
        found[key] = argument
    assert ("hit" in found) != ("fwd" in found and "hit" not in found), value
    if "fwd" in found:
        assert found["fwd"] in FORWARDED, value
    if "ttl" in found:
        int(found["ttl"])
    return found


def hit(message: Message) -> bool:
    return "hit" in status(message)
