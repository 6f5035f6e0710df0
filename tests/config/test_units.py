"""Durations, sizes and secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from proxy.units import (
    IN_FILE,
    Duration,
    OptionalDuration,
    OptionalSize,
    PositiveDuration,
    PositiveSize,
    Secret,
    Size,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

CENTURY = 36525 * 86400.0


def in_file(kind: Any, value: Any) -> Any:
    """The value as a file's reader takes it."""
    return TypeAdapter(kind).validate_python(value, context=IN_FILE)


@given(st.floats(min_value=0, max_value=CENTURY).filter(lambda x: x == 0 or x > 1e-12))
def test_a_duration_reads_back_as_it_was_written(seconds: float) -> None:
    """Every number of seconds that can be written is read back as the same float."""
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=10**15 - 1))
def test_a_size_reads_back_as_it_was_written(size: int) -> None:
    """Every size below a petabyte is read back as the same number."""
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_duration_is_its_number_times_its_unit(count: int, unit: str) -> None:
    """Each unit has its length in seconds; what is over a century is refused."""
    factor = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    if count * factor > CENTURY:
        with pytest.raises(ValueError, match="century"):
            parse_duration(f"{count}{unit}")
    else:
        assert parse_duration(f"{count}{unit}") == pytest.approx(count * factor)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    """Whatever is written, the answer is a number in range or a ValueError, nothing else."""
    for parse in (parse_duration, parse_size):
        try:
            assert 0 <= parse(text) < 10**25
        except ValueError as error:
            assert str(error).startswith("`")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5), ("1.5m", 90), ("2m", 120), ("1h", 3600), ("1d", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    """The forms that the documentation shows."""
    assert in_file(Duration, text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512B", 512),
        ("8KiB", 8192),
        ("1MiB", 2**20),
        ("2GiB", 2**31),
        ("64kB", 64000),
        ("1MB", 10**6),
        ("1GB", 10**9),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """The forms that the documentation shows."""
    assert in_file(Size, text) == size


@pytest.mark.parametrize("value", ["5", "5 s", "5S", "-5s", "s", "1e3s", "٥s", "5s\n", "", "1h30m"])
def test_what_is_no_duration(value: str) -> None:
    """One number and one unit, in ASCII, without space, sign or exponent."""
    with pytest.raises(ValueError, match="write 5s or 500ms"):
        parse_duration(value)


@pytest.mark.parametrize("value", ["8", "8 KiB", "8K", "8kib", "-8B", "1.5MiB", "8B\n", "8" * 30])
def test_what_is_no_size(value: str) -> None:
    """One whole number and one unit, as they are spelled."""
    with pytest.raises(ValueError, match="write 8KiB or 1MB"):
        parse_size(value)


@pytest.mark.parametrize(
    ("kind", "example"),
    [
        (Duration, "write 5s or 500ms"),
        (OptionalDuration, "write 5s or 500ms, or `off`"),
        (Size, "write 8KiB or 1MB"),
        (OptionalSize, "write 8KiB or 1MB, or `off`"),
    ],
)
def test_a_bare_number_is_refused_in_a_file_and_taken_from_code(kind: Any, example: str) -> None:
    """In a file the unit could be anything; in code the type says which it is."""
    with pytest.raises(ValidationError, match=example):
        in_file(kind, 5)
    assert TypeAdapter(kind).validate_python(5) == 5


@pytest.mark.parametrize("kind", [Duration, Size, OptionalDuration, OptionalSize])
@pytest.mark.parametrize("value", [-1, True, [], float("nan")])
def test_code_cannot_pass_nonsense(kind: Any, value: Any) -> None:
    """A negative number, a boolean, a list and a NaN are no amount of anything."""
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize("kind", [OptionalDuration, OptionalSize])
def test_off_is_none(kind: Any) -> None:
    """`off` in either reading of YAML; an empty value in a file is a mistake, None in code not."""
    assert in_file(kind, "off") is None
    assert in_file(kind, False) is None
    assert TypeAdapter(kind).validate_python(None) is None
    with pytest.raises(ValidationError, match="or `off`"):
        in_file(kind, None)


@pytest.mark.parametrize(("kind", "nothing"), [(PositiveDuration, "0s"), (PositiveSize, "0B")])
def test_positive_is_more_than_nothing(kind: Any, nothing: str) -> None:
    """Where 0 makes no sense it is refused."""
    with pytest.raises(ValidationError, match="more than 0"):
        in_file(kind, nothing)


class Keys(BaseModel):
    """A layer's Config with a secret."""

    token: Secret


def test_a_secret_is_hidden_in_repr_and_there_when_asked_for() -> None:
    """A log line with the Config in it does not tell the secret."""
    keys = Keys.model_validate({"token": "hunter2"})
    assert "hunter2" not in repr(keys) + str(keys) + keys.model_dump_json()
    assert keys.token.get_secret_value() == "hunter2"
    assert Keys(token=keys.token) == keys


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_from_a_file_ends_before_its_newline(tmp_path: Path, ending: str) -> None:
    """Editors and `echo` end a file with a newline that is not part of the secret."""
    (tmp_path / "token").write_bytes(b" s3cret " + ending.encode())
    keys = Keys.model_validate({"token": f"file:{tmp_path}/token"})
    assert keys.token.get_secret_value() == " s3cret "


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the secret is empty"),
        (b"\n", "the secret is empty"),
        (b"\xff", "is not UTF-8 text"),
        (b"x" * (64 * 1024 + 1), "more than 64KiB"),
    ],
)
def test_a_file_that_holds_no_secret(tmp_path: Path, content: bytes, message: str) -> None:
    """An empty, binary or endless file is a mistake that names the reason."""
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ValidationError, match=message):
        Keys.model_validate({"token": f"file:{tmp_path}/token"})


def test_a_secret_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and a folder say why they cannot be read."""
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ValidationError, match=reason):
            Keys.model_validate({"token": f"file:{os.fspath(path)}"})


@pytest.mark.parametrize("value", ["", 5, None, True, ["a"]])
def test_what_is_no_secret(value: Any) -> None:
    """An empty text or anything but text is refused."""
    with pytest.raises(ValidationError, match="secret is"):
        Keys.model_validate({"token": value})
