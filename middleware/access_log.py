"""One line per exchange: who asked what, how it ended, and how long it took."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from proxy.chain import Env, Handler, RouteInfo
from proxy.exchange import Outcome, Request, Response

log = logging.getLogger("remora.access")

MAX_PATH = 1024
"""Bytes of a path, with its query where that is written; the rest is cut."""
MAX_FIELD = 128
"""Bytes of any other field that a client, a file or a layer chooses; the rest is cut."""


class AccessLogConfig(BaseModel):
    """Keys of `access_log`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="Whether anything is written.")
    when: Literal["all", "errors"] = Field(
        "all",
        description="`errors`: only exchanges that failed, were refused, or whose client left.",
    )
    format: Literal["text", "json"] | None = Field(
        None,
        description="`key=value` pairs, or a JSON object a line. Null: as `log.format` says.",
    )
    query: bool = Field(
        False, description="Write the query with the path. It may hold secrets and prompts."
    )


class AccessLog:
    """Writes to the logger `remora.access` at `info`."""

    Config: ClassVar[type] = AccessLogConfig

    def __init__(self, config: AccessLogConfig, env: Env) -> None:
        self._config = config
        self._clock = env.clock

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        if not self._config.enabled:
            return next
        name = printable(route.name.encode(), MAX_FIELD)
        ended = self._ended

        async def handle(request: Request) -> Response:
            request.on_end(partial(ended, request, name))
            return await next(request)

        return handle

    def _ended(self, request: Request, route: str, outcome: Outcome) -> None:
        failed = outcome.status >= 400 or outcome.error is not None or outcome.cancelled
        if failed or self._config.when == "all":
            asked = request.target if self._config.query else request.path
            fields = _fields(request, asked, route, outcome, self._clock())
            log.info(Line(fields, self._config.format))


class Line(dict[str, Any]):
    """One exchange. A JSON log takes the keys as its own; text has them as `key=value`.

    style: what `proxy.logs` is to make of it, whatever the rest of the log looks like; or None.
    """

    def __init__(self, fields: dict[str, Any], style: str | None) -> None:
        super().__init__(fields)
        self.style = style

    def __str__(self) -> str:
        return "access " + " ".join(
            f"{key}={_text(value)}" for key, value in self.items() if key != "message"
        )


def _fields(
    request: Request, asked: bytes, route: str, outcome: Outcome, now: float
) -> dict[str, Any]:
    """What is not known is left out, and `cancelled` and `error` where there is nothing to say."""
    fields: dict[str, Any] = {"message": "access"}
    if request.client:
        fields["client"] = printable(request.client.encode(), MAX_FIELD)
    fields["method"] = printable(request.method, MAX_FIELD)
    fields["path"] = printable(asked, MAX_PATH)
    fields["route"] = route
    fields["status"] = outcome.status
    fields["bytes"] = outcome.bytes_sent
    began = request.received_at
    if outcome.first_byte is not None:
        fields["first_byte_ms"] = round((outcome.first_byte - began) * 1000, 1)
    fields["duration_ms"] = round((now - began) * 1000, 1)
    request_id = request.header(b"x-request-id")
    if request_id is not None:
        fields["request_id"] = printable(request_id, MAX_FIELD)
    if request.identity is not None:
        fields["key"] = printable(request.identity.name.encode(), MAX_FIELD)
    if outcome.cancelled:
        fields["cancelled"] = True
    if (error := outcome.error) is not None:
        fields["error"] = printable(error.code.encode(errors="replace"), MAX_FIELD)
        if error.detail:
            fields["detail"] = printable(error.detail.encode(errors="replace"), MAX_FIELD)
    return fields


def printable(value: bytes, most: int) -> str:
    """At most `most` bytes of `value`, in printable ASCII.

    Every other byte is escaped, the backslash too: nobody can forge a line, or send a terminal
    that shows the log a command.
    """
    told = value[:most].decode("latin-1").encode("unicode_escape").decode("ascii")
    return told if len(value) <= most else told + "..."


def _text(value: Any) -> str:
    """In quotes where a reader of `key=value` pairs could take it for several."""
    if not isinstance(value, str):
        return "true" if value is True else str(value)
    if value and not set(value) & {" ", '"', "="}:
        return value
    return '"' + value.replace('"', '\\"') + '"'
