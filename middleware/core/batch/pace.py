"""What is learned of the server's time, and how many items and batches it is given for it."""

from __future__ import annotations

MOST_LEVELS = 64
"""Batches side by side that are tried, however well the server takes them."""
FIRST_TRIAL = 16
"""Batches after which another number of them side by side is tried; twice as many after each trial
that was of no use."""
LAST_TRIAL = 2048
SAMPLES = 8
"""Batches by which a trial is judged."""
STUCK = 4.0
"""How many times as long as expected a call takes before it is no longer counted among those that
others wait for.
"""
FIRST_PATIENCE = 1.0
"""Seconds, where nothing is known of how long one takes."""
GAIN = 1.1
"""How much better more batches side by side must be to be worth their latency."""


class Fit:
    """seconds = a * items + b, by least squares with exponential forgetting.

    a and b are never negative. Where all batches were of one size, a is what it was before; from
    the first, a and b are in the proportion of `like`, and without it b is 0.
    """

    __slots__ = ("_keep", "_like", "_n", "_nn", "_nt", "_sloped", "_t", "_w", "a", "b", "samples")

    def __init__(self, like: Fit | None = None, keep: float = 0.98) -> None:
        self._keep = keep
        self._w = self._n = self._t = self._nn = self._nt = 0.0
        self._sloped = False
        self.a: float = like.a if like is not None else 0.0
        self.b: float = like.b if like is not None else 0.0
        self._like = (self.a, self.b) if self.a or self.b else (1.0, 0.0)
        self.samples = 0

    def add(self, items: int, seconds: float) -> None:
        keep = self._keep
        self.samples += 1
        self._w = w = self._w * keep + 1
        self._n = n = self._n * keep + items
        self._t = t = self._t * keep + seconds
        self._nn = nn = self._nn * keep + items * items
        self._nt = nt = self._nt * keep + items * seconds
        spread = w * nn - n * n
        if spread > 1e-4 * w * nn:
            self.a = (w * nt - n * t) / spread
            self._sloped = True
        elif not self._sloped:
            a, b = self._like
            self.a = a * t / (a * n + b * w)
        self.b = (t - self.a * n) / w
        if self.a < 0:
            self.a, self.b = 0.0, t / w
        elif self.b < 0:
            self.a, self.b = nt / nn, 0.0

    @property
    def sloped(self) -> bool:
        """Batches of more than one size were seen."""
        return self._sloped

    @property
    def mean(self) -> float:
        """Seconds of a batch."""
        return self._t / self._w

    def at(self, items: float) -> float:
        """Seconds that so many items take."""
        return self.a * items + self.b

    def most(self, seconds: float) -> float:
        """Items that take no longer than `seconds`; where batches of one size alone were seen, up
        to twice as many as those, so that others will be.
        """
        if self.a <= 0:
            most = float("inf") if self.b <= seconds else 0.0
        else:
            most = (seconds - self.b) / self.a
        if not self._sloped and self.samples and self.at(self._n / self._w) <= seconds:
            most = max(most, 2 * self._n / self._w)
        return most


