"""A Redis that is one server, or the master that sentinels know of."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import Connection, Sentinel, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from redis.typing import EncodableT

from ..address import parse_address
from . import settings
from .line import Line


class Direct:
    """Two connections that callers share: what may be large has its own, so that nobody who waits
    for a word waits behind it.
    """

    def __init__(self, config: settings.Redis) -> None:
        self._place = place = settings.parse_redis_url(config.url)
        self._calls = config.max_connections
        self._tls = tls_context(config) if place.tls else None
        self._sentinel = _sentinel(config.sentinel, config) if config.sentinel else None
        self._service = config.sentinel.service if config.sentinel else ""
        secret = config.password
        self._options: dict[str, Any] = {
            "username": config.username or place.username,
            "password": place.password if secret is None else secret.get_secret_value(),
            "db": place.db,
            "protocol": 2,
            # The guard bounds a whole call, connecting included.
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "retry": Retry(NoBackoff(), 0),
        }
        self._closed = False
        self._words = _Shared(self._connect)
        self._values = _Shared(self._connect)

    def ask(self, *words: EncodableT) -> Awaitable[Any]:
        """The reply to a command that is short, and whose reply is."""
        return self._words.ask(words)

    def value(self, *words: EncodableT) -> Awaitable[Any]:
        """The reply to a command with values, or for them."""
        return self._values.ask(words)

    def values(self, keys: Sequence[bytes]) -> Awaitable[list[bytes | None]]:
        return self.value("MGET", *keys)

    async def renew(self) -> None:
        """Connects anew: the old connections may lead to a server that has been replaced."""
        await self._words.renew()
        await self._values.renew()

    async def close(self) -> None:
        self._closed = True
        await self._words.close()
        await self._values.close()
        for sentinel in self._sentinel.sentinels if self._sentinel is not None else ():
            await sentinel.aclose()

    async def _connect(self) -> Line:
        connection = await self._made()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            if self._closed:
                raise ConnectionError("the store has been closed")
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return Line(connection, self._calls)

    async def _made(self) -> AbstractConnection:
        place = self._place
        made: AbstractConnection
        if place.path is not None:
            made = UnixDomainSocketConnection(path=place.path, **self._options)
        else:
            host, port = place.host, place.port
            if self._sentinel is not None:
                host, port = await self._sentinel.discover_master(self._service)
            if self._tls is None:
                made = Connection(host=host, port=port, **self._options)
            else:
                made = SSLConnection(host=host, port=port, **self._options)
                # Its own would read the authorities anew for each connection.
                made.ssl_context.context = self._tls
        made.driver_info = None  # so that nobody waits for a CLIENT SETINFO
        return made


class _Shared:
    """A connection that is made when it is first needed, once for all who wait for it."""

    def __init__(self, connect: Callable[[], Awaitable[Line]]) -> None:
        self._connect = connect
        self._line: Line | None = None
        self._connecting = asyncio.Lock()

    def ask(self, words: tuple[EncodableT, ...]) -> Awaitable[Any]:
        if self._line is not None and self._line.open:
            return self._line.ask(words)
        return self._ask_anew(words)

    async def _ask_anew(self, words: tuple[EncodableT, ...]) -> Any:
        async with self._connecting:
            line = self._line
            if line is None or not line.open:
                line = await self._anew()
            reply = line.ask(words)
        return await reply

    async def renew(self) -> None:
        async with self._connecting:
            await self._anew()

    async def close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    async def _anew(self) -> Line:
        await self.close()
        line = self._line = await self._connect()
        return line


def tls_context(config: settings.Redis) -> ssl.SSLContext:
    """Raises OSError where the file of authorities cannot be used."""
    try:
        return ssl.create_default_context(cafile=config.ca)
    except ssl.SSLError as error:
        raise OSError(f"stores.redis.ca: `{config.ca}` cannot be used: {error.reason}") from None


def _sentinel(told: settings.Sentinel, config: settings.Redis) -> Sentinel:
    nodes = [parse_address(node) for node in told.nodes]
    tls: dict[str, Any] = {}
    if settings.parse_redis_url(config.url).tls:
        tls = {"ssl": True, "ssl_ca_certs": str(config.ca) if config.ca else None}
    return Sentinel(  # type: ignore[no-untyped-call]
        [(node.host, node.port) for node in nodes],
        sentinel_kwargs={
            "password": None if told.password is None else told.password.get_secret_value(),
            # So that one that is away does not use up the trial's time.
            "socket_timeout": config.timeout,
            "socket_connect_timeout": config.timeout,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            **tls,
        },
    )
