"""Layers that the contract's tests put around the one under test, or in its place."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from proxy.chain import BodyFilter, Env, Handler, RouteInfo
from proxy.errors import ProxyError
from proxy.exchange import Outcome, Request, Response


class Keys(BaseModel):
    """The keys of all the layers here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""


class Layer:
    """Passes everything on."""

    unique: ClassVar[bool] = False
    Config: ClassVar[type] = Keys

    def __init__(self, config: Keys, env: Env) -> None:
        self.name = config.name
        self.env = env

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            return await self.handle(request, next)

        return handle

    async def handle(self, request: Request, next: Handler) -> Response:
        return await next(request)


class Passed:
    """One request that passed a Probe."""

    def __init__(self, name: str, request: Request) -> None:
        self.name = name
        self.request = request
        self.raised: BaseException | None = None
        self.outcomes: list[Outcome] = []
        self.ended = asyncio.Event()

    def end(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.ended.set()


class Probe(Layer):
    """Keeps what passed it, what came back, and how it ended."""

    passed: ClassVar[list[Passed]] = []

    @classmethod
    async def of(cls, name: str) -> Passed:
        """The only request that passed the probe `name`, when it has ended."""
        (found,) = [one for one in cls.passed if one.name == name]
        async with asyncio.timeout(10):
            await found.ended.wait()
        return found

    async def handle(self, request: Request, next: Handler) -> Response:
        passed = Passed(self.name, request)
        self.passed.append(passed)
        request.on_end(passed.end)
        try:
            return await next(request)
        except BaseException as error:
            passed.raised = error
            raise


class BadEnd(Layer):
    """Its on_end raises."""

    async def handle(self, request: Request, next: Handler) -> Response:
        def end(outcome: Outcome) -> None:
            raise RuntimeError("this on_end always fails")

        request.on_end(end)
        return await next(request)


class TooManyCats(ProxyError):
    status = 429
    code = "too_many_cats"


class Refuses(Layer):
    """Answers nothing: raises an error of its own type."""

    async def handle(self, request: Request, next: Handler) -> Response:
        raise TooManyCats("there are nine already", retry_after=1.2)


class Breaks(Layer):
    """Has a bug."""

    async def handle(self, request: Request, next: Handler) -> Response:
        raise ZeroDivisionError("secret of the layer")


class Answers(Layer):
    """Answers by itself, without asking anyone."""

    async def handle(self, request: Request, next: Handler) -> Response:
        return Response(200, [(b"content-type", b"text/plain")], b"from the layer")


class Reads(Layer):
    """Reads the body, of 64 bytes at most, and keeps its JSON."""

    parsed: ClassVar[list[Any]] = []

    async def handle(self, request: Request, next: Handler) -> Response:
        await request.read(64)
        self.parsed.append(request.json())
        return await next(request)


class Rewrites(Layer):
    """Reads the body and sends twice as much on."""

    async def handle(self, request: Request, next: Handler) -> Response:
        request.body = await request.read() * 2
        return await next(request)


class Filters(Layer):
    """Appends a filter to every answer; `name` says which."""

    made: ClassVar[list[BodyFilter]] = []

    async def handle(self, request: Request, next: Handler) -> Response:
        response = await next(request)
        body_filter = KINDS[self.name]()
        self.made.append(body_filter)
        response.filters.append(body_filter)
        return response


class Marks:
    """Puts brackets around each chunk, and an end behind the last."""

    def __init__(self, left: bytes = b"[", right: bytes = b"]", last: bytes = b".") -> None:
        self.left, self.right, self.last = left, right, last
        self.ends = 0

    def feed(self, chunk: bytes) -> bytes:
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


class BadFilter:
    """Fails at the chunk `bad`."""

    def feed(self, chunk: bytes) -> bytes:
        if b"bad" in chunk:
            raise ZeroDivisionError("secret of the filter")
        return chunk

    def end(self) -> bytes:
        return b""


KINDS: dict[str, Any] = {
    "square": Marks,
    "round": lambda: Marks(b"(", b")", b"!"),
    "holds": Holds,
    "bad": BadFilter,
}


class Spawns(Layer):
    """Leaves work behind that ends when `release` is set."""

    release: ClassVar[asyncio.Event]
    work: ClassVar[list[asyncio.Task[str]]] = []

    async def handle(self, request: Request, next: Handler) -> Response:
        async def shared() -> str:
            await self.release.wait()
            return "done"

        self.work.append(self.env.spawn(shared(), "shared fetch"))
        return await next(request)


class Asks(Layer):
    """Sends a request of its own before the client's, with another body."""

    forks: ClassVar[list[Passed]] = []

    async def handle(self, request: Request, next: Handler) -> Response:
        await request.read()
        fork = request.fork(b"of the layer")
        told = Passed(self.name, fork)
        self.forks.append(told)
        fork.on_end(told.end)
        await next(fork)
        fork.finish()
        return await next(request)


class Lifecycle(Layer):
    """Keeps when it was started and stopped. The name `bad start` or `bad stop` fails there."""

    told: ClassVar[list[str]] = []

    async def start(self) -> None:
        self.told.append(f"start {self.name}")
        if self.name == "bad start":
            raise RuntimeError("this layer cannot start")

    async def stop(self) -> None:
        self.told.append(f"stop {self.name}")
        if self.name == "bad stop":
            raise RuntimeError("this layer cannot stop")


class Outside(Layer):
    """Must stand outside of Probe."""

    before = ("tests.contract.layers:Probe",)


class Inside(Layer):
    """Must stand inside of Probe."""

    after = ("tests.contract.layers:Probe",)


class Once(Layer):
    """May stand only once."""

    unique = True


def named(cls: type[Layer], name: str = "") -> dict[str, Any]:
    """An entry of a chain."""
    return {f"{__name__}:{cls.__name__}": {"name": name}}
