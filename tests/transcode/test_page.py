"""The page and the reference file tell the keys that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from middleware.transcode.config import TranscodeConfig
from proxy.loader import load

ROOT = Path(__file__).parents[2]
KEYS = list(TranscodeConfig.model_fields)


def test_the_page_has_each_key_with_its_default() -> None:
    """In the order of the code."""
    page = (ROOT / "docs" / "transcode.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", page.partition("## Keys")[2], re.MULTILINE)
    written = dict(rows[: len(KEYS)])
    assert list(written) == KEYS
    assert TranscodeConfig(**yaml.safe_load(yaml.dump(_values(written)))) == TranscodeConfig()


def _values(written: dict[str, str]) -> dict[str, object]:
    return {key: yaml.safe_load(value) for key, value in written.items()}


def test_the_reference_has_each_key_with_its_default() -> None:
    """In a comment, as an entry of a chain."""
    text = (ROOT / "conf" / "reference.yaml").read_text()
    entry = re.search(r"^# - transcode:\n((?:#     .*\n)+)", text, re.MULTILINE)
    assert entry is not None
    keys = yaml.safe_load(re.sub(r"^#", "", entry[0], flags=re.MULTILINE))[0]["transcode"]
    assert list(keys) == KEYS
    assert TranscodeConfig(**keys) == TranscodeConfig()


def test_the_example_file_loads() -> None:
    """With the layer in its chain."""
    (layer, *_) = load(ROOT / "conf" / "transcode.yaml", {}).chain
    assert layer.name == "transcode"
    assert layer.config == TranscodeConfig(embeddings="float32", make_base64=True)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"embeddings": "float32", "clients": ["json"]}, "`embeddings` is for"),
        ({"embeddings": "float16", "upstream": "msgpack"}, "`embeddings` is for"),
        ({"dialect": "tgi", "upstream": "msgpack"}, "`upstream: json`"),
        ({"dialect": "openai", "template": "plain"}, "`dialect: tgi`"),
        ({"template": {"user": "{content}", "assistant": "{content}"}}, "`dialect: tgi`"),
        ({"dialect": "tgi", "model": "m"}, "`dialect: openai`"),
    ],
)
def test_keys_that_do_nothing_together_are_refused(keys: dict[str, Any], why: str) -> None:
    """When the file is read, and with what they want."""
    with pytest.raises(ValidationError, match=why):
        TranscodeConfig.model_validate(keys)
