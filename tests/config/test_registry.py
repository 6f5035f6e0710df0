"""Finding layers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from proxy import registry
from proxy.registry import UnknownLayer
from tests.config.layers import Fake

LAYER = """
from pydantic import BaseModel
class Layer:
    Config = BaseModel
    def bind(self, route, next): return next
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution with the layers `remora_test_one`, `_two` and `_broken`."""
    info = tmp_path / "remora_test_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: remora-test-plugin\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        "[remora.middleware]\n"
        "remora_test_one = remora_test_module_one:Layer\n"
        "remora_test_two = remora_test_module_two:Layer\n"
        "remora_test_broken = remora_test_module_broken:Layer\n"
    )
    (tmp_path / "remora_test_module_one.py").write_text(LAYER)
    (tmp_path / "remora_test_module_two.py").write_text(LAYER)
    (tmp_path / "remora_test_module_broken.py").write_text("raise RuntimeError('no\\nGPU')")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_an_installed_layer_is_found_and_no_other_imported(plugin: Path) -> None:
    """An entry point of any distribution is a layer; only what a file names is imported."""
    assert {"remora_test_one", "remora_test_two"} <= set(registry.names())
    assert "remora_test_module_one" not in sys.modules
    assert registry.find("remora_test_one").__module__ == "remora_test_module_one"
    assert "remora_test_module_two" not in sys.modules


def test_a_layer_that_fails_to_import(plugin: Path) -> None:
    """The reason is told, whatever a stranger's module raises."""
    with pytest.raises(UnknownLayer, match="cannot be imported: RuntimeError: no\nGPU"):
        registry.find("remora_test_broken")


def test_an_unknown_name_suggests_the_nearest(plugin: Path) -> None:
    """A typing error is answered with the name that was meant, and with all names as data."""
    with pytest.raises(UnknownLayer, match="did you mean `remora_test_one`") as caught:
        registry.find("remora_test_oen")
    assert "remora_test_two" in caught.value.known


def test_a_plugin_cannot_replace_a_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two distributions give one name, remora's own wins, wherever it is on the path."""
    for name in ("intruder", "remora"):
        folder = tmp_path / name
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[remora.middleware]\nremora_test_same = remora_test_of_{name}:Layer\n"
        )
        (folder / f"remora_test_of_{name}.py").write_text(LAYER)
    # The real distribution `remora` would hide the second of that name.
    monkeypatch.setattr(
        sys, "path", [str(tmp_path / "intruder"), str(tmp_path / "remora"), *sys.path]
    )
    assert registry.find("remora_test_same").__module__ == "remora_test_of_remora"
    assert "remora_test_of_intruder" not in sys.modules


def test_a_class_is_found_by_its_module() -> None:
    """`module:Class` needs no entry point."""
    assert registry.find("tests.config.layers:Fake") is Fake
