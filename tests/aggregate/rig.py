"""remora with `aggregate` before a server of TEI's that a test answers for, call by call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson

from middleware.aggregate import Aggregate
from proxy.exchange import Request, Response
from proxy.server import Server
from tests.contract.road import PATIENCE, Asked, ModelServer, Wire, client, post, remora
from tests.road.wire import until

JSON = b"Content-Type: application/json"

Told = tuple[int, list[tuple[bytes, bytes]], Any]
"""Status, header fields, and the body as JSON."""


def read(head: bytes, body: bytes) -> Told:
    first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
    pairs = [line.partition(b":") for line in lines]
    fields = [(name.lower(), value.strip()) for name, _, value in pairs]
    return int(first.split(b" ")[1]), fields, orjson.loads(body) if body else None


def field(told: Told, name: bytes) -> bytes | None:
    """Its only value, or None."""
    found = [value for key, value in told[1] if key == name]
    assert len(found) <= 1, f"{name!r} came {len(found)} times"
    return found[0] if found else None


def vector(text: str) -> list[float]:
    """What the server says of a text, and of no other."""
    return [float(len(text)), *[float(ord(letter)) for letter in text]]


def inputs(asked: Asked) -> list[str]:
    texts = orjson.loads(asked.body)["inputs"]
    return texts if isinstance(texts, list) else [texts]


async def well(asked: Asked, *fields: bytes) -> None:
    """The answer that the request deserves."""
    await asked.answer(orjson.dumps([vector(text) for text in inputs(asked)]), JSON, *fields)


async def refuse(asked: Asked, status: bytes = b"422 Unprocessable Entity") -> None:
    await asked.answer(b'{"error":"bad","error_type":"Validation"}', JSON, status=status)


async def strict(asked: Asked) -> None:
    """A server that refuses a call with anything bad in it."""
    if any(text.startswith("bad") for text in inputs(asked)):
        await refuse(asked)
    else:
        await well(asked)


class Rig:
    """One remora, its layer, and the clients that ask it, each on a connection of its own."""

    def __init__(self, model: ModelServer, server: Server) -> None:
        self.model = model
        self.server = server
        self.asking: list[asyncio.Task[Told]] = []
        self._users: list[Wire] = []
        assert server._assembly is not None
        layers = server._assembly._layers
        self.layer: Aggregate = next(one for one in layers if isinstance(one, Aggregate))
        self.lane = next(iter(self.layer.lanes.values()))
        self.plan = self.lane.plan

    async def user(self) -> Wire:
        """A client; closed with the rig."""
        host, _, port = self.server.addresses[0].rpartition(":")
        wire = Wire(*await asyncio.open_connection(host, int(port)))
        self._users.append(wire)
        return wire

    async def close(self) -> None:
        for wire in self._users:
            await wire.close()

    def ask(
        self, what: Any, *fields: bytes, target: str = "/embed", **more: Any
    ) -> asyncio.Task[Told]:
        """Sends a request; the task ends with its answer. Cancel it, and the client leaves."""
        body = orjson.dumps({"inputs": what, **more})

        async def exchange() -> Told:
            async with client(self.server) as user:
                await user.send(post(target, body, *fields))
                return read(*await user.read_answer())

        task = asyncio.ensure_future(exchange())
        self.asking.append(task)
        return task

    async def held(self, what: Any, *fields: bytes, **more: Any) -> asyncio.Task[Told]:
        """The same, once its items are in the queue."""
        items = len(what) if isinstance(what, list) else 1
        before = self.plan.queued
        task = self.ask(what, *fields, **more)
        await until(lambda: self.plan.queued == before + items)
        return task

    async def blocked(self, *fields: bytes, **more: Any) -> Asked:
        """The upstream is busy: a call under way that nobody has answered yet."""
        self.blocker = self.ask("blocker", *fields, **more)
        return await self.model.asked()

    async def serve(self, answer: Callable[[Asked], Any]) -> None:
        """Answers every call, at once, until cancelled."""
        while True:
            await answer(await self.model.asked())

    @contextlib.asynccontextmanager
    async def answering(self, answer: Callable[[Asked], Any]) -> AsyncIterator[None]:
        work = asyncio.ensure_future(self.serve(answer))
        try:
            yield
        finally:
            work.cancel()
            await asyncio.wait([work])


@contextlib.asynccontextmanager
async def rig(model: ModelServer, **keys: Any) -> AsyncIterator[Rig]:
    """keys: of the layer; without more of them one call at a time, and a long delay. inner: the
    layers inside of it.
    """
    inner = keys.pop("inner", [])
    more = keys.pop("file", {})
    keys = {"max_inflight": 1, "max_queue_delay": "10s", **keys}
    async with remora(model.url, [{"aggregate": keys}, *inner], **more) as server:
        one = Rig(model, server)
        try:
            yield one
        finally:
            for task in one.asking:
                if not task.done():
                    task.cancel()
            if one.asking:
                await asyncio.wait(one.asking)
            await one.close()


async def handled(one: Rig, text: str, tenant: str | None = None, **fields: str) -> Response:
    """What the route's handler answers to a request that no client sent."""
    assert one.server._assembly is not None
    pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
    headers = [(b"content-type", b"application/json"), *pairs]
    request = Request(b"POST", b"/embed", headers, orjson.dumps({"inputs": text}))
    request.tenant = tenant
    try:
        return await one.server._assembly.router.routes[0].handler(request)
    finally:
        request.finish()


async def soon(task: asyncio.Task[Told]) -> Told:
    async with asyncio.timeout(PATIENCE):
        return await task
