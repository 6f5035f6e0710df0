"""One circuit: whether calls pass. The states and their transitions are pybreaker's.

No I/O and no clock: the time is passed in as `now`, seconds that never go back. pybreaker's own
call wrappers are not used: they hold its lock while they call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from math import inf

from pybreaker import (
    STATE_CLOSED,
    STATE_HALF_OPEN,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerListener,
    CircuitBreakerState,
    CircuitBreakerStorage,
)

from .outcomes import Bucket, Rules, Window

SOON = 1.0
"""Seconds after which to ask again where only the end of a probe is waited for."""
PATIENCE = 10.0
"""Seconds that a shared circuit which may be tried again waits for leave to, at most."""

_OVER, _NONE = -1, -2  # no turn has these numbers


class Call:
    """One call, from its permit to its verdict. Made by `Circuit.take`, told to it alone."""

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


Changed = Callable[["Circuit", str, str, str, bool], None]
"""(circuit, old state, new state, why, told): told where another replica made the change."""


class Circuit(CircuitBreakerStorage, CircuitBreakerListener):
    """pybreaker's storage and its only listener, with the window that decides when to trip.

    Ask `admits`, then without an await between them `take`; then tell the call `answered`,
    `failed`, `pushed_back` or `left`, of which the last three end it. A verdict on a call of an
    earlier turn of the circuit says nothing of this one and is ignored.
    """

    # pybreaker reads and writes these of its storage. Plain attributes, for each call reads them.
    state: str = STATE_CLOSED
    counter: int = 0
    """Calls that failed in a row."""
    success_counter: int = 0
    """Probes that succeeded."""
    opened_at: datetime | None = None

    def __init__(self, name: str, rules: Rules, changed: Changed, shared: bool = False) -> None:
        super().__init__(name)
        self.rules = rules
        self.turn = 0
        """Counts the changes of state."""
        self.until = 0.0
        """When an open circuit may be tried again."""
        self.granted = inf
        """Until when it may be; a shared one waits for leave."""
        self.held = False
        """Open until somebody closes it by hand."""
        self.probing = 0
        """Permits of a half-open circuit that are out."""
        self.probes = 0
        """Probes ever sent."""
        self.changes: dict[str, int] = {}
        """Changes of state ever made, by the new one."""
        self.asked_at = 0.0
        """When a call was last made, or refused."""
        self.opened = 0.0
        """When it last left the closed state."""
        self.delay = rules.open_for
        """For how long it was opened; a failed probe doubles it."""
        self.window = Window(rules.window)
        self._changed = changed
        self._shared = shared
        self._watched = rules.slow_ratio is not None
        self._slow_after = rules.slow_after
        self._waiting: OrderedDict[Call, None] = OrderedDict()
        self.look_at = inf
        """When the oldest call that waits for its answer may become slow: `admits` looks then."""
        self._not_before = -inf
        self._probes_of = _NONE
        self._why = ""
        self._told = False
        self._machine = CircuitBreaker(
            success_threshold=rules.probes,
            listeners=(self,),
            state_storage=self,
            name=name,
            throw_new_error_on_trip=False,
        )

    # -- before a call

    def admits(self, now: float) -> bool:
        """Whether a call may be made."""
        if now >= self.look_at:
            self._look(now)
        if self.state == STATE_CLOSED:
            return True
        self.asked_at = now
        if self.state == STATE_OPEN:
            return self._due(now)
        return self._has_permits

    def wait(self, now: float) -> float:
        """Seconds after which it may admit a call that it does not admit now."""
        if self.held:
            return self.rules.max_open_for
        return self.until - now if self.state == STATE_OPEN and self.until > now else SOON

    def take(self, now: float, sent: bool = True) -> Call:
        """The permit for a call that was admitted; one that was not is made and not judged.

        sent: the request is here to be sent. A call is not slow while its client is: until `sent`.
        """
        if self.state == STATE_OPEN and self._due(now):
            self._why = f"tried again after {now - self.opened:.1f} s"
            self._machine.half_open()
        self.asked_at = now
        call = Call(self, self.turn, now)
        if self.state != STATE_CLOSED:
            if self.state == STATE_OPEN or not self._has_permits:
                call.turn = _OVER
                return call
            self.probing += 1
            self.probes += 1
            call.probe = True
        if not sent:
            call.started = inf
        elif self._watched:
            self._waits(call, now)
        return call

    def sent(self, call: Call, now: float) -> None:
        """The last byte of the request is here: from now on its answer is waited for."""
        call.started = now
        if self._watched and call.turn == self.turn and not call.begun:
            self._waits(call, now)

    # -- what becomes of it

    def answered(self, call: Call, now: float) -> None:
        """The first byte of an answer that is no failure is here. Told once."""
        if call.turn != self.turn:
            return
        if self._watched:
            self._no_longer_waits(call, now)
            if call.turn != self.turn:
                return
        call.begun = True
        if call.probe:
            call.probe = False
            self.probing -= 1
            self._why = f"{self.rules.probes} probes succeeded"
            self._machine.state.on_success()
            return
        if call.bucket is None:
            call.bucket = self.window.add(now)
        self.counter = 0
        self._not_before = -inf

    def failed(self, call: Call, now: float, retry_after: float | None = None) -> None:
        """The call failed, or what had begun well broke off. retry_after: the server's wish."""
        turn, call.turn = call.turn, _OVER
        if turn != self.turn and not (turn == self._probes_of and self.state == STATE_CLOSED):
            return
        if self._watched and not call.begun:
            self._waiting.pop(call, None)
        self._wish(now, retry_after)
        if self.state == STATE_HALF_OPEN:
            self._reopen(now, "a probe failed")
            return
        slow = call.slow
        if call.bucket is not None:
            self.window.take_back(call.bucket, slow)
        elif self._watched and not call.begun:
            slow = now - call.started > self._slow_after
        self.window.add(now, True, slow)
        self.counter += 1
        self._judge(now)

    def pushed_back(self, call: Call, now: float, retry_after: float | None = None) -> None:
        """The server wants less: neither fault nor success."""
        if call.turn != self.turn:
            return
        call.turn = _OVER
        self._waiting.pop(call, None)
        self._wish(now, retry_after)
        if call.bucket is not None:
            self.window.take_back(call.bucket, call.slow)
        if call.probe:
            self.probing -= 1
            if self._not_before > now:
                self._open(now, self._not_before, "a probe was told to come back later")

    def left(self, call: Call, now: float) -> None:
        """The call ended without a verdict: its client left, or nothing was sent."""
        if call.turn != self.turn:
            return
        if self._watched and not call.begun:
            self._no_longer_waits(call, now)
            if call.turn != self.turn:
                return
        call.turn = _OVER
        if call.probe:
            self.probing -= 1

    # -- by hand, and by other replicas

    def hold(self, now: float) -> None:
        """Open, until `close`."""
        self.held = True
        if self.state != STATE_OPEN:
            self._open(now, inf, "held open by hand")
        self.until = inf

    def close(self, why: str, told: bool = False) -> None:
        """Closed at once. told: by another replica, which a circuit held by hand does not heed."""
        if told and self.held:
            return
        self.held = False
        if self.state != STATE_CLOSED:
            self._why, self._told = why, told
            self._machine.close()

    def adopt(self, now: float, seconds: float, delay: float) -> None:
        """Another replica has opened it, for `seconds`; `delay` is what it would double."""
        if self.held:
            return
        self.delay = min(max(delay, self.rules.open_for), self.rules.max_open_for)
        until = now + min(seconds, self.rules.max_open_for)
        if self.state == STATE_OPEN:
            self.until = max(self.until, until)
            return
        self._remember(now, until)
        self._why, self._told = "another replica opened it", True
        self._machine.open()

    # -- the rules

    @property
    def _has_permits(self) -> bool:
        return self.probing + self.success_counter < self.rules.probes

    def _due(self, now: float) -> bool:
        return now >= self.until and (now < self.granted or now >= self.until + PATIENCE)

    def _wish(self, now: float, retry_after: float | None) -> None:
        if retry_after is not None:
            self._not_before = max(self._not_before, now + retry_after)

    def _waits(self, call: Call, now: float) -> None:
        self._waiting[call] = None
        if self.look_at == inf:
            self.look_at = now + self._slow_after

    def _look(self, now: float) -> None:
        """Calls that wait for too long are slow, whenever their answer may come."""
        while self._waiting:
            call = next(iter(self._waiting))
            if now - call.started <= self._slow_after:
                self.look_at = call.started + self._slow_after
                return
            del self._waiting[call]
            self._is_slow(call, now)
        self.look_at = inf

    def _no_longer_waits(self, call: Call, now: float) -> None:
        if self._waiting.pop(call, call) is None and now - call.started > self._slow_after:
            self._is_slow(call, now)

    def _is_slow(self, call: Call, now: float) -> None:
        call.slow = True
        if call.probe:
            self._reopen(now, "a probe was slow")
            return
        call.bucket = self.window.add(now, slow=True)
        self._judge(now)

    def _judge(self, now: float) -> None:
        why = self.rules.reason(self.window, self.counter)
        if why is not None:
            self.delay = self.rules.open_for
            self._open(now, max(now + self.delay, self._not_before), why)

    def _reopen(self, now: float, why: str) -> None:
        self.delay = min(2 * self.delay, self.rules.max_open_for)
        self._open(now, max(now + self.delay, self._not_before), why)

    def _open(self, now: float, until: float, why: str) -> None:
        self._remember(now, until if self.held else min(until, now + self.rules.max_open_for))
        self._why = why
        self._machine.open()

    def _remember(self, now: float, until: float) -> None:
        if self.state == STATE_CLOSED:
            self.opened = now
        self.until = until
        self.granted = -inf if self._shared else inf

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
        """A new turn: calls under way are of the old one. `state` may not have changed yet."""
        old = old_state.name if old_state is not None else STATE_CLOSED
        new = new_state.name
        closes = new == STATE_CLOSED and old == STATE_HALF_OPEN
        self._probes_of = self.turn if closes else _NONE
        self.turn += 1
        self.changes[new] = self.changes.get(new, 0) + 1
        self.probing = 0
        self.counter = 0
        self.success_counter = 0
        self._not_before = -inf
        self._waiting.clear()
        self.look_at = inf
        self.window.clear()
        why, self._why = self._why, ""
        told, self._told = self._told, False
        self._changed(self, old, new, why, told)
