"""What every page promises: its files load, its tables tell the keys, its links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from proxy import registry
from proxy.config import Config, Upstream
from proxy.loader import load_text

from .cases import BUILT_IN

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
LAYERS = sorted(case.name for case in BUILT_IN)


def shown(page: Path) -> Iterator[Any]:
    """(first line, text) of each YAML block."""
    text = page.read_text()
    for block in re.finditer(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, block.start()) + 2
        yield pytest.param(page, block[1], id=f"{page.name}:{line}")


def whole(text: str) -> str:
    """A block as a file: one that shows a part of one gets what it leaves out."""
    if isinstance(yaml.safe_load(text), list):
        text = "chain:\n" + text
    if "upstreams" not in yaml.safe_load(text):
        text += "\nupstreams: {default: {endpoints: ['http://127.0.0.1:8000']}}\n"
    if "redis" in text and "stores" not in yaml.safe_load(text):
        text += "\nstores: {redis: {}}\n"
    return text


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(("page", "text"), [one for page in PAGES for one in shown(page)])
def test_a_block_of_yaml_loads(page: Path, text: str) -> None:
    """As a file, or as a part of one; what it takes from the environment is there."""
    names = re.findall(r"\$\{(\w+)\}", text)
    environment = {name: f"{name}-of-sixteen-and-more" for name in names}
    assert load_text(whole(text), page.name, environment)


def test_each_layer_shows_how_it_is_written() -> None:
    """Its page has a block with it in a chain."""
    for name in LAYERS:
        blocks = [one.values[1] for one in shown(ROOT / "docs" / f"{name}.md")]
        assert any(f"- {name}" in block for block in blocks), name


# -- keys


def tables(text: str) -> dict[str | None, dict[str, str | None]]:
    """Defaults by key, as they are written; by the key that the table is of, None for the layer."""
    found: dict[str | None, dict[str, str | None]] = {}
    for table in re.finditer(
        r"^\| key(?: of `(\w+)`)? \| default \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE
    ):
        assert table[1] not in found, "two tables of the same keys"
        rows = re.findall(r"^\| `([\w.]+)` \| (?:`(.*?)` |(null) |)\|", table[2], re.MULTILINE)
        assert len(rows) == table[2].count("\n"), f"a row has another form:\n{table[2]}"
        found[table[1]] = {key: value or null or None for key, value, null in rows}
    return found


def models(kind: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """Models within the fields of `kind`, by the field's name."""
    for name, field in kind.model_fields.items():
        for part in parts(field.annotation):
            yield name, part
            yield from models(part)


def parts(kind: Any) -> Iterator[type[BaseModel]]:
    """Models that an annotation names."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for arm in get_args(kind):
        yield from parts(arm)


def nested(rows: dict[str, str | None]) -> dict[str, Any]:
    """`backoff.first` as a key within a key; keys without a default are left out."""
    keys: dict[str, Any] = {}
    for name, written in rows.items():
        *above, last = name.split(".")
        inner = keys
        for part in above:
            inner = inner.setdefault(part, {})
        if written is not None:
            inner[last] = yaml.safe_load(written)
    return keys


LEAST: dict[str, dict[str, Any]] = {"Key": {"name": "one", "sha256": "0" * 64}}
"""What a model cannot be without."""


def compare(kind: type[BaseModel], rows: dict[str, str | None]) -> None:
    """The rows are the model's keys, and each default is the model's."""
    assert {name.partition(".")[0] for name in rows} == set(kind.model_fields)
    assert {name for name, written in rows.items() if written is None} == {
        name for name, field in kind.model_fields.items() if field.is_required()
    }
    told = nested(rows)
    for name, field in kind.model_fields.items():
        for part in parts(field.annotation):
            if isinstance(told.get(name), dict):
                assert set(told[name]) == set(part.model_fields), f"keys of `{name}`"
    least = LEAST.get(kind.__name__, {})
    assert kind(**{**told, **least}) == kind(**least)


@pytest.mark.parametrize("name", LAYERS)
def test_a_page_tells_each_key_with_its_default(name: str) -> None:
    """docs/NAME.md has a row for each key of the layer, and for no other."""
    config: Any = registry.find(name).Config
    found = tables((ROOT / "docs" / f"{name}.md").read_text())
    below = dict(models(config))
    for of, rows in found.items():
        compare(config if of is None else below[of], rows)
    assert None in found


def test_the_page_of_upstreams_tells_each_key_with_its_default() -> None:
    """docs/balance.md, whose keys are those of an upstream."""
    below = dict(models(Upstream))
    found = tables((ROOT / "docs" / "balance.md").read_text())
    assert set(found) == {"prefix", "session", "health", "eject", "resolve"}
    for of, rows in found.items():
        assert of is not None
        compare(below[of], rows)


@pytest.mark.parametrize("name", LAYERS)
def test_the_reference_shows_each_key_with_its_default(name: str) -> None:
    """conf/reference.yaml has the layer in a comment, and the comment means `- name` alone."""
    text = (ROOT / "conf" / "reference.yaml").read_text()
    (entry,) = re.findall(rf"^# - {name}:.*\n(?:#     .*\n)+", text, re.MULTILINE)
    file = "upstreams: {default: {endpoints: ['http://127.0.0.1:8000']}}\nchain:\n"
    written = file + re.sub(r"^#", "", entry, flags=re.MULTILINE)
    (layer,) = load_text(written, "reference.yaml", {}).chain
    (alone,) = load_text(f"{file} - {name}\n", "alone.yaml", {}).chain
    assert layer.config == alone.config
    assert layer.config.model_fields_set == set(type(layer.config).model_fields)


# -- links


def links(page: Path) -> list[str]:
    """Where its links lead, code left out."""
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    """What a link may point to within a page: its headings, as GitHub and GitLab name them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one).lower().replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of this tree, and to a heading that it has. Others are not asked."""
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    """`proxy/edge/pump.py` and its like, from the root of the tree."""
    named = re.findall(
        r"`((?:proxy|middleware|tests|conf|docs|docker)/[a-z0-9_./-]*\w)`", page.read_text()
    )
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_page_can_be_found() -> None:
    """From the README, or from a page that it leads to."""
    seen, left = set[Path](), [ROOT / "README.md"]
    while left:
        page = left.pop().resolve()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        left += [page.parent / link.partition("#")[0] for link in links(page)]
    assert {page.resolve() for page in PAGES} <= seen


@pytest.mark.parametrize("page", ["README.md", "docs/order.md"])
def test_layers_are_listed_in_an_order_that_works(page: str) -> None:
    """Each layer has its row, and a chain of them all in the order of the rows loads."""
    rows = re.findall(r"^\| \[(\w+)\]\(", (ROOT / page).read_text(), re.MULTILINE)
    chain = [name for name in rows if name in LAYERS]
    assert sorted(chain) == LAYERS
    assert load_text(whole(f"chain: {chain}"), page, {})


def test_the_key_of_a_file_is_a_key_of_the_code() -> None:
    """What the README shows of a file is what there is at its top."""
    ((_, text),) = [one.values for one in shown(ROOT / "README.md")]
    assert set(yaml.safe_load(text)) <= set(Config.model_fields)
