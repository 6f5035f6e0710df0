"""The whole table."""

from __future__ import annotations

from . import accepted, chunks, fields, framing, lines, pipelined, targets
from .case import Case

HOSTILE: list[Case] = [
    *framing.CASES,
    *lines.CASES,
    *targets.CASES,
    *fields.CASES,
    *chunks.CASES,
    *pipelined.CASES,
]
ACCEPTED: list[Case] = accepted.CASES
CASES = HOSTILE + ACCEPTED
