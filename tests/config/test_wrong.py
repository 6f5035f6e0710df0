"""Files with mistakes, each beside what remora says of it.

After a change of a message: `python -m tests.config.test_wrong` writes the answers anew; read the
difference before it is committed.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from proxy import registry
from proxy.loader import ConfigError, load

FOLDER = Path(__file__).parent / "wrong"
FILES = sorted(FOLDER.glob("*.yaml"))
ENV = {
    "EMPTY": "",
    "WORD": "two",
    "NUMBER": "5",
    "SECONDS": "5s",
    "STRUCTURE": "{level: debug}",
    "BYTES": "\udcff",
}
INSTALLED = EntryPoints(
    EntryPoint(name, value, registry.GROUP)
    for name, value in [
        ("cache", "tests.config.layers:Fake"),
        ("rate_limit", "tests.config.layers:Fake"),
        ("broken", "tests.config.nosuch:Fake"),
    ]
)


def installed(**wanted: Any) -> EntryPoints:
    """Three layers, whatever this environment has: the answers name them."""
    return INSTALLED.select(**wanted)


def said(path: Path) -> str:
    """What the loader says of the file, without the folder."""
    with (
        mock.patch.object(registry, "entry_points", installed),
        pytest.raises(ConfigError) as caught,
    ):
        load(path, ENV)
    return str(caught.value).replace(f"{FOLDER}/", "") + "\n"


def test_every_wrong_file_has_its_answer() -> None:
    """At least 30 files, each with an answer and no answer without a file."""
    assert len(FILES) >= 30
    assert [path.with_suffix(".txt") for path in FILES] == sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_wrong_file(path: Path) -> None:
    """Every mistake is reported, at its place, in the words that stand beside the file."""
    assert said(path) == path.with_suffix(".txt").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_jargon(path: Path) -> None:
    """No answer speaks as the validator or the parser does, and each line has the one form."""
    for line in said(path).splitlines():
        file, row, column, _ = line.split(":", 3)
        assert file == path.name
        assert int(row) >= 1
        assert int(column) >= 1
        for word in (
            "Input should",
            "valid ",
            "Value error",
            "errors.pydantic",
            "Extra inputs",
            "hunter2",
        ):
            assert word not in line


if __name__ == "__main__":
    for one in FILES:
        one.with_suffix(".txt").write_text(said(one))
