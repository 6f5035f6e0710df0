"""Everything that a file names, built once: pools, layers, and one handler per route."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import config
from .apis import Api, Generic, by_name
from .chain import Handler, Middleware, build
from .env import Env
from .router import Route, Router
from .stores.settings import Stores
from .telemetry import Telemetry
from .upstream.control import EndpointStates
from .upstream.group import Group
from .upstream.pool import Pool

if TYPE_CHECKING:
    from .stores.redis import RedisStore

log = logging.getLogger("remora")


@dataclass(frozen=True, slots=True)
class RouteInfo:
    """What a layer is told of the route it is bound to."""

    name: str
    upstream: str


class Assembly:
    """What serves. `start` and `stop` run the layers' own, outermost first and last."""

    def __init__(
        self, file: config.Config, loop: asyncio.AbstractEventLoop, telemetry: Telemetry
    ) -> None:
        self.env = Env(loop, telemetry)
        self._stores = _stores(file.stores, self.env)
        self._layers: list[Middleware] = []
        self._groups = [
            Group(name, upstream, file.host, self.env, loop)
            for name, upstream in file.upstreams.items()
        ]
        senders = {group.name: group.handler for group in self._groups}
        self.env.upstreams = senders
        self.env.control("upstreams", EndpointStates(self._groups))
        shared = self._make(file.chain)
        self.router = Router([self._route(route, shared, senders) for route in file.routes])

    def _route(
        self, route: config.Route, shared: Sequence[Middleware], senders: dict[str, Handler]
    ) -> Route:
        match = route.match
        name = route.name or match.path
        layers = shared if route.chain is None else self._make(route.chain)
        prefix = match.path.endswith("*") and match.path != "*"
        return Route(
            name=name,
            handler=build(layers, RouteInfo(name, route.upstream), senders[route.upstream]),
            path=(match.path[:-1] if prefix else match.path).encode(),
            prefix=prefix,
            methods=frozenset(map(str.encode, match.methods)) if match.methods else None,
            host=match.host.encode() if match.host else None,
            api=_api(route.api),
            max_body=route.max_body,
        )

    def _make(self, chain: Sequence[config.Layer]) -> list[Middleware]:
        made = [layer.cls(layer.config, self.env) for layer in chain]
        self._layers += made
        return made

    @property
    def pools(self) -> dict[str, list[Pool]]:
        """By upstream, those of its endpoints as they are now."""
        return {group.name: group.pools for group in self._groups}

    def pool_numbers(self) -> Iterator[tuple[str, str, Pool]]:
        """(upstream, endpoint, pool) of the endpoints there are now, each name once."""
        for group in self._groups:
            for member in group.members:
                yield group.name, member.name, member.pool

    async def start(self) -> None:
        for group in self._groups:
            group.start()
        for layer in self._layers:
            await layer.start()

    async def stop(self) -> None:
        """Ends spawned work, layers, the innermost first, then stores and idle connections."""
        await self.env.stop()
        for layer in reversed(self._layers):
            try:
                await layer.stop()
            except Exception:
                log.exception("%s could not be stopped", type(layer).__name__)
        for store in self._stores:
            await store.close()
        for group in self._groups:
            group.close()


def _stores(settings: Stores, env: Env) -> list[RedisStore]:
    """What the file defines, put where layers find it. The client connects at its first call."""
    if settings.redis is None:
        return []
    # Here, because a file without it should not pay for the import.
    from .stores.redis import RedisStore

    redis = RedisStore(settings.redis, env)
    env.stores[redis.name] = redis
    return [redis]


def _api(named: config.RouteApi) -> Api | None:
    if isinstance(named, config.OwnApi):
        return Generic(named.generic.items, named.generic.results)
    return by_name[named] if named else None
