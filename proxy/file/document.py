"""YAML text as plain data, with the line and column of every key and value.

Scalars are read by YAML 1.2's rules (`010` and `1:30` are no numbers), except that `yes`, `no`,
`on` and `off` may also be booleans. `${NAME}` is put in after parsing, so that no value of the
environment can change the structure of a file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 1024 * 1024
MAX_NODES = 10_000
_MAX_DEPTH = 50

Path = tuple[str | int, ...]

WHOLE: Path = ()


@dataclass(frozen=True, order=True)
class Position:
    """Line and column, both from 1; 0 where there is no file."""

    line: int
    column: int


class Unreadable(Exception):
    """The text is not YAML, or more of it than remora reads. Nothing else can be said of it."""

    def __init__(self, message: str, at: Position) -> None:
        super().__init__(message)
        self.at = at


@dataclass
class Document:
    """data: dicts, lists and scalars. keys, values: where each stands, by its path.

    others: for a scalar that can be read in two ways, the way that `data` does not show.
    mistakes: what is wrong though it is YAML, as (path, position, message).
    """

    data: Any = None
    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)
    others: dict[Path, Any] = field(default_factory=dict)
    mistakes: list[tuple[Path, Position, str]] = field(default_factory=list)

    @classmethod
    def of(cls, data: Any) -> Document:
        """A document that no file holds: every place in it is 0:0."""
        document = cls(data)
        _places(data, WHOLE, document.values)
        return document

    def swap(self, path: Path) -> None:
        """Show the other way to read the scalar at `path`."""
        other = self.others.pop(path)
        if not path:
            self.data = other
            return
        holder = self.data
        for part in path[:-1]:
            holder = holder[part]
        holder[path[-1]] = other


def _places(data: Any, path: Path, places: dict[Path, Position]) -> None:
    places[path] = Position(0, 0)
    if isinstance(data, dict):
        for key, value in data.items():
            _places(value, (*path, key), places)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            _places(value, (*path, index), places)


def read(text: str, env: Mapping[str, str]) -> Document:
    """Raises Unreadable; every other mistake is in the Document."""
    if len(text) > MAX_BYTES:
        raise Unreadable("the file is over 1MiB", Position(1, 1))
    try:
        composer = _Composer(text)
        try:
            root = composer.get_single_node()
        finally:
            composer.dispose()
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = len(before) - (before.rfind("\n") + 1) + 1
        at = Position(before.count("\n") + 1, column)
        raise Unreadable(f"the character #x{error.character:04x} may not stand here", at) from None
    except yaml.MarkedYAMLError as error:
        told = _told(error.problem or "it cannot be parsed")
        if error.problem_mark is not None and told.startswith("expected ',' or"):
            line, column = error.problem_mark.line, error.problem_mark.column
            if "${" in "".join(text.splitlines()[line : line + 1])[: column + 1]:
                told += "; between braces or brackets a `${NAME}` needs quotes"
        raise Unreadable(f"not YAML: {told}", _position(error.problem_mark)) from None
    if root is None:
        raise Unreadable("the file is empty", Position(1, 1))
    builder = _Builder(env)
    builder.document.data = builder.build(root, WHOLE)
    return builder.document


_PROBLEMS = {
    "expected <block end>": "the indentation does not fit the lines above",
    "mapping values are not allowed here": "a second `:` on a line; quote the value",
    "could not find expected ':'": "a `:` is missing after the key",
    "found character '\\t'": "indent with spaces, not with tabs",
    "second occurrence": "this anchor (`&`) was given before",
    "but found another document": "one file holds one document",
}


def _told(problem: str) -> str:
    for start, words in _PROBLEMS.items():
        if problem.startswith(start):
            return words
    return problem


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1) if mark is not None else Position(1, 1)


class _Composer(yaml.SafeLoader):
    """PyYAML's, with a bound on how much and how deep, and without tags."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._count += 1
        self._depth += 1
        if self._count > MAX_NODES:
            raise Unreadable(f"more than {MAX_NODES} values", _position(event.start_mark))
        if self._depth > _MAX_DEPTH:
            raise Unreadable(f"nested deeper than {_MAX_DEPTH}", _position(event.start_mark))
        if getattr(event, "tag", None) is not None:
            raise Unreadable(f"the tag `{event.tag}` is not read", _position(event.start_mark))
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Builder:
    """Nodes to data. An alias is built anew wherever it stands: each place has its own path."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.document = Document()
        self._env = env
        self._count = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        at = _position(node.start_mark)
        self._count += 1
        if self._count > MAX_NODES:
            raise Unreadable(f"its aliases make more than {MAX_NODES} values", at)
        if len(path) > _MAX_DEPTH:
            raise Unreadable(f"its aliases nest deeper than {_MAX_DEPTH}", at)
        scalar = isinstance(node, yaml.ScalarNode)
        # What holds others is named by its key: its own place is that of its first child.
        self.document.values[path] = at if scalar else self.document.keys.get(path, at)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in node.value:
            at = _position(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(path, at, "a key is text, not a list or a mapping")
                continue
            if key.value == "<<" and key.style is None:
                self._wrong(path, at, "merge keys (`<<`) are not read; write the keys out")
                continue
            name = self._substituted(key.value, path, at)
            here = (*path, name)
            if name in result:
                first = self.document.keys[here]
                self._wrong(here, at, f"written twice; first on line {first.line}")
                continue
            self.document.keys[here] = at
            result[name] = self.build(value, here)
        return result

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text: str = self._substituted(node.value, path, self.document.values[path])
        plain = node.style is None
        typed = _typed(text)
        if text != node.value:
            # The field decides: a key may hold digits alone, and flow style needs the quotes.
            # An empty variable is never null: a key that was to be set would count as left out.
            typed = text if typed is None else typed
            shown, other = (typed, text) if plain else (text, typed)
        elif plain:
            shown, other = typed, _WORDS.get(text.lower(), typed)
        else:
            return text
        if shown is not other:
            self.document.others[path] = other
        return shown

    def _substituted(self, text: str, path: Path, at: Position) -> str:
        def one(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            if match["name"] is None:
                self._wrong(
                    path, at, "`${` begins `${NAME}` or `${NAME:-default}`; write `$${` for itself"
                )
                return match[0]
            value = self._env.get(match["name"], "")
            # As in a shell: `:-` also stands in for a variable that is empty.
            if match["default"] is not None:
                return value or match["default"]
            if match["name"] not in self._env:
                self._wrong(path, at, f"the environment has no `{match['name']}`")
            return value

        text = _REFERENCE.sub(one, text) if "${" in text else text
        if any("\ud800" <= character <= "\udfff" for character in text):
            self._wrong(path, at, "holds bytes that are not UTF-8 text")
            return ""
        return text

    def _wrong(self, path: Path, at: Position, message: str) -> None:
        self.document.mistakes.append((path, at, message))


_REFERENCE = re.compile(
    r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})?"
)
_WORDS = {"yes": True, "on": True, "no": False, "off": False}
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


def _typed(text: str) -> Any:
    """What a plain scalar means (YAML 1.2.2 section 10.3.2, decimal numbers alone)."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text in ("true", "True", "TRUE")
    if re.fullmatch(r"[-+]?[0-9]{1,18}", text):
        # A leading zero is octal to some and decimal to others: it stays text.
        return text if re.match(r"[-+]?0[0-9]", text) else int(text)
    if len(text) < 40 and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text
