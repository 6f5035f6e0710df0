"""Layers that come from elsewhere, by the name of an entry point or by `module:Class`."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.loader import ConfigError, load, load_text

from .road import ModelServer, client, post, remora

FILE = "upstreams: {default: {endpoints: ['http://127.0.0.1:1']}}\n"

PLUGIN = """
from pydantic import BaseModel, ConfigDict
from proxy.exchange import Response

class Hello:
    class Config(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        word: str = "hello"
    def __init__(self, config, env):
        self.word = config.word.encode()
    async def start(self): pass
    async def stop(self): pass
    def bind(self, route, next):
        async def handle(request):
            return Response(200, [], self.word + b" from " + route.name.encode())
        return handle
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution that is installed in `tmp_path`, with the layer `contract_hello`."""
    info = tmp_path / "remora_contract_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: remora-contract-plugin\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        "[remora.middleware]\ncontract_hello = contract_hello:Hello\n"
        "access_log = contract_hello:Hello\n"
    )
    (tmp_path / "contract_hello.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "contract_hello", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", ["contract_hello", "contract_hello:Hello"])
async def test_a_plugin_serves(name: str, plugin: Path, model: ModelServer) -> None:
    """By the name of its entry point and by its class alike, with its keys or without."""
    for entry, word in (({name: {"word": "good day"}}, b"good day"), (name, b"hello")):
        async with (
            remora(model.url, [entry], routes=[{"name": "r"}]) as server,
            client(server) as user,
        ):
            await user.send(post("/x"))
            assert (await user.read_answer())[1] == word + b" from r"


def test_a_plugins_keys_are_checked_with_their_place(plugin: Path) -> None:
    """Like those of remora's own layers: line, column and the nearest known key."""
    with pytest.raises(ConfigError) as caught:
        load_text(FILE + "chain:\n  - contract_hello: {wrd: x}\n", "x.yaml", {})
    assert str(caught.value) == (
        "x.yaml:3:22: chain[0].contract_hello.wrd: unknown key; did you mean `word`?"
    )


def test_a_plugin_takes_no_built_in_name(plugin: Path) -> None:
    """Installing a package cannot change what a file's own layers are."""
    config = load_text(FILE + "chain: [access_log]\n", "x.yaml", {})
    assert config.chain[0].cls.__module__ == "middleware.access_log"


def test_a_plugin_is_imported_only_where_a_file_names_it(plugin: Path, tmp_path: Path) -> None:
    """Being installed costs nothing."""
    code = (
        "import sys; from proxy.loader import load; load(sys.argv[1]); "
        "import json; print(json.dumps('contract_hello' in sys.modules))"
    )
    seen = []
    for chain in ("[]", "[contract_hello]"):
        path = tmp_path / "x.yaml"
        path.write_text(FILE + f"chain: {chain}\n")
        assert load(path) is not None
        run = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            capture_output=True, text=True, check=True,
            env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
        )  # fmt: skip
        seen.append(json.loads(run.stdout))
    assert seen == [False, True]
