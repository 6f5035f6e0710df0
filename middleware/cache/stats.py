"""What the cache counts: an addition on the way of a request, read when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.entry import Entry

MAX_USES = 4096
"""Keys whose hits are counted; when there are more, the less used half begins again at nothing."""

KINDS = ("hits", "misses", "collapsed", "bypassed", "stale", "item_hits", "item_misses")


class Tally:
    """One route's requests, each counted once.

    hits: answered from the cache, fresh. stale: answered from it while refreshed, or for an error.
    misses: asked the upstream. collapsed: shared another's call. bypassed: none of the cache's
    business, or left out at the client's wish. item_hits, item_misses: items of calls about
    several, each counted besides its call.
    """

    __slots__ = KINDS

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.collapsed = 0
        self.bypassed = 0
        self.stale = 0
        self.item_hits = 0
        self.item_misses = 0

    @property
    def counts(self) -> dict[str, int]:
        return {kind: getattr(self, kind) for kind in KINDS}


class Stats:
    """All routes of one layer, and what was saved: a hit saves what its entry had cost."""

    def __init__(self) -> None:
        self.routes: dict[str, Tally] = {}
        self.seconds = 0.0
        self.tokens = 0
        self._uses: dict[bytes, int] = {}

    def route(self, name: str) -> Tally:
        return self.routes.setdefault(name, Tally())

    def used(self, key: bytes, entry: Entry) -> None:
        """An entry was served."""
        self.seconds += entry.cost
        self.tokens += entry.tokens
        uses = self._uses
        if key in uses:
            uses[key] += 1
            return
        if len(uses) >= MAX_USES:
            self._uses = uses = dict(self._most(MAX_USES // 2))
        uses[key] = 1

    def top(self) -> Iterator[tuple[bytes, int]]:
        """(key, hits), the most used first."""
        yield from self._most(MAX_USES)

    def _most(self, count: int) -> list[tuple[bytes, int]]:
        return sorted(self._uses.items(), key=lambda item: -item[1])[:count]

    def counted(self, kind: str) -> Iterator[tuple[tuple[str], float]]:
        """(labels, number) by route, for the metrics."""
        for name, tally in self.routes.items():
            yield (name,), getattr(tally, kind)
