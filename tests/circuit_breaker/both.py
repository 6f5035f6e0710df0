"""The real circuit and its model, told the same and compared after each thing they are told."""

from __future__ import annotations

from math import inf

from middleware.core.call import Call
from middleware.core.circuit import Circuit
from middleware.core.outcomes import Rules

from .reference import Model, ModelCall

WISH = 3.0
"""Seconds of Retry-After."""

ENDS = ("failed", "failed, wish", "pushed back", "pushed back, wish", "left")
"""What can become of a call; `answered` is not its end."""


class Both:
    """live: the calls that something may still become of."""

    def __init__(self, rules: Rules, bodies: bool = False, start: float = 1000.0) -> None:
        self.rules = rules
        self.bodies = bodies
        """Some requests' bodies come later than they do."""
        self.now = start
        self.changes: list[tuple[str, str]] = []
        self.real = Circuit("c", rules, self._changed)
        self.model = Model(rules)
        self.live: list[tuple[Call, ModelCall]] = []
        self.told: list[str] = []

    def _changed(self, circuit: Circuit, old: str, new: str, why: str, told: bool) -> None:
        assert why and not told
        self.changes.append((old, new))

    def events(self, most: int) -> list[str]:
        """What may be told now, with at most so many live calls."""
        found = ["tick 1"]
        if len(self.live) < most:
            found += ["ask", "ask with a body"] if self.bodies else ["ask"]
        for index, (call, model) in enumerate(self.live):
            if not model.sent:
                found.append(f"sent {index}")
            if not call.begun:
                found.append(f"answered {index}")
            found += [f"{end} {index}" for end in (("failed", "left") if call.begun else ENDS)]
        return found

    def tell(self, event: str) -> None:
        """Raises AssertionError where the two differ, or where one does what none may."""
        self.told.append(event)
        what, _, argument = event.rpartition(" ")
        if event.startswith("ask"):
            self._ask(event == "ask")
        elif what == "tick":
            self.now += float(argument)
        else:
            self._becomes(what, int(argument))
        self._compare()

    def _ask(self, sent: bool) -> None:
        now = self.now
        admitted = self.real.admits(now)
        assert admitted == self.model.admits(now), self.told
        assert admitted or self.real.wait(now) > 0
        if admitted:
            self.live.append((self.real.take(now, sent), self.model.take(now, sent)))

    def _becomes(self, what: str, index: int) -> None:
        real, model, now = *self.live[index], self.now
        if what == "answered":
            self.real.answered(real, now)
            self.model.answered(model, now)
            if real.turn != self.real.turn:
                real.begun = model.answered = True  # to the layer it has, whatever was made of it
            return
        if what == "sent":
            self.real.sent(real, now)
            self.model.sent(model, now)
            return
        del self.live[index]
        kind, _, wish = what.partition(", ")
        seconds = (WISH,) if wish else ()
        getattr(self.real, kind.replace(" ", "_"))(real, now, *seconds)
        getattr(self.model, kind.replace(" ", "_"))(model, now, *seconds)

    def _compare(self) -> None:
        real, model, now = self.real, self.model, self.now
        told = self.told
        assert real.state == model.state, told
        assert real.counter == model.in_a_row, told
        out = sum(call.probe and call.turn == real.turn for call, _ in self.live)
        assert (out, real.success_counter) == (model.permits, model.succeeded), told
        real.window.advance(now)
        sums = real.window.calls, real.window.failures, real.window.slow
        assert sums == model.sums(now), told
        if real.state == "open":
            assert real.until == model.until <= now + self.rules.max_open_for, told
            assert real.delay == model.delay <= self.rules.max_open_for, told
        assert out + real.success_counter <= self.rules.probes, told

    def recovers(self) -> None:
        """Once all is well again: it is left open no longer than it may be, and closes."""
        while self.live:
            self.tell("left 0")
        self.tell(f"tick {self.rules.max_open_for}")
        for _ in range(self.rules.probes):
            asked = len(self.live)
            self.tell("ask")
            assert len(self.live) == asked + 1, f"never admitted again: {self.told}"
            self.tell(f"answered {asked}")
        assert self.real.state == "closed", self.told

    def snapshot(self) -> tuple[object, ...]:
        """All that what follows depends on; times count from now."""
        real, now = self.real, self.now
        window = real.window
        piece = int(now / window._piece)
        waiting = real.overdue._calls
        return (
            real.state, real.counter, real.success_counter, real.delay,
            max(0.0, real.until - now) if real.state == "open" else 0.0,
            max(0.0, real._not_before - now),
            real.overdue.look_at - now if real.overdue.look_at != inf else None,
            tuple((one.index - piece, one.calls, one.failures, one.slow)
                  for one in window._buckets if one.index > piece - 10),
            tuple(
                (call.turn == real.turn, call.turn == real._probes_of, call.probe, call.begun,
                 call.slow, call in waiting, max(-1.0, min(now - call.started, 2.0)),
                 call.bucket is not None and call.bucket.live and call.bucket.index - piece)
                for call, _ in self.live
            ),
            *((index, real._row) for index, (call, _) in enumerate(self.live)
              if call is real._row_ended_by and call.turn == real.turn),
            tuple(self.live.index(one) for call in waiting
                  for one in self.live if one[0] is call),
        )  # fmt: skip
