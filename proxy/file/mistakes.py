"""What is wrong with a file, in plain words, with the place where it stands."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from .document import WHOLE, Document, Path, Position
from .layer import MISTAKES_IN_LAYER

_FEW = 8


@dataclass(frozen=True)
class Mistake:
    """One thing to correct. line and col count from 1; 0 for what stands in no file."""

    file: str
    line: int
    col: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.col}" if self.line else self.file
        return f"{where}: {self.path}: {' '.join(self.message.split())}"


def written(path: Path) -> str:
    """`upstreams.default.endpoints[0]`; keys that are no plain word in quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[\w-]+", part) else repr(part)
            text += f".{name}" if text else name
    return text or "(file)"


def place(document: Document, path: Path) -> Position:
    """Where the value at `path` stands, or the nearest thing that is written around it."""
    while path and path not in document.values:
        path = path[:-1]
    return document.values.get(path, Position(0, 0))


@dataclass(frozen=True)
class Found:
    """A mistake that the schema found. path: as far as the file has it."""

    path: Path
    at: Position
    message: str


def explain(
    errors: Sequence[Any], document: Document, model: type[BaseModel], base: Path = WHOLE
) -> Iterator[Found]:
    """pydantic's errors of `model`, which stands at `base`, one Found each."""
    for error in errors:
        loc = error["loc"]
        if error["type"] == MISTAKES_IN_LAYER:
            context = error["ctx"]
            below = (*_in_file(document, base, loc), context["name"])
            yield from explain(context["mistakes"], document, context["model"], below)
            continue
        path = _in_file(document, base, loc)
        at = place(document, path)
        if error["type"] == "missing":
            path = (*_in_file(document, base, loc[:-1]), loc[-1])
            message = "this key is missing, and it has no default"
        elif error["type"] == "extra_forbidden":
            at = document.keys.get(path, at)
            message = _unknown_key(str(loc[-1]), _model_at(model, loc[:-1]))
        else:
            message = _plain(error)
        yield Found(path, at, message)


def together(found: Iterable[Found]) -> Iterator[Found]:
    """One Found for each place: several at one are the arms of a union, and each says what would
    do. An arm of another kind says nothing where the value was read as that of a third.
    """
    by_place: dict[tuple[Path, Position], list[str]] = {}
    for one in found:
        by_place.setdefault((one.path, one.at), []).append(one.message)
    above = {path[:end] for path, _ in by_place for end in range(len(path))}
    for (path, at), told in by_place.items():
        wanted = [_WANTED.fullmatch(one) for one in told]
        if path in above or not all(wanted):
            told = [
                one
                for one, match in zip(told, wanted, strict=True)
                if match is None or match["kind"] is None
            ]
        elif len(told) > 1:
            near = "".join(match["near"] or "" for match in wanted if match is not None)
            arms = ", or ".join(match["what"] for match in wanted if match is not None)
            told = [f"{arms} is expected{near}"]
        if told:
            yield Found(path, at, ", or ".join(told))


_WANTED = re.compile(
    r"(?P<what>.*) is expected(?P<kind>, (?:not|but) [\w ]+)?(?P<near>; did you mean .*)?"
)


def _in_file(document: Document, base: Path, loc: Sequence[str | int]) -> Path:
    """pydantic also names what no file has: the arms of a union, the list around a lone value."""
    path = base
    for part in loc:
        if (*path, part) in document.values:
            path = (*path, part)
    return path


def _unknown_key(key: str, model: type[BaseModel] | None) -> str:
    known = [field.alias or name for name, field in model.model_fields.items()] if model else []
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"unknown key; did you mean `{near[0]}`?"
    if known and len(known) <= _FEW:
        return f"unknown key; known here: {', '.join(known)}"
    return "unknown key" if known or model is None else "unknown key; no keys are known here"


