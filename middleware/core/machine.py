"""Closed, open, half-open: the states of a circuit and their transitions, which are pybreaker's.

pybreaker's own call wrappers are not used: they hold its lock while they call.
"""

from __future__ import annotations

from datetime import datetime

from pybreaker import (
    STATE_CLOSED,
    CircuitBreaker,
    CircuitBreakerListener,
    CircuitBreakerState,
    CircuitBreakerStorage,
)


class Machine(CircuitBreakerStorage, CircuitBreakerListener):
    """pybreaker's storage and its only listener. probes: successes that close it again."""

    # pybreaker reads and writes these of its storage. Plain attributes, for each call reads them.
    state: str = STATE_CLOSED
    counter: int = 0
    """Calls that failed in a row."""
    success_counter: int = 0
    """Probes that succeeded."""
    opened_at: datetime | None = None

    def __init__(self, name: str, probes: int) -> None:
        super().__init__(name)
        self.turn = 0
        """Counts the changes of state."""
        self.changes: dict[str, int] = {}
        """Changes of state ever made, by the new one."""
        self._machine = CircuitBreaker(
            success_threshold=probes,
            listeners=(self,),
            state_storage=self,
            name=name,
            throw_new_error_on_trip=False,
        )

    def to_open(self) -> None:
        self._machine.open()

    def to_half_open(self) -> None:
        self._machine.half_open()

    def to_closed(self) -> None:
        self._machine.close()

    def succeeded(self) -> None:
        """A probe did; the last one that is asked for closes it."""
        self._machine.state.on_success()

    def turned(self, old: str, new: str) -> None:
        """The state changes; `state` itself may not have yet. `turn` has, and counters are at 0."""
        raise NotImplementedError

    # -- what pybreaker asks of its storage, and tells its listeners

    def increment_counter(self) -> None:
        self.counter += 1

    def reset_counter(self) -> None:
        self.counter = 0

    def increment_success_counter(self) -> None:
        self.success_counter += 1

    def reset_success_counter(self) -> None:
        self.success_counter = 0

    def state_change(
        self,
        cb: CircuitBreaker,
        old_state: CircuitBreakerState | None,
        new_state: CircuitBreakerState,
    ) -> None:
        old = old_state.name if old_state is not None else STATE_CLOSED
        new = new_state.name
        self.turn += 1
        self.changes[new] = self.changes.get(new, 0) + 1
        self.counter = 0
        self.success_counter = 0
        self.turned(old, new)
