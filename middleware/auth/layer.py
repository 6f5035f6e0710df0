"""Lets those pass who have a key, and tells the other layers who they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from proxy.chain import Env, Handler, RouteInfo
from proxy.errors import ProxyError
from proxy.exchange import Headers, Request, Response

from .config import AuthConfig, Key, Replaced
from .keys import BadKeys, Holder, KeyTable, digests
from .models import may_use

log = logging.getLogger("remora")

Stamps = list[tuple[int, int, int] | None]

REALM = b'Bearer realm="remora"'
"""RFC 6750 section 3; a refusal of a key that was sent adds its error code."""


class MissingKey(ProxyError):
    """The request has no key (RFC 9110 section 15.5.2)."""

    status = 401
    code = "missing_key"


class InvalidKey(ProxyError):
    """The request has a key that nobody has, or more than one."""

    status = 401
    code = "invalid_key"


class Auth:
    """Looks the key up; takes it out of the request; names its holder on it."""

    Config: ClassVar[type] = AuthConfig
    before = (
        "rate_limit", "compress", "transcode", "cache", "prefetch", "aggregate", "concurrency",
        "retry", "circuit_breaker",
    )  # fmt: skip

    def __init__(self, config: AuthConfig, env: Env) -> None:
        self.config = config
        self._env = env
        self._table = KeyTable()
        self._fields = frozenset(name.encode() for name in config.headers)
        self._lengths = frozenset(map(len, self._fields))
        self._counts: dict[tuple[str, str, str], int] = {}
        self._holders = [(key, Holder.of(key)) for key in config.keys]
        self._stamps: Stamps = []

    async def start(self) -> None:
        """Raises BadKeys where a file of keys cannot be taken up."""
        if not self.config.enabled:
            return
        self._env.numbers(
            "counter",
            "auth_requests",
            "Requests by the key's name and what became of them; no name where none was known.",
            ("route", "key", "outcome"),
            lambda: list(self._counts.items()),
        )
        self._stamps = await asyncio.to_thread(self._look)
        await self._take_up()
        if any(key.file is not None for key in self.config.keys):
            self._env.background(self._watch(), "auth keys")

    async def stop(self) -> None:
        pass

    async def _take_up(self) -> None:
        keys = [key for key, _ in self._holders]
        found = await asyncio.to_thread(lambda: [digests(key) for key in keys])
        self._table.take(zip((holder for _, holder in self._holders), found, strict=True))
        if not len(self._table) and self.config.unknown == "refuse":
            log.warning("auth has no keys: it refuses everybody")

    async def _watch(self) -> None:
        """A file that cannot be taken up changes nothing: the old keys stay."""
        seen = refused = self._stamps
        while True:
            await asyncio.sleep(self.config.reread)
            before, seen = seen, await asyncio.to_thread(self._look)
            if seen == self._stamps or seen != before:
                continue  # as it was, or somebody may be amid writing it
            try:
                await self._take_up()
            except BadKeys as error:
                # Tried again each time: a disk may have failed, and no stamp tells of its return.
                if seen != refused:
                    log.error("the keys of auth stay as they were: %s", error)
                refused = seen
            else:
                self._stamps = seen
                log.info("auth took up its keys anew: there are %d", len(self._table))

    def _look(self) -> Stamps:
        return [_stamp(key) for key in self.config.keys]

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        if not self.config.enabled:
            return next
        name = route.name

        def count(holder: Holder | None, outcome: str) -> None:
            key = (name, holder.identity.name if holder is not None else "", outcome)
            self._counts[key] = self._counts.get(key, 0) + 1

        # No coroutine of its own where nothing is awaited: bench `costs`.
        def handle(request: Request) -> Awaitable[Response]:
            presented = self._presented(request.headers)
            holder = self._table.find(presented[0]) if len(presented) == 1 else None
            if holder is None:
                if self.config.unknown == "pass" and not self._one_of_ours(presented):
                    count(None, "passed")
                    return next(request)
                count(None, "refused")
                raise _refusal(presented)
            if holder.models is not None:
                return limited(request, holder)
            count(holder, "passed")
            self._admit(request, holder)
            return next(request)

        async def limited(request: Request, holder: Holder) -> Response:
            request.identity = holder.identity  # a log tells who was refused, too
            try:
                await may_use(request, holder, self.config.max_body)
            except ProxyError:
                count(holder, "refused")
                raise
            count(holder, "passed")
            self._admit(request, holder)
            return await next(request)

        return handle

    def _presented(self, headers: Headers) -> Sequence[bytes]:
        """The different keys that the request carries. An empty field is none."""
        found: list[bytes] = []
        for name, value in headers:
            if len(name) in self._lengths and (low := name.lower()) in self._fields:
                key = _bearer(value) if low == b"authorization" else value.strip(b" \t")
                if key and key not in found:
                    found.append(key)
        return found

    def _one_of_ours(self, presented: Sequence[bytes]) -> bool:
        """Whether a key that is known stands beside others: it is not for the server to see."""
        return len(presented) > 1 and any(map(self._table.find, presented))

    def _admit(self, request: Request, holder: Holder) -> None:
        identity = holder.identity
        request.tenant = identity.name
        request.identity = identity
        upstream = self.config.upstream
        if upstream == "keep":
            return
        gone = self._fields
        if isinstance(upstream, Replaced):
            gone |= {upstream.header.encode()}
        request.headers = [pair for pair in request.headers if pair[0].lower() not in gone]
        if isinstance(upstream, Replaced):
            value = upstream.value.get_secret_value().encode()
            request.headers.append((upstream.header.encode(), value))


def _bearer(value: bytes) -> bytes:
    """The token behind `Bearer` (RFC 6750 section 2.1), or what stands there instead."""
    scheme, _, token = value.strip(b" \t").partition(b" ")
    return token.strip(b" \t") if scheme.lower() == b"bearer" else value


def _refusal(presented: Iterable[bytes]) -> ProxyError:
    keys = list(presented)
    if not keys:
        return MissingKey(
            "a key is needed: send `Authorization: Bearer KEY`",
            headers=[(b"www-authenticate", REALM)],
        )
    challenge = [(b"www-authenticate", REALM + b', error="invalid_token"')]
    if len(keys) > 1:
        return InvalidKey("the request carries several keys: send one", headers=challenge)
    return InvalidKey("this key is not known here", headers=challenge)


def _stamp(key: Key) -> tuple[int, int, int] | None:
    """Of the change of anything: what was written may be as old and as long as what was there."""
    if key.file is None:
        return None
    try:
        stat = Path(key.file).stat()
    except OSError:
        return None
    return stat.st_ctime_ns, stat.st_size, stat.st_ino
