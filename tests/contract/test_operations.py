"""The page for whoever is on call tells every error code and every number of the road."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import middleware
import proxy
from proxy.errors import ProxyError, Unavailable, UpstreamError
from proxy.telemetry import Telemetry

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
NEVER_RAISED = {Unavailable.code, UpstreamError.code}
"""What others are made of; nobody raises them as they are."""

Coded = tuple[str, int]


def kinds(of: type[ProxyError] = ProxyError) -> Iterator[type[ProxyError]]:
    yield of
    for one in of.__subclasses__():
        yield from kinds(one)


def loaded() -> list[type[ProxyError]]:
    """Every kind of error of remora's own."""
    for package in (proxy, middleware):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith("proxy.demo") and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    ours = ("proxy.", "middleware.")
    return [one for one in kinds() if one.__module__.startswith(ours)]


def raised(known: list[type[ProxyError]]) -> set[Coded]:
    """Codes and statuses that are given where an error is made, and not by its class."""
    found = set()
    statuses = {one.__name__: one.status for one in known}
    for path in (*ROOT.glob("proxy/**/*.py"), *ROOT.glob("middleware/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            told = {
                one.arg: one.value.value
                for one in node.keywords
                if isinstance(one.value, ast.Constant)
            }
            if node.func.id in statuses and isinstance(told.get("code"), str):
                status = told.get("status", statuses[node.func.id])
                assert isinstance(status, int)
                found.add((str(told["code"]), status))
    return found


def test_every_code_has_its_line() -> None:
    """Each code with its status, and none that is no more."""
    known = loaded()
    wanted = {(one.code, one.status) for one in known if one.code not in NEVER_RAISED}
    wanted |= raised(known)
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (\d{3}) \|", PAGE, re.MULTILINE)
    told = {(code, int(status)) for codes, status in rows for code in re.findall(r"\w+", codes)}
    assert told == wanted


def test_every_number_of_the_road_has_its_line() -> None:
    """Each by its name, with its labels."""
    table = PAGE.partition("## Numbers of the road")[2].partition("## Error codes")[0]
    rows = re.findall(r"^\| `(remora_\w+)` \| ([\w, ]*) ?\|", table, re.MULTILINE)
    told = {name.removesuffix("_total"): labels.strip() for name, labels in rows}
    wanted = {one.name: ", ".join(one._labelnames) for one in Telemetry().collect()}  # type: ignore[attr-defined]
    assert told == wanted
