"""One circuit: whether calls pass.

No I/O and no clock: the time is passed in as `now`, seconds that never go back.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN

from .call import Call
from .machine import Machine
from .outcomes import Rules, Window
from .overdue import Overdue

SOON = 1.0
"""Seconds after which to ask again where only the end of a probe is waited for, and for which one
keeps its place whose request is not here yet.
"""
PATIENCE = 10.0
"""Seconds that a shared circuit which may be tried again waits for leave to, at most."""

_OVER, _NONE = -1, -2  # no turn has these numbers

Changed = Callable[["Circuit", str, str, str, bool], None]
"""(circuit, old state, new state, why, told): told where other replicas need not hear of it."""


class Circuit(Machine):
    """The machine, with the window that decides when it opens and the clock that lets it be tried.

    Ask `admits`, then without an await between them `take`; then tell the call `answered`,
    `failed`, `pushed_back` or `left`, of which the last three end it. A verdict on a call of an
    earlier turn of the circuit says nothing of this one and is ignored.
    """

    def __init__(self, name: str, rules: Rules, changed: Changed, shared: bool = False) -> None:
        super().__init__(name, rules.probes)
        self.rules = rules
        self.until = 0.0
        """When an open circuit may be tried again."""
        self.granted = inf
        """Until when it may be; a shared one waits for leave."""
        self.held = False
        """Open until somebody closes it by hand."""
        self.probes = 0
        """Probes ever sent."""
        self.asked_at = 0.0
        """When a call was last made, or refused."""
        self.opened = 0.0
        """When it last left the closed state."""
        self.delay = rules.open_for
        """For how long it was opened; a failed probe doubles it."""
        self.window = Window(rules.window)
        self.overdue = Overdue(rules.slow_after)
        """Calls that are slow, whenever their answers may come: `admits` looks for them."""
        self._changed = changed
        self._shared = shared
        self._watched = rules.slow_ratio is not None
        self._probing: dict[Call, float] = {}
        """The calls that hold a permit of a half-open circuit, and since when."""
        self._not_before = -inf
        self._row_ended_by: Call | None = None
        self._row = 0
        """Failures in a row, until that call's answer began."""
        self._probes_of = _NONE
        self._why = ""
        self._told = False

    # -- before a call

    def admits(self, now: float) -> bool:
        """Whether a call may be made."""
        if now >= self.overdue.look_at:
            for call in self.overdue.found(now):
                self._is_slow(call, now)
        if self.state == STATE_CLOSED:
            return True
        self.asked_at = now
        if self.state == STATE_OPEN:
            return self._due(now)
        return self._has_permits or self._takes_one_back(now)

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
            self.to_half_open()
        self.asked_at = now
        call = Call(self, self.turn, now)
        if self.state != STATE_CLOSED:
            if self.state == STATE_OPEN or not self._has_permits:
                call.turn = _OVER
                return call
            self._probing[call] = now
            self.probes += 1
            call.probe = True
        if not sent:
            call.started = inf
        elif self._watched:
            self.overdue.waits(call)
        return call

    def sent(self, call: Call, now: float) -> None:
        """The last byte of the request is here: from now on its answer is waited for."""
        call.started = now
        if self._watched and call.turn == self.turn and not call.begun:
            self.overdue.waits(call)

    # -- what becomes of it

    def answered(self, call: Call, now: float) -> None:
        """The first byte of an answer that is no failure is here. Told once."""
        if call.turn != self.turn:
            return
        if self._watched and self.overdue.ended(call, now):
            self._is_slow(call, now)
            if call.turn != self.turn:
                return
        call.begun = True
        if call.probe:
            call.probe = False
            del self._probing[call]
            self._why = f"{self.rules.probes} probes succeeded"
            self.succeeded()
            return
        if call.bucket is None:
            call.bucket = self.window.add(now)
        self._row_ended_by, self._row = call, self.counter
        self.counter = 0
        self._not_before = -inf

    def failed(self, call: Call, now: float, retry_after: float | None = None) -> None:
        """The call failed, or what had begun well broke off. retry_after: the server's wish."""
        turn, call.turn = call.turn, _OVER
        if turn != self.turn and not (turn == self._probes_of and self.state == STATE_CLOSED):
            return
        slow = self.overdue.ended(call, now) or call.slow
        self._wish(now, retry_after)
        if self.state == STATE_HALF_OPEN:
            self._reopen(now, "a probe failed")
            return
        if call.bucket is not None:
            self.window.take_back(call.bucket, slow)
        self.window.add(now, True, slow)
        if call is self._row_ended_by:
            self.counter += self._row  # no success after all, and none has come since
        self.counter += 1
        self._judge(now)

    def pushed_back(self, call: Call, now: float, retry_after: float | None = None) -> None:
        """The server wants less: neither fault nor success."""
        if call.turn != self.turn:
            return
        call.turn = _OVER
        self.overdue.ended(call, now)
        self._wish(now, retry_after)
        if call.bucket is not None:
            self.window.take_back(call.bucket, call.slow)
        if call.probe:
            del self._probing[call]
            if self._not_before > now:
                self._open(now, self._not_before, "a probe was told to come back later")

    def left(self, call: Call, now: float) -> None:
        """The call ended without a verdict: its client left, or nothing was sent."""
        if call.turn != self.turn:
            return
        if self.overdue.ended(call, now):
            self._is_slow(call, now)
            if call.turn != self.turn:
                return
        call.turn = _OVER
        if call.probe:
            del self._probing[call]

    # -- by hand, and by other replicas

    def hold(self, now: float) -> None:
        """Open, until `close`."""
        self.held = True
        if self.state != STATE_OPEN:
            self._open(now, inf, "held open by hand")
        self.until = inf

    def close(self, why: str, told: bool = False) -> None:
        """Closed at once. told: by another replica, which a circuit held by hand does not heed."""
        if self.held:
            if told:
                return
            self.held = False
            told = True  # nobody else has heard that it was held
        if self.state != STATE_CLOSED:
            self._why, self._told = why, told
            self.to_closed()

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
        self.to_open()

    # -- the rules

    @property
    def _has_permits(self) -> bool:
        return len(self._probing) + self.success_counter < self.rules.probes

    def _due(self, now: float) -> bool:
        return now >= self.until and (now < self.granted or now >= self.until + PATIENCE)

    def _takes_one_back(self, now: float) -> bool:
        """A client that sends its request slowly keeps no probe from others."""
        for call, since in self._probing.items():
            if call.started == inf and now - since >= SOON:
                call.turn = _OVER
                del self._probing[call]
                return True
        return False

    def _wish(self, now: float, retry_after: float | None) -> None:
        if retry_after is not None:
            self._not_before = max(self._not_before, now + retry_after)

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
        self.to_open()

    def _remember(self, now: float, until: float) -> None:
        if self.state == STATE_CLOSED:
            self.opened = now
        self.until = until
        self.granted = -inf if self._shared else inf

    def turned(self, old: str, new: str) -> None:
        """Calls under way are of the old turn."""
        closes = new == STATE_CLOSED and old == STATE_HALF_OPEN
        self._probes_of = self.turn - 1 if closes else _NONE
        self._probing.clear()
        self._not_before = -inf
        self.overdue.clear()
        self.window.clear()
        why, self._why = self._why, ""
        told, self._told = self._told, False
        self._changed(self, old, new, why, told)
