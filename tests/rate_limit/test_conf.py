"""What is written of the layer's keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from middleware.rate_limit import RateLimit
from proxy.loader import load, load_text

ROOT = Path(__file__).parents[2]
CONFIG: Any = RateLimit.Config


def test_the_reference_shows_each_key_with_its_default() -> None:
    """In a comment, for a file need not have the layer."""
    text = (ROOT / "conf" / "reference.yaml").read_text()
    found = re.search(r"^# - rate_limit:.*\n((?:#     .*\n)+)", text, re.MULTILINE)
    assert found is not None
    written = yaml.safe_load(re.sub(r"^#     ", "", found[1], flags=re.MULTILINE))
    assert list(written) == list(CONFIG.model_fields)
    assert CONFIG(**written) == CONFIG()


def test_the_page_tells_each_key_with_its_default() -> None:
    """docs/rate_limit.md has a row for each."""
    text = (ROOT / "docs" / "rate_limit.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", text, re.MULTILINE))
    assert list(rows) == list(CONFIG.model_fields)
    assert CONFIG(**{key: yaml.safe_load(value) for key, value in rows.items()}) == CONFIG()


def test_the_example_is_two_layers() -> None:
    """conf/rate-limit.yaml loads; requests and tokens are counted side by side."""
    chain = load(ROOT / "conf" / "rate-limit.yaml", {}).chain
    assert [(one.name, one.config.cost) for one in chain] == [
        ("rate_limit", "requests"), ("rate_limit", "tokens"),
    ]  # fmt: skip


def test_it_needs_no_keys() -> None:
    """`- rate_limit` alone is one."""
    file = "upstreams: {default: {endpoints: ['http://127.0.0.1:1']}}\nchain: [rate_limit]"
    (one,) = load_text(file, "x.yaml", {}).chain
    assert one.config == CONFIG()
