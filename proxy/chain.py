"""What a layer is, and how a route's layers become one handler, once, at start."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from .exchange import Request, Response

Handler = Callable[[Request], Awaitable[Response]]


@runtime_checkable
class BodyFilter(Protocol):
    """Changes a response's body on its way out. Sync; one per response.

    One that only looks says `observes = True`: it gives every chunk back as it is, and adds
    nothing at the end. A body that none changes keeps its Content-Length.
    """

    def feed(self, chunk: bytes) -> bytes: ...
    def end(self) -> bytes: ...


class Store(Protocol):
    """Bytes that workers and replicas share. Each call ends within the store's `timeout`.

    While the store is down no call costs time. `ttl_s`: seconds, more than 0, after which the
    store itself forgets the key.
    """

    @property
    def name(self) -> str: ...
    @property
    def up(self) -> bool:
        """Whether calls pass now: tells a key that is not there from one that was not asked for."""
        ...

    compress: Callable[[bytes], bytes] | None
    """What the file wants done to a large value; gives a short one back as it is. None: nothing."""
    decompress: Callable[[bytes, int], bytes] | None
    """Undoes it, up to a size in bytes, else raises ValueError. None: it cannot be undone here."""

    async def get(self, key: bytes) -> bytes | None:
        """None also while the store is down."""
        ...

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """In the order of `keys`; all None while the store is down."""
        ...

    async def set(self, key: bytes, value: bytes, ttl_s: float) -> None:
        """Nothing happens while the store is down or full."""
        ...

    async def delete(self, key: bytes) -> None:
        """Nothing happens while the store is down."""
        ...

    async def add(self, key: bytes, value: bytes, ttl_s: float) -> bool:
        """Takes a lease: False where another holds the key. Raises StoreDown."""
        ...

    async def extend(self, key: bytes, value: bytes, ttl_s: float) -> bool:
        """Renews a lease: False where the key no longer holds `value`. Raises StoreDown."""
        ...

    async def compare_delete(self, key: bytes, value: bytes) -> bool:
        """Gives a lease back: False where the key no longer holds `value`, or on a store down."""
        ...

    async def increment(self, key: bytes) -> int:
        """The next number of the key, never one that it had before. Raises StoreDown.

        Its first number is the store's clock in milliseconds, so that a store which has lost the
        key does not count anew from 1.
        """
        ...

    async def run(self, script: str, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Any:
        """What a Lua script returns, run in one step on `keys`, which it may write. Numbers come
        as int, text as bytes. Raises StoreDown.

        A Cluster keeps all keys of one call on one node only where they share a `{tag}`.
        """
        ...


class ControlRefused(ValueError):
    """What the admin port was asked for cannot be done; the message says what to ask instead."""


class Control(Protocol):
    """What a layer offers on the admin port: `GET /NAME` and `POST /NAME/ACTION?KEY=VALUE`.

    Every worker and every layer of the name is asked, and what they say is added up: numbers are
    summed, lists joined, objects merged; text is the first one's, and true is what all say.
    """

    def show(self) -> dict[str, Any]:
        """Its state, as JSON has it."""
        ...

    def told(self, total: dict[str, Any]) -> dict[str, Any]:
        """The answer, from the sum of every `show`: ratios, and the first few of a long list."""
        ...

    async def act(self, action: str, query: Mapping[str, str]) -> dict[str, Any]:
        """What was done. Raises ControlRefused."""
        ...


Numbers = Callable[[], Iterable[tuple[Sequence[str], float]]]
"""Label values and a number each, read when somebody asks: counting costs an addition."""


class Env(Protocol):
    """What a layer may use of the house."""

    def clock(self) -> float:
        """Seconds, monotonic."""
        ...

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run work that outlives its client. Counted, drained at stop; the only `create_task`."""
        ...

    def background(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run work that nobody waits for, a drain neither; cancelled at stop."""
        ...

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Any:
        """A prometheus counter `remora_NAME_total`, made once however many routes ask."""
        ...

    def numbers(
        self,
        kind: Literal["counter", "gauge"],
        name: str,
        documentation: str,
        labels: Sequence[str],
        read: Numbers,
    ) -> None:
        """Numbers that a layer keeps itself, as `remora_NAME` (a counter's ends in `_total`).

        Several layers may offer one name, with the same labels: they are added up.
        """
        ...

    def control(self, name: str, control: Control) -> None:
        """Offer `control` on the admin port under `name`."""
        ...

    def store(self, name: str) -> Store | None:
        """The store that the file defines by this name; None for `memory`, a layer's own."""
        ...

    def upstream(self, name: str) -> Handler | None:
        """Sends to an upstream of the file, past every layer; None where it has none so named."""
        ...


class RouteInfo(Protocol):
    """What a layer may know of the route it is bound to."""

    @property
    def name(self) -> str: ...
    @property
    def upstream(self) -> str: ...


@runtime_checkable
class Middleware(Protocol):
    """A layer. `Config` is a frozen pydantic model: its fields are the YAML keys and the docs.

    `before` and `after` name layers that this one must stand outside or inside of where both are
    in a chain; `unique` refuses a second one.
    """

    Config: ClassVar[type]

    def __init__(self, config: Any, env: Env) -> None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def bind(self, route: RouteInfo, next: Handler) -> Handler: ...


class ChainOrder(ValueError):
    """A chain breaks what one of its layers asks for. `index` is the layer to move."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def check_order(names: Sequence[str], layers: Sequence[type[Any]]) -> None:
    """Raises ChainOrder at the first layer that stands where it must not."""
    for index, (name, layer) in enumerate(zip(names, layers, strict=True)):
        if getattr(layer, "unique", True) and name in names[:index]:
            raise ChainOrder(index, f"`{name}` may stand only once in a chain")
        for other in getattr(layer, "before", ()):
            if other in names[:index]:
                raise ChainOrder(index, f"`{name}` must come before `{other}`")
        for other in getattr(layer, "after", ()):
            if other in names[index + 1 :]:
                raise ChainOrder(index, f"`{name}` must come after `{other}`")


def build(layers: Sequence[Middleware], route: RouteInfo, upstream: Handler) -> Handler:
    """One handler, the first layer outermost. A layer that is off returns `next` itself."""
    handler = upstream
    for layer in reversed(layers):
        handler = layer.bind(route, handler)
    return handler
