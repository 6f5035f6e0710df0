"""Where log lines go: standard error, one line each, as text or JSON, bounded in length."""

from __future__ import annotations

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
        return text if len(text) <= MAX_LINE else text[:MAX_LINE] + " [cut]"

    def when(self, record: logging.LogRecord) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class TextFormatter(_Bounded):
    def format(self, record: logging.LogRecord) -> str:
        return f"{self.when(record)} {record.levelname.lower()} {self.message(record)}"


class JsonFormatter(_Bounded):
    def format(self, record: logging.LogRecord) -> str:
        # A message that is a mapping already has its fields: middleware.access_log logs such.
        told = record.msg if isinstance(record.msg, dict) else {"message": self.message(record)}
        line = {"time": self.when(record), "level": record.levelname.lower(), **told}
        return orjson.dumps(line).decode()


def set_up(level: str, style: str) -> None:
    """level: `debug` to `error`. style: `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("remora").setLevel(level.upper())
