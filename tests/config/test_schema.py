"""The JSON Schema that editors get."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from proxy import registry
from proxy.config import Config, Model
from proxy.file.schema import schema
from proxy.loader import ConfigError, load, load_text

CONF = sorted((Path(__file__).parents[2] / "conf").glob("*.yaml"))
WRONG = sorted((Path(__file__).parent / "wrong").glob("*.yaml"))


@pytest.fixture(autouse=True)
def one_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer is installed: the fake one, as `cache`."""
    install(monkeypatch, "tests.config.layers:Fake")


def install(monkeypatch: pytest.MonkeyPatch, layer: str, **others: str) -> None:
    layers = {"cache": layer, **others}
    points = EntryPoints([EntryPoint(name, at, registry.GROUP) for name, at in layers.items()])
    monkeypatch.setattr(registry, "entry_points", lambda **wanted: points.select(**wanted))


def complaints(text: str) -> list[str]:
    """What an editor would underline."""
    validator = jsonschema.Draft202012Validator(schema())
    return [error.json_path for error in validator.iter_errors(yaml.safe_load(text))]


def test_it_is_a_schema() -> None:
    """It is valid JSON Schema 2020-12 itself, and every reference in it leads somewhere."""
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    for name in re.findall(r"'\$ref': '([^']*)'", str(made)):
        assert name.removeprefix("#/$defs/") in made["$defs"]


@pytest.mark.parametrize("path", CONF, ids=lambda path: path.stem)
def test_every_file_that_ships_is_good(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader and the schema both take it, with nothing in the environment."""
    monkeypatch.setattr(registry, "entry_points", entry_points)  # remora's own layers
    load(path, {})
    assert complaints(path.read_text()) == []


def test_the_files_that_ship() -> None:
    """One for each kind of server, one for plain HTTP, and the reference."""
    names = {path.stem for path in CONF}
    assert names >= {"reference", "tgi", "vllm", "tei", "triton", "llamacpp", "http-cache"}


GOOD = [
    "listen: :80\n",
    "listen: [':80', {address: '[::1]:80'}]\n",
    "listen: {address: unix:/run/r.sock}\n",
    "listen: ${LISTEN:-:80}\n",
    "workers: ${N:-2}\n",
    "admin: off\n",
    "forwarded: off\n",
    "forwarded: ${F:-off}\n",
    "limits: {body: off, head: '${HEAD:-1KiB}'}\n",
    "chain: [cache, {cache: {ttl: 5s, max_bytes: off, store: {url: x}}}, 'a.b:C']\n",
    "chain:\n  - cache:\n  - a.b:C: {anything: 1}\n",
    "routes: [{api: {generic: {items: /a~1b/0, results: ''}}}]\n",
    "routes: [{chain: null}, {chain: []}, {api: openai, match: {methods: [POST]}}]\n",
]
BAD = [
    ("worker: 1\n", "$"),
    ("workers: many\n", "$.workers"),
    ("limits: {body: 5}\n", "$.limits.body"),
    ("limits: {head: off}\n", "$.limits.head"),
    ("drain: {quiet: 5}\n", "$.drain.quiet"),
    ("log: {level: loud}\n", "$.log.level"),
    ("chain: [cahce]\n", "$.chain[0]"),
    ("chain: [{cache: {ttl: 5}}]\n", "$.chain[0]"),
    ("chain: [{cache: {store: {}}}]\n", "$.chain[0]"),
    ("chain: [{cache: {}, a.b:C: {}}]\n", "$.chain[0]"),
    ("routes: [{chain: [cahce]}]\n", "$.routes[0].chain"),
    ("routes: [{api: opnai}]\n", "$.routes[0].api"),
    ("routes: [{api: {generic: {items: /a}}}]\n", "$.routes[0].api"),
    ("routes: [{api: {generic: {items: a, results: /b}}}]\n", "$.routes[0].api"),
    ("listen: nowhere\n", "$.listen"),
]
UPSTREAMS = "upstreams: {default: {endpoints: ['http://127.0.0.1:8000']}}\n"


@pytest.mark.parametrize("text", GOOD)
def test_it_takes_every_form(text: str) -> None:
    """Texts and lists, names and mappings, `off`, and references to the environment."""
    assert complaints(UPSTREAMS + text) == []


@pytest.mark.parametrize(("text", "place"), BAD)
def test_it_refuses_what_the_loader_refuses(text: str, place: str) -> None:
    """An unknown key, a wrong type, a bare number or an unknown layer is underlined."""
    assert complaints(UPSTREAMS + text) == [place]
    with pytest.raises(ConfigError):
        load_text(UPSTREAMS + text, "test.yaml", {})


def models(kind: type[BaseModel] = Config) -> Iterator[type[BaseModel]]:
    """Every model of the file, found by its annotations."""
    yield kind
    for field in kind.model_fields.values():
        for module, name in re.findall(r"(proxy\.[\w.]+)\.(\w+)", str(field.annotation)):
            one = getattr(import_module(module), name)
            if isinstance(one, type) and issubclass(one, Model):
                yield from models(one)


def test_every_key_is_described_and_has_its_default() -> None:
    """No key without a description, and none that may be left out without its default."""
    found = set(models())
    assert found == set(Model.__subclasses__())
    for model in found:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


def test_durations_and_sizes_show_their_unit() -> None:
    """Pattern, example, description and a default as a person writes it."""
    keys: dict[str, Any] = schema()["$defs"]
    for model, key, default in [
        ("Timeouts", "connect", "2s"),
        ("Timeouts", "total", "off"),
        ("Pool", "idle_timeout", "55s"),
        ("Limits", "body", "1GiB"),
        ("Redis", "timeout", "50ms"),
        ("layer.cache", "ttl", "5m"),
        ("layer.cache.Store", "timeout", "50ms"),
    ]:
        found = keys[model]["properties"][key]
        assert found["default"] == default
        assert found["description"]
        assert found["examples"]
        assert "pattern" in found["anyOf"][0]