class Pace:
    """How many batches side by side, and how many items in each.

    limit: batches side by side; None: found by trial, as what computes most items a second within
    `target` seconds for a batch. size: the largest batch that the file allows.
    """

    def __init__(self, size: int, limit: int | None, target: float | None) -> None:
        self._size = size
        self._target = target
        self._adaptive = limit is None
        self.limit = limit or 1
        self._home = self.limit
        self._fits: dict[int, Fit] = {}
        self._demand = 1.0
        self._seen = 0
        self._wait = FIRST_TRIAL
        self._upwards = True

    @property
    def fit(self) -> Fit | None:
        """Of batches at the present limit; None before there were any."""
        return self._fits.get(self.limit) or self._fits.get(1)

    @property
    def size(self) -> int:
        """Items that a batch may have now."""
        if self.limit == 1 and self._target is None:
            return self._size  # the common case, and every request asks
        return self._best_size(self.limit)

    @property
    def fixed(self) -> float:
        """Seconds that a batch takes whatever its size: a guess where one size alone was seen, so
        that others will be; 0 where nothing is known yet.
        """
        fit = self._fits.get(1)
        if fit is None or fit.samples < SAMPLES // 2:
            return 0.0
        return fit.b if fit.sloped else fit.mean / 4

    def seconds(self, items: int) -> float:
        """A guess at how long so many items take; 0 where nothing is known."""
        fit = self.fit
        size = self.size
        return 0.0 if fit is None else items / (self.limit * size) * fit.at(size)

    def patience(self, items: int) -> float | None:
        """Seconds after which a call with so many items is stuck, and others go in its place: one
        that hangs must not hold up all. None: never, since the file says how many there may be.
        """
        if not self._adaptive:
            return None
        fit = self.fit
        return max(FIRST_PATIENCE, STUCK * fit.at(max(1, items)) if fit is not None else 0.0)

    def seen(self, items: int, side_by_side: float, demand: int, seconds: float) -> None:
        """A batch was answered. side_by_side: the mean number of batches under way meanwhile, this
        one included. demand: items under way or waiting as it ended.
        """
        level = round(side_by_side)
        if not 1 <= level <= MOST_LEVELS or (level == 1 and side_by_side > 1.25):
            return
        # By Little's law what counts is items * side_by_side / seconds; the level is that, rounded.
        fit = self._fits.get(level)
        if fit is None:
            fit = self._fits[level] = Fit()
        fit.add(items, seconds * level / side_by_side)
        self._demand += 0.1 * (demand - self._demand)
        if self._adaptive:
            self._adapt()

    def _best_size(self, level: int) -> int:
        size = float(self._size)
        if self._adaptive and level > 1:
            # What waits is shared out: four batches of eight, not one of all and three places free.
            size = min(size, self._demand // level)
        fit = self._fits.get(level)
        if self._target is not None and fit is not None and (fit.samples >= SAMPLES or level > 1):
            size = min(size, fit.most(self._target))
        return max(1, int(size))

    def _rate(self, level: int) -> float:
        """Items a second with so many batches side by side; 0 where nothing is known."""
        fit = self._fits.get(level)
        if fit is None:
            return 0.0
        size = min(self._best_size(level), max(1.0, self._demand / level))
        seconds = fit.at(size)
        if self._target is not None and seconds > self._target and level > 1:
            return 0.0
        return level * size / seconds if seconds > 0 else 0.0

    def _adapt(self) -> None:
        self._seen += 1
        if self.limit == self._home:
            if self._seen >= self._wait:
                self._try()
            return
        fit = self._fits.get(self.limit)
        if fit is not None and fit.samples >= SAMPLES:
            self._judge()
        elif self._seen >= 4 * SAMPLES:  # there are not so many to do
            self._settle(self._home, useful=False)

    def _try(self) -> None:
        step = max(1, self._home // 4)  # one more of many would never gain enough
        level = min(MOST_LEVELS, self._home + step)
        if not self._upwards and self._home > 1:
            level = self._home - step
        self._upwards = not self._upwards
        self._seen = 0
        if level > self._demand or level == self._home:
            return
        self.limit = level
        # What was seen at another time says little of now.
        self._fits[level] = Fit(like=self._fits.get(self._home))

    def _judge(self) -> None:
        tried, home = self._rate(self.limit), self._rate(self._home)
        useful = tried > home * GAIN if self.limit > self._home else tried * GAIN > home
        self._settle(self.limit if useful else self._home, useful)

    def _settle(self, level: int, useful: bool) -> None:
        self._seen = 0
        self._wait = FIRST_TRIAL if useful else min(LAST_TRIAL, 2 * self._wait)
        self._home = self.limit = level
