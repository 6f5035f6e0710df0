"""Where log lines go: standard error, as text or JSON, bounded in length.

A record is one line. In text the further lines of a traceback are indented.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

import orjson

MAX_LINE = 8 * 1024
"""Characters of one log message; a traceback counts in."""


class _Bounded(logging.Formatter):
    def message(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if len(text) <= MAX_LINE:
            return text
        # A traceback ends with what went wrong and begins with where: its middle is the least.
        return f"{text[: MAX_LINE // 2]} [cut] {text[-MAX_LINE // 2 :]}"

    def when(self, record: logging.LogRecord) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def json(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {"message": self.message(record)}
        if isinstance(record.msg, dict) and getattr(record.msg, "style", None) != "text":
            told = record.msg  # its fields are known: middleware.access_log
        line = {"time": self.when(record), "level": record.levelname.lower(), **told}
        try:
            return orjson.dumps(line).decode()
        except TypeError:  # a lone surrogate: the name of a file may hold bytes that are not UTF-8
            return json.dumps(line, default=str)


class TextFormatter(_Bounded):
    def format(self, record: logging.LogRecord) -> str:
        if getattr(record.msg, "style", None) == "json":
            return self.json(record)
        # Only a record begins at the margin: a message with a line end in it cannot forge one.
        message = "\n    ".join(self.message(record).splitlines())
        return f"{self.when(record)} {record.levelname.lower()} {message}"


class JsonFormatter(_Bounded):
    def format(self, record: logging.LogRecord) -> str:
        return self.json(record)


def set_up(level: str, style: str) -> None:
    """level: `debug` to `error`. style: `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("remora").setLevel(level.upper())
