"""Plain HTTP caching as a table: what a client asks, what the origin says, where an answer is from.

A case is a list of steps on one target. `asked(...)` must reach the origin as the client sent it;
`stored(...)` must not reach it; `etag(...)` and `modified(...)` must reach it as a question
whether what is stored still holds, and get 304; `stale(...)` must reach it, and be answered with
what is stored. Fields are written as on the wire; `@60` for a value is the date in 60 seconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.cache.conftest import MakeRig
from tests.cache.rig import Rig
from tests.road.scripted import Peer
from tests.road.wire import Message, head, until

KEYS: dict[str, Any] = {"honor_upstream": True, "share": "public", "stale_if_error": 60}
"""Of the cache, for a route of plain HTTP: what docs/ say, too."""


@dataclass(frozen=True)
class Step:
    """One request. says, status, body: the origin's answer. gets: the status that the client sees.

    has, lacks: fields of what it sees, a name alone or with a value. sent: fields that the origin
    must have seen. wait: seconds that pass afterwards.
    """

    where: str
    ask: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    status: str = "200 OK"
    body: bytes | None = None
    method: str = "GET"
    target: str = "/thing"
    gets: int | None = None
    text: bytes | None = None
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    sent: tuple[str, ...] = ()
    wait: float = 3.0
    dies: bool = False


Steps = Sequence[Step]


def asked(*says: str, **more: Any) -> Step:
    return Step("origin", says=says, **more)


def stored(*ask: str, **more: Any) -> Step:
    return Step("cache", ask=ask, **more)


def etag(*says: str, **more: Any) -> Step:
    return Step("if-none-match", says=says, **more)


def modified(*says: str, **more: Any) -> Step:
    return Step("if-modified-since", says=says, **more)


def stale(*ask: str, **more: Any) -> Step:
    return Step("stale", ask=ask, **more)


def anew(*ask: str, **more: Any) -> Step:
    """Asks, and must reach the origin."""
    return Step("origin", ask=ask, **more)


class Scripted:
    """An origin that says what the step under way says, and numbers its bodies."""

    def __init__(self) -> None:
        self.step = Step("origin")
        self.bodies: list[bytes] = []
        self.rig: Rig | None = None

    def dated(self, field: str) -> str:
        name, _, value = field.partition(": ")
        assert self.rig is not None
        if re.fullmatch(r"@-?\d+", value):
            value = self.rig.date(float(value[1:]))
        return f"{name}: {value}"

    def __call__(self, peer: Peer, message: Message) -> bytes:
        step = self.step
        if step.dies:
            peer.abort()
            return b""
        fields = [self.dated(one) for one in step.says]
        asks = step.where in ("if-none-match", "if-modified-since")
        if asks and message[step.where] is not None:
            return head("HTTP/1.1 304 Not Modified", *fields)
        body = step.body if step.body is not None else b"body %d" % (len(self.bodies) + 1)
        self.bodies.append(body)
        if step.status[:3] in ("204", "304"):
            return head(f"HTTP/1.1 {step.status}", *fields)
        first = head(f"HTTP/1.1 {step.status}", f"Content-Length: {len(body)}", *fields)
        return first if step.method == "HEAD" else first + body


async def play(rig: MakeRig, steps: Steps, **keys: Any) -> None:
    """Plays a case against a new remora. Raises AssertionError at the first step that differs."""
    origin = Scripted()
    one = await rig(origin, **{**KEYS, **keys})
    origin.rig = one
    for number, step in enumerate(steps, 1):
        before = one.origin.count
        earlier = list(origin.bodies)
        origin.step = step
        ask = [origin.dated(field) for field in step.ask]
        body = b"abc" if step.method not in ("GET", "HEAD") else None
        client = await one.own()
        answer = await client.exchange(step.method, step.target, *ask, body=body)
        await until(lambda: not one.cache.env.spawned)
        seen = one.origin.seen[before:]
        try:
            _check_where(step, seen, answer, earlier)
            _check_answer(step, seen, answer, origin)
        except AssertionError as error:
            raise AssertionError(f"step {number}: {error} ({answer.first_line!r})") from None
        one.clock.advance(step.wait)


def _check_where(step: Step, seen: list[Message], answer: Message, earlier: list[bytes]) -> None:
    if step.where == "cache":
        assert not seen, "the origin was asked"
    else:
        assert seen, "the origin was not asked"
    conditions = {name for name in ("if-none-match", "if-modified-since")
                  if seen and seen[0][name] is not None}  # fmt: skip
    if step.where in ("if-none-match", "if-modified-since"):
        assert step.where in conditions, f"the origin was not asked by {step.where}"
        assert len(seen) == 1
    if step.method == "HEAD" or answer.status in (204, 304) or step.text is not None:
        return
    if step.where == "origin" and not step.dies:
        assert answer.body not in earlier or step.body in earlier, "an old answer"
    elif not step.dies or step.where == "stale":
        assert answer.body in earlier, f"{answer.body!r} is none that was stored"


def _check_answer(step: Step, seen: list[Message], answer: Message, origin: Scripted) -> None:
    if step.gets is not None or not step.dies:
        expected = step.gets if step.gets is not None else int(step.status[:3])
        assert answer.status == expected, f"status {answer.status}, not {expected}"
    if step.text is not None:
        assert answer.body == step.text
    for field in step.has:
        name, _, value = origin.dated(field).partition(": ")
        wanted = name.lower().encode()
        lines = [one for key, one in answer.headers if key.lower() == wanted]
        given = b", ".join(lines).decode("latin-1")
        if value[:1] == ">":
            assert int(given or -1) > int(value[1:]), f"{name}: {given}, not {value}"
        else:
            assert given == value if value else given, f"{name} is {given!r}, not {value!r}"
    for name in step.lacks:
        assert answer[name] is None, f"{name} is {answer[name]!r}"
    for field in step.sent:
        name, _, value = field.partition(": ")
        assert seen[0][name] == value, f"the origin saw {name}: {seen[0][name]}"
