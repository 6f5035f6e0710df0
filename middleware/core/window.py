"""Windows over time: how much of a limit is used, and when there will be room again.

Times are whole milliseconds, of any clock that does not run backwards. What a window remembers of
one client is a list of whole numbers, empty at first, so that a store can keep it; the same
arithmetic in Lua is `middleware.rate_limit.script`, and a test compares the two.
"""

from __future__ import annotations

from typing import Protocol

State = list[int]

MARKS = 128
"""Times that a moving window remembers of one client. A limit of more than that is kept in 128ths
of its span: what was taken leaves the window up to one of them late, never early.
"""


class Window(Protocol):
    """`amount` in `span` milliseconds. `roll` comes first; the others then read the same `now`."""

    amount: int
    span: int

    def roll(self, state: State, now: int) -> None:
        """Lets go of what is over. A state from the future (a clock that was set back) is new."""
        ...

    def used(self, state: State, now: int) -> int:
        """What counts now; more than `amount` where more was settled than had been reserved."""
        ...

    def wait(self, state: State, cost: int, now: int) -> int:
        """Milliseconds until `cost`, at most `amount`, fits, if nothing else is taken; 0: now."""
        ...

    def reset(self, state: State, now: int) -> int:
        """Milliseconds until nothing counts, if nothing is taken."""
        ...

    def take(self, state: State, cost: int, now: int) -> int:
        """Counts `cost`, whether it fits or not; a mark of where it was counted."""
        ...

    def settle(self, state: State, mark: int, delta: int, now: int) -> None:
        """Corrects what was taken at `mark`. Less is given back there, or not at all where that
        is over: it would otherwise be spent twice. More is owed from now on.
        """
        ...


class Fixed:
    """Opens with the first request, and closes `span` later. State: [end, count]."""

    __slots__ = ("amount", "span")

    def __init__(self, amount: int, span: int) -> None:
        self.amount = amount
        self.span = span

    def roll(self, state: State, now: int) -> None:
        if not state or not state[0] - self.span <= now < state[0]:
            state[:] = (now + self.span, 0)

    def used(self, state: State, now: int) -> int:
        return state[1]

    def wait(self, state: State, cost: int, now: int) -> int:
        return 0 if state[1] + cost <= self.amount else state[0] - now

    def reset(self, state: State, now: int) -> int:
        return state[0] - now if state[1] else 0

    def take(self, state: State, cost: int, now: int) -> int:
        if not state[1]:
            state[0] = now + self.span
        state[1] += cost
        return state[0]

    def settle(self, state: State, mark: int, delta: int, now: int) -> None:
        if delta > 0:
            self.take(state, delta, now)
        elif state[0] == mark:
            state[1] = max(0, state[1] + delta)


class Sliding:
    """Two counters: this span of the clock's, and the one before, of which that share counts that
    a window of `span` would still see, had it come evenly. State: [index, count, count before].
    """

    __slots__ = ("amount", "span")

    def __init__(self, amount: int, span: int) -> None:
        self.amount = amount
        self.span = span

    def roll(self, state: State, now: int) -> None:
        index = now // self.span
        if state and state[0] == index:
            return
        state[:] = (index, 0, state[1] if state and state[0] == index - 1 else 0)

    def used(self, state: State, now: int) -> int:
        return state[1] + state[2] * (self.span - now % self.span) // self.span

    def wait(self, state: State, cost: int, now: int) -> int:
        room = self.amount - cost
        if self.used(state, now) <= room:
            return 0
        elapsed = now % self.span
        if state[1] <= room:
            at = self._seen_as(state[2], room - state[1])
            if at < self.span:
                return at - elapsed
        return self.span - elapsed + self._seen_as(state[1], room)

    def _seen_as(self, count: int, room: int) -> int:
        """How far into the next span no more than `room` of `count` is seen."""
        return max(0, self.span - ((room + 1) * self.span - 1) // count) if count else 0

    def reset(self, state: State, now: int) -> int:
        elapsed = now % self.span
        if state[1]:
            return self.span - elapsed + self._seen_as(state[1], 0)
        return max(0, self._seen_as(state[2], 0) - elapsed)

    def take(self, state: State, cost: int, now: int) -> int:
        state[1] += cost
        return state[0]

    def settle(self, state: State, mark: int, delta: int, now: int) -> None:
        if delta > 0 or mark == state[0]:
            state[1] = max(0, state[1] + delta)
        elif mark == state[0] - 1:
            state[2] = max(0, state[2] + delta)


class Moving:
    """Exactly the last `span`. State: [sum, time, count, time, count, ...], the oldest first."""

    __slots__ = ("amount", "grain", "span")

    def __init__(self, amount: int, span: int) -> None:
        self.amount = amount
        self.span = span
        self.grain = 1 if amount <= MARKS else max(1, span // MARKS)

    def roll(self, state: State, now: int) -> None:
        if not state or (len(state) > 1 and state[-2] > now + self.grain):
            state[:] = (0,)
        gone = 1
        while gone < len(state) and state[gone] + self.span <= now:
            state[0] -= state[gone + 1]
            gone += 2
        del state[1:gone]

    def used(self, state: State, now: int) -> int:
        return state[0]

    def wait(self, state: State, cost: int, now: int) -> int:
        left, room, at = state[0], self.amount - cost, 1
        if left <= room:
            return 0
        while left > room:
            left -= state[at + 1]
            at += 2
        return state[at - 2] + self.span - now

    def reset(self, state: State, now: int) -> int:
        return state[-2] + self.span - now if state[0] else 0

    def take(self, state: State, cost: int, now: int) -> int:
        at = -(-now // self.grain) * self.grain
        if len(state) > 1 and state[-2] >= at:
            at = state[-2]
            state[-1] += cost
        else:
            state += (at, cost)
        state[0] += cost
        return at

    def settle(self, state: State, mark: int, delta: int, now: int) -> None:
        if delta > 0:
            self.take(state, delta, now)
            return
        for at in range(1, len(state), 2):
            if state[at] == mark:
                left = max(0, state[at + 1] + delta)
                state[0] -= state[at + 1] - left
                state[at + 1] = left
                if not left:
                    del state[at : at + 2]
                return


WINDOWS: dict[str, type[Fixed] | type[Sliding] | type[Moving]] = {
    "fixed_window": Fixed,
    "sliding_window_counter": Sliding,
    "moving_window": Moving,
}
