"""Requests sent at start, so that the first clients find their answers: the keys, and the work."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from proxy.chain import Env, Handler
from proxy.exchange import Headers, Request, Stream

MAX_WARM = 1000
"""Requests of a list or a file."""
MAX_FILE = 64 * 1024 * 1024
"""Bytes of a file of them."""
AT_ONCE = 4
"""Requests under way at once."""

log = logging.getLogger("remora")


def _method(value: str) -> str:
    if re.fullmatch(r"[A-Z]{1,20}", value) is None:
        raise ValueError("a method in capitals is expected, such as POST")
    return value


def _path(value: str) -> str:
    if re.fullmatch(r"/[!-~]*", value) is None:
        raise ValueError("a path begins with / and has neither spaces nor other than ASCII")
    return value


def _headers(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) is None:
            raise ValueError(f"`{name[:80]}` is not a header's name")
        if not text.isprintable() or not text.isascii():
            raise ValueError(f"the value of `{name}` is not printable ASCII")
        if name.lower() in ("content-length", "transfer-encoding", "connection"):
            raise ValueError(f"`{name}` is left to remora")
    return value


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no file `{path}`")
    return path


class WarmRequest(BaseModel):
    """One request to send at start."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    method: Annotated[str, AfterValidator(_method)] = Field("POST", description="Its method.")
    path: Annotated[str, AfterValidator(_path)] = Field(description="Its path, with any query.")
    body: Any = Field(None, description="Its body: JSON, or text that is sent as it is.")
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = Field(
        default_factory=dict,
        description="Its headers. Whose answer it is counts: with `share: tenant` give the "
        "credentials of whoever will ask.",
        json_schema_extra={"default": {}},
    )
    route: str | None = Field(
        None, description="The route it belongs to. Null: the only one that the layer is in."
    )

    def request(self, label: str) -> Request:
        """What a client would have sent."""
        body = b""
        if isinstance(self.body, str):
            body = self.body.encode()
        elif self.body is not None:
            body = orjson.dumps(self.body)
        headers: Headers = [(b"host", b"localhost")] if not self._has("host") else []
        headers += [(name.encode(), text.encode()) for name, text in self.headers.items()]
        if body:
            if not self._has("content-type"):
                headers.append((b"content-type", b"application/json"))
            headers.append((b"content-length", b"%d" % len(body)))
        request = Request(
            self.method.encode(), self.path.encode(), headers, body, received_at=monotonic()
        )
        request.declared = body
        request.label = label
        return request

    def _has(self, name: str) -> bool:
        return any(one.lower() == name for one in self.headers)


class WarmFile(BaseModel):
    """A file of requests to send at start."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    file: Annotated[Path, AfterValidator(_file)] = Field(
        description="Path of a JSON Lines file: one request in each line, with the same keys."
    )


Warm = Annotated[list[WarmRequest], Field(max_length=MAX_WARM)] | WarmFile


class Warmer:
    """handlers: the layer's own, by the name of the route. Failures are logged and counted."""

    def __init__(self, env: Env, handlers: dict[str, Handler]) -> None:
        self._handlers = handlers
        self._env = env
        counter = env.counter("cache_warmed", "Requests sent at start.", ["outcome"])
        self._count_ok = counter.labels("ok")
        self._count_failed = counter.labels("failed")
        self._total = self._done = self._failed = 0
        self._why = ""

    async def run(self, warm: Warm) -> None:
        """Sends all, AT_ONCE at a time."""
        if isinstance(warm, WarmFile):
            try:
                requests = await asyncio.to_thread(read, warm.file)
            except (OSError, ValueError) as error:
                log.error("cache: nothing is warmed: %s: %s", warm.file, error)
                return
        else:
            requests = warm
        self._total = len(requests)
        left = iter(requests)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, self._total)):
                group.create_task(self._some(left))
        level = logging.WARNING if self._failed else logging.INFO
        log.log(level, "cache: warmed %s%s", self._progress, self._why and f"; {self._why}")

    @property
    def _progress(self) -> str:
        told = f"{self._done - self._failed} of {self._total}"
        return f"{told}, {self._failed} failed" if self._failed else told

    async def _some(self, left: Iterator[WarmRequest]) -> None:
        for one in left:
            try:
                why = await self._send(one)
            except Exception as error:
                why = str(error) or type(error).__name__
            if why:
                self._failed += 1
                self._why = self._why or f"the first: {one.method} {one.path[:200]}: {why[:200]}"
                self._count_failed.inc()
            else:
                self._count_ok.inc()
            self._done += 1
            tenth = max(1, self._total // 10)
            if self._done % tenth == 0 and self._done < self._total:
                log.info("cache: warmed %s so far", self._progress)

    async def _send(self, one: WarmRequest) -> str:
        """Why it failed, or "". Raises what the handler raises."""
        name = one.route
        if name is None:
            if len(self._handlers) != 1:
                return "the layer is in several routes: give it a `route`"
            (name,) = self._handlers
        handler = self._handlers.get(name)
        if handler is None:
            return f"the layer is in no route `{name[:80]}`"
        request = one.request(name)
        try:
            response = await handler(request)
            request.outcome.status = response.status
            body = response.body
            if isinstance(body, Stream):
                try:
                    while await body.read():
                        pass
                finally:
                    body.abort()
        finally:
            request.finish()
        return "" if response.status < 400 else f"status {response.status}"


def read(path: Path) -> Sequence[WarmRequest]:
    """The requests of a JSON Lines file. Raises OSError, and ValueError with the line."""
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ValueError(f"more than {MAX_FILE} bytes")
    out: list[WarmRequest] = []
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        if len(out) == MAX_WARM:
            raise ValueError(f"more than {MAX_WARM} requests")
        try:
            out.append(WarmRequest.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"line {number}: {where}: {first['msg']}") from None
    return out
