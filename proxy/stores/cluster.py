"""A Redis Cluster: each key lies on a node of its own, so each call goes alone."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.typing import EncodableT

from . import settings
from .direct import tls_context


class Cluster:
    """As `Direct`, by the client of redis-py, which follows a slot to another node."""

    def __init__(self, config: settings.Redis) -> None:
        place = settings.parse_redis_url(config.url)
        secret = config.password
        tls: dict[str, Any] = {}
        if place.tls:
            tls_context(config)  # stops the start where it cannot be made
            tls = {"ssl": True, "ssl_ca_certs": str(config.ca) if config.ca else None}
        self._client = RedisCluster(
            place.host,
            place.port,
            username=config.username or place.username,
            password=place.password if secret is None else secret.get_secret_value(),
            protocol=2,
            max_connections=config.max_connections,
            # A node that hangs must not use up the time of a trial, which asks several.
            socket_timeout=config.timeout,
            socket_connect_timeout=config.timeout,
            # How it follows a slot; the guard bounds the whole.
            retry=Retry(NoBackoff(), 3),
            **tls,
        )

    def ask(self, *words: EncodableT) -> Awaitable[Any]:
        """The reply to a command."""
        return self._client.execute_command(*words)

    value = ask

    def values(self, keys: Sequence[bytes]) -> Awaitable[list[bytes | None]]:
        """They lie on several nodes, which no single MGET reaches."""
        return self._client.mget_nonatomic(keys)

    async def renew(self) -> None:
        """Connects anew, and learns anew which node has what."""
        await self._client.aclose()
        await self._client.initialize()

    async def close(self) -> None:
        await self._client.aclose()
