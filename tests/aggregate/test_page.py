"""The page, the reference and the example tell the keys that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from middleware.aggregate.config import AggregateConfig, PadConfig
from proxy.loader import load

ROOT = Path(__file__).parents[2]
KEYS = list(AggregateConfig.model_fields)


def rows(heading: str) -> dict[str, Any]:
    page = (ROOT / "docs" / "aggregate.md").read_text()
    table = page.partition(heading)[2].partition("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", table, re.MULTILINE)
    return {key: yaml.safe_load(value) for key, value in found}


def test_the_page_has_each_key_with_its_default() -> None:
    """In the order of the code; those of `pad` in a table of their own."""
    keys = rows("## Keys")
    assert list(keys) == KEYS
    assert AggregateConfig(**keys) == AggregateConfig()
    pad = rows("## Tensors")
    assert list(pad) == list(PadConfig.model_fields)
    assert PadConfig(**pad) == PadConfig()


def test_the_reference_has_each_key_with_its_default() -> None:
    """In a comment, as an entry of a chain."""
    text = (ROOT / "conf" / "reference.yaml").read_text()
    entry = re.search(r"^# - aggregate:\n((?:#     .*\n)+)", text, re.MULTILINE)
    assert entry is not None
    keys = yaml.safe_load(re.sub(r"^#", "", entry[0], flags=re.MULTILINE))[0]["aggregate"]
    assert list(keys) == KEYS
    assert AggregateConfig(**keys) == AggregateConfig()


def test_the_example_file_loads() -> None:
    """With the layer behind the cache."""
    cache, layer = load(ROOT / "conf" / "aggregate.yaml", {}).chain
    assert (cache.name, layer.name, layer.config) == ("cache", "aggregate", AggregateConfig())


@pytest.mark.parametrize(
    "keys",
    [
        {"max_inflight": 0}, {"max_inflight": True}, {"max_inflight": "many"}, {"max_waste": 1.5},
        {"max_batch_size": 0}, {"across": ["everybody"]}, {"deadline": "no name"},
        {"pad": {"a": 1}}, {"deadline": "5s"}, {"target_latency": "0s"},
        {"max_queue_delay": "2s", "queue_timeout": "1s"},
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(keys: dict[str, Any]) -> None:
    """Each with a message of its own."""
    with pytest.raises(ValidationError):
        AggregateConfig(**keys)