def _model_at(kind: Any, loc: Sequence[str | int]) -> type[BaseModel] | None:
    """The model that stands at `loc` below `kind`, where the annotations tell.

    A part that is found in none of them names an arm of a union.
    """
    for part in loc:
        kind = _below(kind, part) or kind
    for arm in _arms(kind):
        if isinstance(arm, type) and issubclass(arm, BaseModel):
            return arm
    return None


def _below(kind: Any, part: str | int) -> Any:
    for arm in _arms(kind):
        if isinstance(arm, type) and issubclass(arm, BaseModel):
            for name, field in arm.model_fields.items():
                if part in (name, field.alias):
                    return field.annotation
        elif get_origin(arm) in (list, tuple, dict):
            return get_args(arm)[-1]
    return None


def _arms(kind: Any) -> list[Any]:
    if get_origin(kind) is Annotated:
        return _arms(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [one for arm in get_args(kind) for one in _arms(arm)]
    return [kind]


_EXPECTED = {
    "int": "a whole number is expected",
    "float": "a number is expected",
    "finite_number": "a number is expected",
    "bool": "true or false is expected",
    "string": "text is expected",
    "path": "a path is expected",
    "list": "a list is expected",
    "tuple": "a list is expected",
    "set": "a list is expected",
    "dict": "a mapping is expected",
    "model": "a mapping is expected",
    "dataclass": "a mapping is expected",
}
_BOUNDS = {
    "greater_than": "more than {gt} is expected",
    "greater_than_equal": "{ge} or more is expected",
    "less_than": "less than {lt} is expected",
    "less_than_equal": "{le} or less is expected",
    "multiple_of": "a multiple of {multiple_of} is expected",
    "string_too_short": "at least {min_length} characters are expected",
    "string_too_long": "at most {max_length} characters are expected",
    "string_pattern_mismatch": "text of the form {pattern} is expected",
}


def _plain(error: Any) -> str:
    """A message without the validator's jargon. Values are not shown: one may be a secret."""
    kind: str = error["type"]
    context: Mapping[str, Any] = error.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", error["msg"]))
    if kind in ("literal_error", "enum"):
        return _choice(error["input"], re.findall(r"'[^']*'|\d+", str(context["expected"])))
    if kind == "too_short":
        return (
            "at least one entry is expected"
            if context["min_length"] == 1
            else (f"at least {context['min_length']} entries are expected")
        )
    if kind == "too_long":
        return f"at most {context['max_length']} entries are expected"
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**{name: _whole(one) for name, one in context.items()})
    stem = re.sub(r"_(type|parsing|parsing_size|from_float|attributes_type)$", "", kind)
    if stem in _EXPECTED:
        return f"{_EXPECTED[stem]}, {_described(error['input'])}"
    told = str(error["msg"]).removeprefix("Input should be ")
    return told if told == error["msg"] else f"{told} is expected"


def _choice(value: Any, choices: list[str]) -> str:
    """choices: as Python writes them, text in quotes."""
    words = [one[1:-1] for one in choices if one.startswith("'")]
    plain = [one.strip("'") for one in choices]
    names = " or ".join(filter(None, [", ".join(plain[:-1]), plain[-1]]))
    number = isinstance(value, int) and not isinstance(value, bool)
    if number and len(words) < len(choices):
        return f"{names} is expected"  # another number
    if not isinstance(value, str) or (value in plain and value not in words):
        return f"{names} is expected, {_described(value)}"
    near = difflib.get_close_matches(value, words, n=1)
    return f"{names} is expected" + (f"; did you mean `{near[0]}`?" if near else "")


def _whole(bound: Any) -> Any:
    """1.0 as 1."""
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _described(value: Any) -> str:
    if value is None:
        return "but nothing is written"
    for kind, words in _KINDS:
        if isinstance(value, kind):
            return f"not {words}"
    return "not this"


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (int, "a number"),
    (float, "a fraction"),
    (str, "text"),
    (list, "a list"),
    (dict, "a mapping"),
)
