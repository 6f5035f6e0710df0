"""What a layer is, and how a route's layers become one handler, once, at start."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from .exchange import Request, Response

Handler = Callable[[Request], Awaitable[Response]]


@runtime_checkable
class BodyFilter(Protocol):
    """Changes a response's body on its way out. Sync; one per response."""

    def feed(self, chunk: bytes) -> bytes: ...
    def end(self) -> bytes: ...


class Env(Protocol):
    """What a layer may use of the house."""

    def clock(self) -> float:
        """Seconds, monotonic."""
        ...

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run work that outlives its client. Counted, drained at stop; the only `create_task`."""
        ...

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Any:
        """A prometheus counter `remora_NAME_total`, made once however many routes ask."""
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
