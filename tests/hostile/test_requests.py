"""Each row of the table over real sockets: whole, followed by a clean request, and in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from .case import Case
from .harness import Stage, pieces
from .table import ACCEPTED, CASES, HOSTILE

SMALL = 160
"""Bytes up to which a case is a candidate for being sent byte by byte."""


def _plays() -> Iterator[tuple[Case, str]]:
    for number, case in enumerate(CASES):
        yield case, "whole"
        yield case, "split"
        if case.kind != "passed" and not case.eof:
            yield case, "followed"
        if number % 5 == 0 and len(case.raw) <= SMALL:
            yield case, "bytes"


@pytest.mark.parametrize(
    ("case", "manner"), [pytest.param(c, m, id=f"{c.name}-{m}") for c, m in _plays()]
)
def test_case(stage: Stage, case: Case, manner: str) -> None:
    """What the RFC allows arrives byte for byte; what it does not is refused and goes nowhere."""
    stage.play(case, pieces(case, manner))


def test_table() -> None:
    """The table has the size that was promised, and each row a name and an RFC section."""
    assert len(HOSTILE) >= 150
    assert len(ACCEPTED) >= 40
    assert len({case.name for case in CASES}) == len(CASES)
    assert len({case.raw for case in CASES}) == len(CASES)
    for case in CASES:
        assert re.fullmatch(r"9(110|112|113) [\dC]+(\.\d+)*", case.section), case.name
