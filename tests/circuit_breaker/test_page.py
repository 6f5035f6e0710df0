"""What is written of the layer's keys is true, and its file runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from middleware.circuit_breaker import CircuitBreaker
from middleware.circuit_breaker.circuits import FORGET_AFTER, MAX_CIRCUITS
from middleware.circuit_breaker.shared import LEASE, POLL
from middleware.core.circuit import PATIENCE, SOON
from middleware.core.outcomes import BUCKETS, Rules
from proxy.loader import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "circuit_breaker.md").read_text()
FIELDS = CircuitBreaker.Config.model_fields


def defaults() -> dict[str, Any]:
    """As a file writes them."""
    return {name: field.get_default(call_default_factory=True) for name, field in FIELDS.items()}


def test_the_reference_shows_every_key() -> None:
    """In a comment of conf/reference.yaml, each with its default."""
    text = (ROOT / "conf" / "reference.yaml").read_text()
    found = re.search(r"^# - circuit_breaker:.*\n((?:#     .*\n)+)", text, re.MULTILINE)
    assert found is not None
    shown = yaml.safe_load(re.sub(r"^# ", "", found[1], flags=re.MULTILINE))
    assert list(shown) == list(FIELDS)
    assert shown == defaults()


def test_the_page_shows_every_key() -> None:
    """In its table, each with its default; and the figures that it tells are those of the code."""
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.+?)`|(null)) \|", PAGE, re.MULTILINE)
    assert {name: yaml.safe_load(value or null) for name, value, null in rows} == defaults()
    assert (MAX_CIRCUITS, FORGET_AFTER, BUCKETS) == (4096, 600, 10)
    assert (POLL, LEASE, PATIENCE, SOON) == (0.5, 5, 10, 1)


def test_the_rules_have_the_same_defaults() -> None:
    """Of the pure part and of the keys."""
    assert CircuitBreaker.Config().rules == Rules()


def test_its_file_loads() -> None:
    """conf/circuit-breaker.yaml: the breaker innermost, its fallback an upstream of the file."""
    config = load(ROOT / "conf" / "circuit-breaker.yaml", {})
    names = [layer.name for layer in config.chain]
    assert names[-1] == "circuit_breaker"
    assert config.chain[-1].config.fallback in config.upstreams  # type: ignore[attr-defined]
