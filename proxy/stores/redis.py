"""Redis as a store: one server, a Sentinel service or a Cluster. Bytes in, bytes out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Any

from redis.exceptions import (
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from ..chain import Env
from ..errors import StoreDown
from . import settings
from .cluster import Cluster
from .direct import Direct
from .guard import Guard

log = logging.getLogger("remora")

LAYOUT = "1"
"""Part of every key. Another meaning of keys or values gets another number."""

# These are sent whole: they are shorter than the round trip that learns of a restart.
_EXTEND = """\
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end
return 0"""
_COMPARE_DELETE = """\
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0"""
_INCREMENT = """\
if redis.call('exists', KEYS[1]) == 1 then return redis.call('incr', KEYS[1]) end
local now = redis.call('time')
local first = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('set', KEYS[1], string.format('%.0f', first))
return first"""


class RedisStore:
    """The store `redis`, as `proxy.chain.Store` tells. Connects at its first call."""

    name = "redis"

    def __init__(self, config: settings.Redis, env: Env) -> None:
        self._prefix = f"{config.prefix}:{LAYOUT}:".encode()
        self._redis = Cluster(config) if config.cluster else Direct(config)
        self._follows = config.sentinel is not None
        self._scripts: dict[str, str] = {}  # layers' own, by their text: its digest
        self._guard = Guard(
            self.name,
            env,
            timeout=config.timeout,
            slots=config.max_connections,
            renew=self._redis.renew,
            trial=self._trial,
            full=self._refuses_writes,
        )
        self.compress: Callable[[bytes], bytes] | None = None
        self.decompress: Callable[[bytes, int], bytes] | None = None
        if settings.has_zstd():
            from .zstd import Zstd

            zstd = Zstd(config.compress)
            # Another replica's file may compress where this one's does not.
            self.decompress = zstd.decompress
            self.compress = None if config.compress is None else zstd.compress

    @property
    def up(self) -> bool:
        return self._guard.up

    async def get(self, key: bytes) -> bytes | None:
        full = self._prefix + key
        try:
            value: bytes | None = await self._guard.call(
                "get", lambda: self._redis.value("GET", full)
            )
        except StoreDown:
            return None
        self._guard.count("get", "miss" if value is None else "hit")
        return value

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        full = [self._prefix + key for key in keys]
        try:
            values: list[bytes | None] = await self._guard.call(
                "get_many", lambda: self._redis.values(full)
            )
        except StoreDown:
            return [None] * len(keys)
        self._guard.count("get_many", "hit" if any(v is not None for v in values) else "miss")
        return values

    async def set(self, key: bytes, value: bytes, ttl_s: float) -> None:
        full, ttl = self._prefix + key, _milliseconds(ttl_s)
        try:
            await self._write("set", lambda: self._redis.value("SET", full, value, "PX", ttl))
        except StoreDown:
            pass

    async def delete(self, key: bytes) -> None:
        full = self._prefix + key
        try:
            # Allowed to a Redis that is full, so it is no write in the guard's sense.
            await self._guard.call("delete", lambda: self._redis.ask("DEL", full))
        except StoreDown:
            return
        self._guard.count("delete", "ok")

    async def add(self, key: bytes, value: bytes, ttl_s: float) -> bool:
        full, ttl = self._prefix + key, _milliseconds(ttl_s)
        return bool(
            await self._write("add", lambda: self._redis.ask("SET", full, value, "PX", ttl, "NX"))
        )

    async def extend(self, key: bytes, value: bytes, ttl_s: float) -> bool:
        arguments = (self._prefix + key, value, _milliseconds(ttl_s))
        return bool(
            await self._write("extend", lambda: self._redis.ask("EVAL", _EXTEND, 1, *arguments))
        )

    async def compare_delete(self, key: bytes, value: bytes) -> bool:
        arguments = (self._prefix + key, value)
        try:
            deleted = await self._guard.call(
                "compare_delete", lambda: self._redis.ask("EVAL", _COMPARE_DELETE, 1, *arguments)
            )
        except StoreDown:
            return False
        self._guard.count("compare_delete", "ok")
        return bool(deleted)

    async def increment(self, key: bytes) -> int:
        full = self._prefix + key
        return int(
            await self._write("increment", lambda: self._redis.ask("EVAL", _INCREMENT, 1, full))
        )

    async def run(self, script: str, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Any:
        digest = self._scripts.get(script)
        if digest is None:
            digest = sha1(script.encode(), usedforsecurity=False).hexdigest()
            self._scripts[script] = digest
        words = (len(keys), *[self._prefix + key for key in keys], *args)

        async def work() -> Any:
            try:
                return await self._redis.ask("EVALSHA", digest, *words)
            except NoScriptError:  # of a Redis that was restarted, or another node
                return await self._redis.ask("EVAL", script, *words)

        return await self._write("run", work)

    async def close(self) -> None:
        """Ends what is under way; no call passes any more. Never raises."""
        await self._guard.close()
        try:
            await self._redis.close()
        except (RedisError, OSError):
            log.exception("store %s could not be closed", self.name)

    async def _write(self, call: str, work: Callable[[], Any]) -> Any:
        value = await self._guard.call(call, work, write=True)
        self._guard.count(call, "ok")
        return value

    async def _trial(self) -> None:
        """Raises where Redis does not answer; one that only refuses writes does."""
        try:
            await self._redis.ask("SET", self._prefix + b"trial", b"", "PX", 1000)
        except Exception as error:
            if not self._refuses_writes(error):
                raise

    def _refuses_writes(self, error: Exception) -> bool:
        """Memory or disk is full, replicas are missing, or this is a replica: with sentinels one
        that is the master no more, so they are to be asked again.
        """
        if isinstance(error, OutOfMemoryError):
            return True
        if isinstance(error, ReadOnlyError):
            return not self._follows
        told = str(error)
        # Redis 6 wraps what a script met into a text of its own.
        return isinstance(error, ResponseError) and (
            told.startswith(("MISCONF ", "NOREPLICAS ")) or "-OOM command not allowed" in told
        )


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
