from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.exchange import Outcome, Request

from . import layers
from .cases import CASES, Case
from .road import ModelServer

DOC = Path(__file__).parents[2] / "docs" / "writing-a-layer.md"


def python_blocks() -> dict[str, str]:
    """The files that the document's Python blocks make: a first line `# name.py` begins one."""
    files: dict[str, str] = {}
    name = ""
    for block in re.findall(r"^```python\n(.*?)^```$", DOC.read_text(), re.MULTILINE | re.DOTALL):
        begins = re.match(r"# (\w+\.py)\n", block)
        name = begins[1] if begins else name
        files[name] = files.get(name, "") + block
    return files


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on sys.path with the files of docs/writing-a-layer.md."""
    folder = tmp_path_factory.mktemp("example")
    for name, text in python_blocks().items():
        (folder / name).write_text(text)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest, example: Path) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer().listening() as server:
        yield server


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What the layers of the tests keep is forgotten behind each test."""
    yield
    for kept in (
        layers.Probe.passed, layers.Reads.parsed, layers.Filters.made, layers.Spawns.work,
        layers.Asks.forks, layers.Lifecycle.told,
    ):  # fmt: skip
        kept.clear()


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[list[Outcome]]:
    """For each on_end that anyone adds: the outcomes it was told."""
    told: list[list[Outcome]] = []
    add = Request.on_end

    def on_end(self: Request, callback: object) -> None:
        outcomes: list[Outcome] = []
        told.append(outcomes)

        def counted(outcome: Outcome) -> None:
            outcomes.append(outcome)
            callback(outcome)  # type: ignore[operator]

        add(self, counted)

    monkeypatch.setattr(Request, "on_end", on_end)
    return told
