"""What stands on standard error."""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path

import pytest

from proxy.logs import MAX_LINE, JsonFormatter, TextFormatter

from .client import Client, get, listening
from .conftest import Serve

WHEN = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"
RAISES = '["tests.lifecycle.layers:Raises"]'


def record(message: str, *arguments: object, error: Exception | None = None) -> logging.LogRecord:
    """A warning, with the traceback of `error`."""
    info = None
    if error is not None:
        try:
            raise error
        except Exception:
            info = sys.exc_info()
    return logging.LogRecord("remora", logging.WARNING, "here", 1, message, arguments, info)


def test_text() -> None:
    """A record is one line: when, in UTC to the millisecond, how grave, and what."""
    line = TextFormatter().format(record("%d of %s", 2, "three"))
    assert re.fullmatch(WHEN + " warning 2 of three", line)


def test_json() -> None:
    """A record is one JSON object on one line, a traceback in it."""
    line = JsonFormatter().format(record("two\nlines", error=ValueError("why")))
    told = json.loads(line)
    assert "\n" not in line
    assert re.fullmatch(WHEN, told["time"]) and told["level"] == "warning"
    assert told["message"].startswith("two\nlines\nTraceback")
    assert told["message"].endswith("ValueError: why")


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x0b", "\x85", "\u2028"])
def test_text_cannot_be_forged(end: str) -> None:
    """A message with a line end in it does not make a line that looks like another record."""
    forged = f"name{end}2026-01-01T00:00:00.000+00:00 error forged"
    for line in (
        TextFormatter().format(record(forged)),
        TextFormatter().format(record("failed", error=ValueError(forged))),
    ):
        assert all(part.startswith("    ") for part in line.splitlines()[1:])
        assert "error forged" in line


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_bounded(formatter: logging.Formatter) -> None:
    """A message of a megabyte is cut in its middle: where it began and how it ended stay."""
    line = formatter.format(record("begun", error=ValueError("x" * 1_000_000 + "ended")))
    assert len(line) < MAX_LINE + 1000
    assert "begun" in line and "[cut]" in line and "ended" in line


def test_bytes_that_are_no_text() -> None:
    """The name of a file may hold bytes that are not UTF-8: it is logged all the same."""
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert json.loads(JsonFormatter().format(record("no %s", name)))["message"] == f"no {name}"


@pytest.mark.parametrize("style", ["text", "json"])
async def test_a_layer_that_raises(serve: Serve, style: str) -> None:
    """The client gets 500 in its API's dialect and no traceback; the log gets one per request."""
    remora = await serve(chain=RAISES, log=f"{{format: {style}}}")
    (address,) = await remora.serving()
    async with await Client.to(address) as client:
        openai = await client.get("/v1/models")
        tgi = await client.get("/generate", "POST", b"{}")
        assert (openai.status, tgi.status) == (500, 500)
    told = json.loads(openai.body)["error"]
    assert told["code"] == "internal_error"
    assert set(told) == {"message", "type", "code", "param"}
    assert {"error", "error_type"} <= set(json.loads(tgi.body))
    assert b"a bug" not in openai.body + tgi.body
    remora.send()
    assert await remora.ended() == 0
    log = "\n".join(remora.lines)
    assert log.count("Traceback (most recent call last)") == 2
    assert log.count("LookupError: a bug") == 2
    if style == "json":
        levels = [json.loads(line)["level"] for line in remora.lines]
        assert levels.count("error") == 2


async def test_level(serve: Serve, room: Path) -> None:
    """`log.level` leaves out what is less severe."""
    path = room / "client"
    remora = await serve(chain=RAISES, log="{level: error}", listen=f"unix:{path}")
    await listening(f"unix:{path}")
    assert (await get(f"unix:{path}")).status == 500
    remora.send()
    assert await remora.ended() == 0
    assert re.fullmatch(WHEN + r" error route \S+ failed", remora.lines[0])
    assert not any(" info " in line for line in remora.lines)
