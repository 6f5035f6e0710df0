"""Values that carry a unit, secrets and header names: types for the keys of the file and of every
layer.

In a file a duration or a size is text with a unit, and a bare number is refused. Code may also
pass a number: seconds for a Duration, bytes for a Size.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic import WithJsonSchema as _Schema

_SECONDS = {
    "d": Decimal(86400),
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
_BYTES = {
    "GiB": 2**30,
    "GB": 10**9,
    "MiB": 2**20,
    "MB": 10**6,
    "KiB": 2**10,
    "kB": 10**3,
    "B": 1,
}

# [0-9], not \d: int() and Decimal() would read the digits of every script.
_DURATION = r"^[0-9]{1,30}(\.[0-9]{1,30})?(ms|s|m|h|d)$"
_SIZE = r"^[0-9]{1,15}(B|kB|MB|GB|KiB|MiB|GiB)$"
_DURATION_PARTS = re.compile(r"([0-9.]+)([a-z]+)")
_SIZE_PARTS = re.compile(r"([0-9]+)([A-Za-z]+)")

# The event loop counts in 64-bit milliseconds; a century is under that by far.
_LONGEST = 36525 * 86400.0

_MAX_SECRET = 64 * 1024

IN_FILE = {"file": True}
"""Validation context of the loader: what is read was written by a person, not by code."""


def in_file(info: ValidationInfo) -> bool:
    """Whether the value under validation stands in a file."""
    return info.context is not None and bool(info.context.get("file"))


def parse_duration(text: str) -> float:
    """Seconds of `250ms`, `5s`, `1.5m`, `1h` or `1d`. Raises ValueError."""
    if not re.fullmatch(_DURATION, text) or not (parts := _DURATION_PARTS.fullmatch(text)):
        raise ValueError(
            f"`{text[:40]}` is not a duration; write 5s or 500ms (units: ms, s, m, h, d)"
        )
    seconds = float(Decimal(parts[1]) * _SECONDS[parts[2]])
    if seconds > _LONGEST:
        raise ValueError(f"`{text[:40]}` is longer than a century")
    return seconds


def parse_size(text: str) -> int:
    """Bytes of `512B`, `8KiB`, `1MiB`, `2GiB`, `64kB`, `1MB` or `1GB`. Raises ValueError."""
    if not re.fullmatch(_SIZE, text) or not (parts := _SIZE_PARTS.fullmatch(text)):
        raise ValueError(
            f"`{text[:40]}` is not a size; write 8KiB or 1MB (units: B, kB, MB, GB, KiB, MiB, GiB)"
        )
    return int(parts[1]) * _BYTES[parts[2]]


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back as the same number of seconds."""
    exact = Decimal(repr(seconds))
    if exact:
        for unit, factor in _SECONDS.items():
            count = exact / factor
            if count == count.to_integral_value() and count * factor == exact:
                return f"{int(count)}{unit}"
    return f"{exact.normalize():f}s"


def format_size(size: int) -> str:
    """The text with the largest unit that divides `size` bytes."""
    for unit, factor in _BYTES.items():
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def _duration(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a duration is expected; write 5s or 500ms")
    if in_file(info):
        raise ValueError("a bare number has no unit; write 5s or 500ms")
    if not 0 <= value <= _LONGEST:
        raise ValueError("a duration is between 0s and a century")
    return float(value)


def _size(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a size is expected; write 8KiB or 1MB")
    if in_file(info):
        raise ValueError("a bare number has no unit; write 8KiB or 1MB")
    if value < 0:
        raise ValueError("a size is not negative")
    return value


def is_off(value: Any, info: ValidationInfo) -> bool:
    """Whether this is `off`, which YAML 1.1 reads as false. Code may say None, a file may not."""
    return value == "off" or value is False or (value is None and not in_file(info))


def _or_none(read: Callable[[Any, ValidationInfo], Any], value: Any, info: ValidationInfo) -> Any:
    if is_off(value, info):
        return None
    try:
        return read(value, info)
    except ValueError as error:
        raise ValueError(f"{error}, or `off`") from None


def _optional_duration(value: Any, info: ValidationInfo) -> Any:
    return _or_none(_duration, value, info)


def _optional_size(value: Any, info: ValidationInfo) -> Any:
    return _or_none(_size, value, info)


def _more_than_none(value: float) -> float:
    if value <= 0:
        raise ValueError("more than 0 is expected")
    return value


OFF_SCHEMA: dict[str, Any] = {"enum": ["off", False]}

_DURATION_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": _DURATION,
    "description": "A duration: a number and one of ms, s, m, h, d.",
    "examples": ["5s", "500ms"],
}
_SIZE_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": _SIZE,
    "description": "A size: a whole number and one of B, kB, MB, GB, KiB, MiB, GiB.",
    "examples": ["8KiB", "1MB"],
}


def _or_off(schema: dict[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in schema.items() if key in ("type", "pattern")}
    return {
        "anyOf": [plain, OFF_SCHEMA],
        "description": schema["description"] + " Or `off`.",
        "examples": [*schema["examples"], "off"],
    }


Duration = Annotated[float, BeforeValidator(_duration), _Schema(_DURATION_SCHEMA)]
"""Seconds, 0 or more."""

PositiveDuration = Annotated[
    float, BeforeValidator(_duration), AfterValidator(_more_than_none), _Schema(_DURATION_SCHEMA)
]
"""Seconds, more than 0."""

OptionalDuration = Annotated[
    float | None, BeforeValidator(_optional_duration), _Schema(_or_off(_DURATION_SCHEMA))
]
"""Seconds, or None for `off`."""

Size = Annotated[int, BeforeValidator(_size), _Schema(_SIZE_SCHEMA)]
"""Bytes, 0 or more."""

PositiveSize = Annotated[
    int, BeforeValidator(_size), AfterValidator(_more_than_none), _Schema(_SIZE_SCHEMA)
]
"""Bytes, 1 or more."""

OptionalSize = Annotated[
    int | None, BeforeValidator(_optional_size), _Schema(_or_off(_SIZE_SCHEMA))
]
"""Bytes, or None for `off`."""


def unit(default: str, description: str) -> Any:
    """A pydantic field whose default is written with its unit, as the file would write it."""
    return Field(default=default, validate_default=True, description=description)


def _secret(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str):
        raise ValueError("a secret is text, or `file:` and a path; quote it")
    if value.startswith("file:"):
        value = _read_secret(value.removeprefix("file:"))
    if not value:
        raise ValueError("the secret is empty")
    return value


def _read_secret(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_SECRET + 1)
        if len(content) > _MAX_SECRET:
            raise ValueError(f"`{path}` holds more than {format_size(_MAX_SECRET)}")
        return content.decode().rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"`{path}` cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"`{path}` is not UTF-8 text") from None


Secret = Annotated[
    SecretStr,
    BeforeValidator(_secret),
    _Schema(
        {
            "type": "string",
            "minLength": 1,
            "description": "A secret: the text itself, or `file:` and the path of a file with it.",
            "examples": ["${API_KEY}", "file:/run/secrets/api-key"],
        }
    ),
]
"""`get_secret_value()` gives the text; repr hides it. A `file:` is read once, at load."""


def _field_name(name: str) -> str:
    if re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) is None:
        raise ValueError("a header's name is expected")
    return name.lower()


FieldName = Annotated[str, AfterValidator(_field_name)]
"""A header's name (RFC 9110 section 5.1), in lower case."""


def off_as_text(value: object) -> object:
    """`off` where YAML 1.1 reads it as false: for a key that has it among other words."""
    return "off" if value is False else value
