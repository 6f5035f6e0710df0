"""The lines that `access_log` writes."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from middleware.access_log import MAX_FIELD, MAX_PATH, AccessLog, AccessLogConfig, printable
from proxy.errors import ConnectFailed, UpstreamClosed
from proxy.exchange import Identity, Outcome, Request, Response
from proxy.logs import MAX_LINE, JsonFormatter, TextFormatter
from tests.contract.layers import Refuses, named
from tests.contract.road import (
    LAST_CHUNK,
    SSE_HEAD,
    ModelServer,
    chunk,
    client,
    event,
    post,
    remora,
)

LINE = (
    "access client=10.0.0.1 method=POST path=/v1/chat/completions route=chat status=200 bytes=437 "
    "first_byte_ms=12.0 duration_ms=250.0 request_id=7f"
)


class House:
    """An Env whose clock the test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now


class ChatRoute:
    name = "chat"
    upstream = "default"


async def write(
    caplog: pytest.LogCaptureFixture,
    *,
    target: bytes = b"/v1/chat/completions?key=secret",
    method: bytes = b"POST",
    client: str = "10.0.0.1",
    headers: tuple[tuple[bytes, bytes], ...] = ((b"X-Request-ID", b"7f"),),
    outcome: Outcome | None = None,
    identity: Identity | None = None,
    **keys: Any,
) -> list[logging.LogRecord]:
    """What one exchange, a quarter of a second long, leaves in the log."""
    caplog.set_level(logging.INFO, "remora.access")
    house = House()
    layer = AccessLog(AccessLogConfig(**keys), house)  # type: ignore[arg-type]

    async def upstream(request: Request) -> Response:
        return Response(200, [])

    request = Request(method, target, list(headers), b"a prompt", client=client, received_at=100.0)
    request.outcome = outcome or ended()
    request.identity = identity
    await layer.bind(ChatRoute(), upstream)(request)
    assert not caplog.records, "the exchange has not ended yet"
    house.now = 100.25
    request.finish()
    return caplog.records


def ended(status: int = 200, **fields: Any) -> Outcome:
    outcome = Outcome()
    outcome.status = status
    outcome.bytes_sent = 437
    outcome.first_byte = 100.012
    for name, value in fields.items():
        setattr(outcome, name, value)
    return outcome


async def test_a_line_tells_an_exchange(caplog: pytest.LogCaptureFixture) -> None:
    """One line at `info`, at the end of the exchange; neither query nor body nor headers in it."""
    (record,) = await write(caplog)
    assert (record.name, record.levelno) == ("remora.access", logging.INFO)
    assert TextFormatter().format(record).partition(" info ")[2] == LINE


async def test_json_has_the_fields_as_keys(caplog: pytest.LogCaptureFixture) -> None:
    """Beside the log's own `time`, `level` and `message`; numbers are numbers."""
    (record,) = await write(caplog)
    line = json.loads(JsonFormatter().format(record))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert line == {
        "level": "info", "message": "access", "client": "10.0.0.1", "method": "POST",
        "path": "/v1/chat/completions", "route": "chat", "status": 200, "bytes": 437,
        "first_byte_ms": 12.0, "duration_ms": 250.0, "request_id": "7f",
    }  # fmt: skip


