"""A file, or the flags that stand for one, as a Config; every mistake in it at once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .config import DEFAULT_ADMIN, Config
from .file import checks, document, mistakes
from .file.document import WHOLE, Document, Position, Unreadable
from .file.mistakes import Found
from .file.mistakes import Mistake as Mistake
from .units import IN_FILE


class ConfigError(Exception):
    """A file that cannot be used. `mistakes`: all of them, in the order of their places."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = sorted(mistakes, key=lambda one: (one.line, one.col, one.path))
        super().__init__("\n".join(str(one) for one in self.mistakes))


def load(path: str | Path, env: Mapping[str, str] = os.environ) -> Config:
    """Reads the file at `path`. `env`: what `${NAME}` stands for. Raises ConfigError."""
    name = str(path)
    try:
        with Path(path).open("rb") as file:
            content = file.read(document.MAX_BYTES + 1)
        if len(content) > document.MAX_BYTES:
            raise Unreadable("the file is over 1MiB", Position(1, 1))
        return load_text(content.decode("utf-8-sig"), name, env)
    except OSError as error:
        raise _only(name, Position(1, 1), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise _only(name, Position(line, column), "not UTF-8 text") from None
    except Unreadable as error:
        raise _only(name, error.at, str(error)) from None


def load_text(text: str, name: str, env: Mapping[str, str] = os.environ) -> Config:
    """Reads YAML. `name`: what mistakes call the file. Raises ConfigError."""
    try:
        read = document.read(text, env)
    except Unreadable as error:
        raise _only(name, error.at, str(error)) from None
    config, found = _validate(read)
    before = [Found(path, at, message) for path, at, message in read.mistakes]
    # What a value should have been cannot be said where the value itself could not be read.
    places = {(one.path, one.at) for one in before}
    found = before + [one for one in found if (one.path, one.at) not in places]
    if found or config is None:
        raise ConfigError(
            [
                Mistake(name, one.at.line, one.at.column, mistakes.written(one.path), one.message)
                for one in dict.fromkeys(found)
            ]
        )
    return config


def default_config(
    upstream_url: str, listen: str | None = None, admin: str | None = DEFAULT_ADMIN
) -> Config:
    """What `serve --upstream` runs: one upstream, everything to it. admin None: off.

    Raises ConfigError, whose mistakes name the flag.
    """
    data: dict[str, Any] = {"upstreams": {"default": {"endpoints": [upstream_url]}}}
    data["admin"] = "off" if admin is None else admin
    if listen is not None:
        data["listen"] = listen
    config, found = _validate(Document.of(data))
    if found or config is None:
        raise ConfigError([Mistake("command line", 0, 0, _flag(one), one.message) for one in found])
    return config


def _flag(found: Found) -> str:
    key = found.path[0] if found.path else "upstreams"
    return f"--{key}" if key in ("listen", "admin") else "--upstream"


def _only(name: str, at: Position, message: str) -> ConfigError:
    return ConfigError([Mistake(name, at.line, at.column, mistakes.written(WHOLE), message)])


def _validate(read: Document) -> tuple[Config | None, list[Found]]:
    """The Config, or None; and what is wrong, also where there is a Config."""
    first: dict[document.Path, list[Found]] = {}
    while True:
        config, found = _schema_mistakes(read)
        # A scalar with two readings is wrong only when both are: the field tells which is meant.
        swaps = {one.path for one in found if one.path in read.others}
        if not swaps:
            break
        for path in swaps:
            first[path] = [one for one in found if one.path == path]
            read.swap(path)
    told: list[Found] = []
    for one in found:
        told += first.get(one.path, [one])
    if isinstance(read.data, dict):
        told += [
            Found(path, mistakes.place(read, path), message)
            for path, message in checks.check(read.data)
        ]
    return config, list(dict.fromkeys(told))


def _schema_mistakes(read: Document) -> tuple[Config | None, list[Found]]:
    try:
        # JSON's rules: text is no number and true is no 1, but a path or a network is text.
        config = Config.model_validate_json(json.dumps(read.data), strict=True, context=IN_FILE)
        return config, []
    except ValidationError as error:
        errors = error.errors(include_url=False)
        return None, list(mistakes.together(mistakes.explain(errors, read, Config)))
