"""Layers that the contract's tests put around the one under test, or in its place."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from proxy.chain import BodyFilter, Env, Handler, RouteInfo
from proxy.exchange import Outcome, Request, Response

from .filters import KINDS, TooManyCats


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


class Refuses(Layer):
    """Answers nothing: raises an error of its own type."""

    async def handle(self, request: Request, next: Handler) -> Response:
        raise TooManyCats("there are nine already", retry_after=1.2)


class Breaks(Layer):
    """Has a bug."""

    async def handle(self, request: Request, next: Handler) -> Response:
        raise ZeroDivisionError("secret of the layer")


class Forgets(Layer):
    """Has a bug behind the call of `next`: nobody reads the answer it got."""

    async def handle(self, request: Request, next: Handler) -> Response:
        await next(request)
        raise ZeroDivisionError("secret of the layer")


class Dawdles(Layer):
    """Has the answer and waits for something else, until its client leaves."""

    async def handle(self, request: Request, next: Handler) -> Response:
        await next(request)
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nothing ends this wait")


class Misspells(Layer):
    """Answers with text where bytes belong."""

    async def handle(self, request: Request, next: Handler) -> Response:
        return Response(200, [("content-type", "text/plain")], b"hi")  # type: ignore[list-item]


class Replaces(Layer):
    """Puts another body in the place of the server's."""

    async def handle(self, request: Request, next: Handler) -> Response:
        response = await next(request)
        response.body = b"of the layer"
        return response


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
