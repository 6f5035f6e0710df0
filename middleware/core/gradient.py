"""A limit on what is in flight, found from latency: a gradient controller. No clock, no I/O.

After Envoy's adaptive concurrency filter (its gradient controller) and Netflix's
concurrency-limits (Gradient2, "Performance Under Load", 2018): the limit is multiplied by the
gradient, what latency should be over what it is, and a little is added to find out whether more
goes. What it should be is measured anew from time to time with less in flight. Two things differ:

- Less means half the limit, not a fixed few. So the question is whether the second half of the
  limit brings throughput or only waiting. With N requests on C slots latency is in proportion to
  N/C, and the limit settles a little over C. On a server that batches, latency grows with what
  is in flight from the first request on, and a latency measured alone would hold the limit near
  one. A moving average of latency under load, as in Gradient2, follows a lasting overload upwards.
- Growth doubles while nothing speaks against it, so that a limit far below is left in a few steps.
- Where most clients leave before they have anything, the limit is halved. Else one under which no
  answer comes before its client's patience is over would never be found too high.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

START = 8
"""The first limit."""
WINDOW = 48
"""Latencies of which one step is made; of a larger limit, as many as it allows at once."""
WINDOW_MOST = 512
"""But no more than these."""
PROBE_EVERY = 10.0
"""Seconds between two measurements at half the limit, at the least."""
PROBE_SHARE = 50
"""And as many times as long as one took: they cost about a hundredth of the throughput."""
SATURATED = 1.8
"""A fall of latency at half the limit by this much, near in proportion: half is too much, too."""
HEADROOM = 0.25
"""What is added in a step, times the root of the limit."""
BACKOFF = 0.9
"""What is left of the limit where the server says that it is too much."""


class Gradient:
    """low, high: bounds of the limit. tolerance: rise of latency over that at half the limit which
    is taken for none, above 1.

    Tell it each first byte, and each client that left before: what was in flight when the request
    went out, itself included, and the seconds it took. Then read `limit`.
    """

    def __init__(self, low: int, high: int, tolerance: float) -> None:
        self._low = low
        self._high = high
        self._tolerance = tolerance
        self._exact = float(min(max(START, low), high))
        self._step = self._exact
        self._base: float | None = None
        self._base_limit = 0
        self._probing = False
        self._probe_began = 0.0
        self._probe_at = 0.0
        self._before_probe = 0.0
        self._took: list[float] = []
        self._gone = 0
        self._skip = 0
        self._reached = False
        self.limit = int(self._exact)
        """What may be in flight now."""

    def completed(self, in_flight: int, took: float, now: float) -> None:
        """A first byte came `took` seconds after the request, sent with `in_flight` on the way."""
        if self._counts(in_flight):
            self._count(took, now)

    def left(self, in_flight: int, waited: float, now: float) -> None:
        """A client has left `waited` seconds after the request, before the first byte."""
        if self._base is None or waited < self._base:
            return  # it tells nothing of what it did not wait for
        if self._counts(in_flight):
            self._gone += 1
            self._count(waited, now)

    def dropped(self) -> None:
        """The server refused for want of capacity, or gave no answer in time."""
        if self._probing:
            return
        if self._skip:
            self._skip -= 1
            return
        self._step = HEADROOM * sqrt(self._exact)
        self._set(self._exact * BACKOFF)
        self._begin(self.limit)

    def _counts(self, in_flight: int) -> bool:
        """Whether a request belongs to the window under way."""
        limit = int(self._exact)
        if self._probing:
            if in_flight > self.limit:
                return False
        elif in_flight <= limit // 2:
            return False  # light traffic tells nothing about the limit
        elif in_flight >= limit:
            self._reached = True
        if self._skip:
            self._skip -= 1
            return False
        return True

    def _count(self, took: float, now: float) -> None:
        """Makes a step where the window is full. took: of who has left, the least it would have."""
        self._took.append(took)
        if len(self._took) < _window(self.limit):
            return
        if 2 * self._gone > len(self._took):
            self._waited_in_vain()
        elif self._probing:
            self._probed(_middle(self._took), self.limit, now)
        else:
            self._loaded(_middle(self._took), self.limit, now)

    def _waited_in_vain(self) -> None:
        """Most clients left: less in flight, whatever it takes then."""
        self._probing = False
        self._set(self.limit / 2)
        self._step = HEADROOM * sqrt(self._exact)
        self._begin(self.limit)

    def _loaded(self, took: float, limit: int, now: float) -> None:
        """A step, from the latency at the limit. It is skipped where a probe is due."""
        base = self._base
        if (base is None or now >= self._probe_at) and self._probe(took, limit, now):
            return
        if base is None or limit <= self._base_limit:
            # No more is in flight than when the base was measured: this is a newer one.
            base = self._base = took
            self._base_limit = limit
        gradient = self._tolerance * base / took if took else 1.0
        headroom = HEADROOM * sqrt(limit)
        if gradient < 1:
            self._step = headroom
            target = self._exact * max(0.5, gradient) + headroom
            self._set((self._exact + target) / 2)  # a single window may be wrong
        elif self._reached:
            if self._step >= limit:
                self._base, self._base_limit = took, limit  # the next limit's half
            self._set(self._exact + self._step)
            self._step = min(2 * self._step, self._exact)
        self._begin(0 if self.limit == limit else self.limit)

    def _probe(self, took: float, limit: int, now: float) -> bool:
        """Begins to measure at half the limit; False where no lower one may be."""
        half = max(limit // 2, self._low)
        if half >= limit:
            return False
        self._probing = True
        self._probe_began = now
        self._before_probe = took
        self.limit = half
        self._begin(half)
        return True

    def _probed(self, took: float, half: int, now: float) -> None:
        """The base, from the latency at half the limit."""
        if took and self._before_probe / took >= SATURATED:
            self._base, self._base_limit = took, half
            self._step = HEADROOM * sqrt(half)
            self._exact = float(half)
            if self._probe(took, half, now):
                return
        else:
            old = self._base
            self._base = took if old is None else (old + took) / 2
            self._base_limit = half
        self._probing = False
        self._set(self._exact)
        self._begin(self.limit)
        self._probe_at = now + max(PROBE_EVERY, PROBE_SHARE * (now - self._probe_began))

    def _set(self, limit: float) -> None:
        self._exact = min(float(self._high), max(float(self._low), limit))
        self.limit = int(self._exact)

    def _begin(self, skip: int) -> None:
        """A new window, behind `skip` first bytes that belong to what was before.

        They are counted off, not told by when they were asked for: among those asked for since,
        the quick ones come first.
        """
        self._took = []
        self._gone = 0
        self._skip = skip
        self._reached = False


def _window(limit: int) -> int:
    return min(max(WINDOW, limit), WINDOW_MOST)


def _middle(took: Sequence[float]) -> float:
    """The mean of the middle half: steadier than the mean where some take much longer, and than
    the median where requests go in step.
    """
    ordered = sorted(took)
    cut = len(ordered) // 4
    kept = ordered[cut : len(ordered) - cut]
    return sum(kept) / len(kept)
