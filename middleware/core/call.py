"""One call that a circuit has let through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .outcomes import Bucket

if TYPE_CHECKING:
    from .circuit import Circuit


class Call:
    """From its permit to its verdict. Made by `Circuit.take`, told to it alone.

    started: when its answer began to be waited for, in seconds; `inf`: its request is not here yet.
    """

    __slots__ = ("begun", "bucket", "circuit", "probe", "slow", "started", "turn")

    def __init__(self, circuit: Circuit, turn: int, started: float) -> None:
        self.circuit = circuit
        self.turn = turn
        self.started = started
        self.probe = False
        """It holds one of the permits of a half-open circuit."""
        self.begun = False
        """Its answer has begun, and was no failure then."""
        self.slow = False
        self.bucket: Bucket | None = None
        """Where it is counted, until it fails."""
