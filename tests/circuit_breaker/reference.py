"""What a circuit is to do, said in the plainest way: lists that are counted anew each time.

Written from docs/circuit_breaker.md, to compare the real one with.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from middleware.core.circuit import SOON
from middleware.core.outcomes import BUCKETS, Rules


@dataclass(eq=False)
class ModelCall:
    era: int
    began: float
    probe: bool = False
    permit: bool = False
    sent: bool = True
    waits: bool = True
    answered: bool = False
    slow: bool = False
    over: bool = False
    verdict: list[object] | None = None
    """Its entry among the verdicts: [piece of the window, failed, slow]."""


class Model:
    """One circuit."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.state = "closed"
        self.era = 0
        self.probed_era: int | None = None
        self.until = 0.0
        self.delay = rules.open_for
        self.wished = -inf
        self.in_a_row = 0
        self.row_ended_by: ModelCall | None = None
        self.row = 0
        self.succeeded = 0
        self.calls: list[ModelCall] = []
        self.verdicts: list[list[object]] = []

    # -- the window

    def piece(self, now: float) -> int:
        return int(now / (self.rules.window / BUCKETS))

    def sums(self, now: float) -> tuple[int, int, int]:
        """Calls, failures and slow calls that count now."""
        fresh = [one for one in self.verdicts if one[0] > self.piece(now) - BUCKETS]  # type: ignore[operator]
        return len(fresh), sum(bool(one[1]) for one in fresh), sum(bool(one[2]) for one in fresh)

    def count(self, call: ModelCall, now: float, failed: bool) -> None:
        call.verdict = [self.piece(now), failed, call.slow]
        self.verdicts.append(call.verdict)

    def uncount(self, call: ModelCall) -> None:
        self.verdicts = [one for one in self.verdicts if one is not call.verdict]

    # -- states

    def turn(self, state: str) -> None:
        self.probed_era = self.era if (self.state, state) == ("half-open", "closed") else None
        self.state = state
        self.era += 1
        self.in_a_row = self.succeeded = 0
        self.wished = -inf
        self.verdicts = []
        for call in self.calls:
            call.permit = False

    def open(self, now: float, until: float) -> None:
        self.until = min(until, now + self.rules.max_open_for)
        self.turn("open")

    def reopen(self, now: float) -> None:
        self.delay = min(2 * self.delay, self.rules.max_open_for)
        self.open(now, max(now + self.delay, self.wished))

    def trip(self, now: float) -> None:
        rules = self.rules
        calls, failures, slow = self.sums(now)
        enough = calls >= rules.min_calls
        if (
            (rules.consecutive is not None and self.in_a_row >= rules.consecutive)
            or (enough and rules.error_ratio is not None and failures / calls >= rules.error_ratio)
            or (enough and rules.slow_ratio is not None and slow / calls >= rules.slow_ratio)
        ):
            self.delay = rules.open_for
            self.open(now, max(now + self.delay, self.wished))

    @property
    def permits(self) -> int:
        return sum(call.permit for call in self.calls)

    # -- calls

    def look(self, now: float) -> None:
        for call in self.calls:
            if call.era == self.era and call.waits and not call.over:
                self.late(call, now)

    def late(self, call: ModelCall, now: float) -> None:
        if not call.sent or self.rules.slow_ratio is None:
            return
        if now - call.began <= self.rules.slow_after:
            return
        call.waits = False
        call.slow = True
        if call.probe:
            self.reopen(now)
        else:
            self.count(call, now, failed=False)
            self.trip(now)

    def admits(self, now: float) -> bool:
        self.look(now)
        if self.state == "closed":
            return True
        if self.state == "open":
            return now >= self.until
        if self.permits + self.succeeded < self.rules.probes:
            return True
        for call in self.calls:
            if call.permit and not call.sent and now - call.began >= SOON:
                call.permit = False
                call.over = True
                return True
        return False

    def take(self, now: float, sent: bool = True) -> ModelCall:
        if self.state == "open":
            self.turn("half-open")
        probe = self.state == "half-open"
        call = ModelCall(self.era, now, probe, permit=probe, sent=sent)
        self.calls.append(call)
        return call

    def sent(self, call: ModelCall, now: float) -> None:
        call.sent = True
        call.began = now
        # Found out in the order in which they were sent.
        self.calls.remove(call)
        self.calls.append(call)

    def answered(self, call: ModelCall, now: float) -> None:
        if call.over or call.era != self.era:
            return
        if call.waits:
            self.late(call, now)
        call.waits = False
        if call.era != self.era:
            return
        call.answered = True
        if call.probe:
            call.permit = False
            self.succeeded += 1
            if self.succeeded >= self.rules.probes:
                self.turn("closed")
            return
        if call.verdict is None:
            self.count(call, now, failed=False)
        self.row_ended_by, self.row = call, self.in_a_row
        self.in_a_row = 0
        self.wished = -inf

    def failed(self, call: ModelCall, now: float, wish: float | None = None) -> None:
        if call.over:
            return
        call.over = True
        late_probe = call.era == self.probed_era and self.state == "closed"
        if call.era != self.era and not late_probe:
            return
        if wish is not None:
            self.wished = max(self.wished, now + wish)
        if self.state == "half-open":
            self.reopen(now)
            return
        watched = self.rules.slow_ratio is not None and call.sent
        if watched and not call.answered and now - call.began > self.rules.slow_after:
            call.slow = True
        self.uncount(call)
        self.count(call, now, failed=True)
        if call is self.row_ended_by:
            self.in_a_row += self.row
        self.in_a_row += 1
        self.trip(now)

    def pushed_back(self, call: ModelCall, now: float, wish: float | None = None) -> None:
        if call.over or call.era != self.era:
            return
        call.over = True
        if wish is not None:
            self.wished = max(self.wished, now + wish)
        self.uncount(call)
        if call.permit:
            call.permit = False
            if self.wished > now:
                self.open(now, self.wished)

    def left(self, call: ModelCall, now: float) -> None:
        if call.over or call.era != self.era:
            return
        if call.waits:
            self.late(call, now)
        call.over = True
        call.permit = False