async def test_it_may_look_different_from_the_rest_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`format: json` gives whole JSON lines in a log of text; `text` one message in one of JSON."""
    (record,) = await write(caplog, format="json")
    line = json.loads(TextFormatter().format(record))
    assert (line["level"], line["path"]) == ("info", "/v1/chat/completions")
    caplog.clear()
    (record,) = await write(caplog, format="text")
    assert json.loads(JsonFormatter().format(record))["message"] == LINE
    assert TextFormatter().format(record).endswith(LINE)


async def test_an_end_before_its_time_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """The error by its code, and that the client left; what never was is left out."""
    outcome = ended(0, first_byte=None, bytes_sent=0, cancelled=True, error=UpstreamClosed("no"))
    (record,) = await write(caplog, headers=(), client="", outcome=outcome)
    assert record.getMessage() == (
        "access method=POST path=/v1/chat/completions route=chat status=0 bytes=0 "
        "duration_ms=250.0 cancelled=true error=upstream_closed"
    )
    assert json.loads(JsonFormatter().format(record))["cancelled"] is True


async def test_who_asked_and_where_it_failed_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """The name of the key that `auth` found, and what an error keeps from the client."""
    error = ConnectFailed("cannot connect", detail="http://10.0.0.7:8000: refused")
    outcome = ended(502, error=error)
    (record,) = await write(caplog, outcome=outcome, identity=Identity("team-search"))
    assert record.getMessage().endswith(
        "request_id=7f key=team-search error=upstream_connect_failed "
        'detail="http://10.0.0.7:8000: refused"'
    )
    assert json.loads(JsonFormatter().format(record))["key"] == "team-search"


async def test_the_query_is_written_where_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    """`query: true` gives the target as it came; in quotes, for it holds an equals sign."""
    (record,) = await write(caplog, query=True)
    assert ' path="/v1/chat/completions?key=secret" ' in record.getMessage()


@pytest.mark.parametrize(
    ("outcome", "written"),
    [
        (ended(200), False),
        (ended(304), False),
        (ended(400), True),
        (ended(503), True),
        (ended(200, cancelled=True), True),
        (ended(200, error=UpstreamClosed("no")), True),
        (ended(0, cancelled=True), True),
    ],
    ids=["200", "304", "400", "503", "left", "broken-off", "left-early"],
)
async def test_only_errors_may_be_wanted(
    outcome: Outcome, written: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """`when: errors` keeps what failed, was refused or was left."""
    assert bool(await write(caplog, outcome=outcome, when="errors")) is written


EVIL = b'/a"b\\c=d\r\n2026-01-01 info access status=200\x1b[2J\x00\x7f\xff\xc2\x85'


async def test_nobody_forges_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever bytes come in any field, the line is one, printable, and its pairs stay apart."""
    evil = EVIL.decode("latin-1")
    error = UpstreamClosed("no", code=evil, detail=evil)
    (record,) = await write(
        caplog, target=EVIL, method=EVIL, client=evil, headers=((b"x-request-id", EVIL),),
        outcome=ended(200, error=error), query=True, identity=Identity(evil),
    )  # fmt: skip
    text = TextFormatter().format(record)
    assert text.isascii() and text.isprintable()
    pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^" =]+)(?: |$)', record.getMessage()[7:])
    assert [key for key, _ in pairs] == [
        "client", "method", "path", "route", "status", "bytes", "first_byte_ms", "duration_ms",
        "request_id", "key", "error", "detail",
    ]  # fmt: skip
    assert dict(pairs)["status"] == "200"
    told = json.loads(JsonFormatter().format(record))
    assert told["path"] == (
        r"/a" + '"' + r"b\\c=d\r\n2026-01-01 info access status=200\x1b[2J\x00\x7f\xff\xc2\x85"
    )


async def test_a_line_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """However long the fields and however many of their bytes are escaped, no line is cut."""
    long = b"\xff" * 65536
    (record,) = await write(
        caplog, target=b"/" + long, method=long, client="\xff" * 65536,
        headers=((b"x-request-id", long),), query=True,
        outcome=ended(200, error=UpstreamClosed("no", code="\xff" * 65536, detail="\xff" * 65536)),
        identity=Identity("\xff" * 65536),
    )  # fmt: skip
    assert len(record.getMessage()) < MAX_LINE
    told = record.msg
    assert told["path"] == "/" + r"\xff" * (MAX_PATH - 1) + "..."
    for field in ("method", "request_id"):
        assert told[field] == r"\xff" * MAX_FIELD + "..."
    for field in ("client", "key", "error", "detail"):
        assert told[field] == r"\xc3\xbf" * (MAX_FIELD // 2) + "..."


def test_printable_cuts_before_it_escapes() -> None:
    """No escape is cut in two, and a value of just the bound is not marked as cut."""
    assert printable(b"\xff" * 4, 3) == r"\xff\xff\xff..."
    assert printable(b"abc", 3) == "abc"
    assert printable("é".encode(), 9) == r"\xc3\xa9"


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer().listening() as server:
        yield server


async def test_it_sees_what_really_left(
    model: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Through the road: a line for a stream, for a client that left, and for a refusal."""
    caplog.set_level(logging.INFO, "remora.access")
    refuses = named(Refuses)
    routes = [{"name": "no", "match": {"path": "/no"}, "chain": ["access_log", refuses]}, {}]
    async with remora(model.url, ["access_log"], routes=routes) as server:
        async with client(server) as user:
            await user.send(post("/v1/chat/completions"))
            await (await model.asked()).send(SSE_HEAD + chunk(event("1")) + LAST_CHUNK)
            await user.read_answer()
            await user.send(post("/no"))
            _, refusal = await user.read_answer()
            await user.send(post("/v1/chat/completions"))
            asked = await model.asked()
            await asked.send(SSE_HEAD + chunk(event("1")))
            await user.until(event("1"))
        await asked.closed()
    lines = [record.msg for record in caplog.records if record.name == "remora.access"]
    size = len(event("1"))
    assert [
        (one["route"], one["status"], one["bytes"], one.get("cancelled"), one.get("error"))
        for one in lines
    ] == [
        ("/*", 200, size, None, None),
        ("no", 429, len(refusal), None, "too_many_cats"),
        ("/*", 200, size, True, None),
    ]
    for one in lines:
        assert one["client"] == "127.0.0.1"
        assert 0 <= one["first_byte_ms"] <= one["duration_ms"]
