"""What was purged: for each label the time up to which everything stored under it is gone.

Nothing is searched for: an entry that a label covers is a miss when somebody asks for it. The
labels are few, and every replica on a store learns them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from math import isfinite
from random import random

import orjson

from proxy.chain import Store
from proxy.exchange import Headers

from ..core.entry import Entry

MAX_LABELS = 1024
"""Labels remembered. Beyond, the oldest one becomes a purge of everything as old as it is."""
MAX_LABEL = 256
"""Characters of a label."""
MAX_TAGS = 64
"""Tags of an entry; further ones are not looked at."""
POLL = 1.0
"""Seconds between two looks at what other replicas have purged."""
KEEP = 30 * 86400.0
"""Seconds for which the store keeps the labels after the last purge."""

ALL = "*"
_PLACE = b"purges:1"
_NEVER = float("-inf")


class Purges:
    """now: wall-clock seconds. store: where replicas tell each other, None where there is none.
    purged: called at each purge, whoever asked for it.
    """

    def __init__(
        self, now: Callable[[], float], store: Store | None, purged: Callable[[], None]
    ) -> None:
        self.marks: dict[str, float] = {}
        """Label -> time by this process's clock. Empty: nothing was purged, nothing to look at."""
        self.known = store is None
        """Whether the store's purges were read: until then nothing that it has is used."""
        self._told: dict[str, float] = {}
        """The same by the clock of whoever purged, as replicas tell it."""
        self._unsaid: set[str] = set()
        """Labels purged here that the store was not yet seen to have."""
        self._now = now
        self._store = store
        self._purged = purged

    def covers(self, key: bytes, entry: Entry) -> bool:
        """Whether the entry is gone. What was asked for before a purge counts as stored before."""
        # `stored_at` is when the answer began or ended: its call began no later than this.
        return self.since(key, entry, entry.stored_at - entry.cost)

    def since(self, key: bytes, entry: Entry, began: float) -> bool:
        """Whether something that covers the entry was purged at `began` or later."""
        marks = self.marks
        return any(
            marks.get(label, _NEVER) >= began
            for label in (
                ALL,
                f"key:{key.hex()}",
                f"route:{entry.route}",
                f"model:{entry.model}",
                *(f"tag:{tag}" for tag in entry.tags),
            )
        )

    async def purge(self, label: str) -> bool:
        """Purges here at once. Whether the store has it, so that other replicas will see it."""
        now = self._now()
        time = max(now, *self._told.values(), 0.0) if label == ALL else now
        self._mark(label, _later(time, label, self._told), now)
        self._unsaid.add(label)
        self._purged()
        return await self.sync() or await self.sync()

    async def keep_in_step(self) -> None:
        """Until cancelled."""
        while True:
            await self.sync()
            await asyncio.sleep(POLL)

    async def sync(self) -> bool:
        """Takes over what others have purged, and tells what they lack. Whether they lacked
        nothing.
        """
        store = self._store
        if store is None:
            return False
        data = await store.get(_PLACE)
        if data is None and not store.up:
            return False
        theirs = read(data)
        for label in list(self._unsaid):
            if theirs.get(label) == self._told[label]:
                self._unsaid.discard(label)
            elif self._told[label] <= max(theirs.get(label, 0.0), theirs.get(ALL, 0.0)):
                # It may be older by our clock than what others did before it, by theirs.
                self._told[label] = _later(self._told[label], label, theirs)
        self._merge(theirs)
        self.known = True
        if self._told == theirs:
            return True
        await store.set(_PLACE, orjson.dumps(self._told), KEEP)
        return False

    def _merge(self, theirs: dict[str, float]) -> None:
        now = self._now()
        news = False
        for label, told in theirs.items():
            if told > self._told.get(label, self._told.get(ALL, 0.0)):
                # Known for some time, a purge is as old as it says; a new one is of just now,
                # whatever the clock of whoever purged says.
                self._mark(label, told, now if self.known else min(now, told))
                news = True
        if news:
            self._purged()

    def _mark(self, label: str, told: float, at: float) -> None:
        self._told[label] = told
        self.marks[label] = max(at, self.marks.get(label, 0.0))
        if label == ALL or len(self._told) > MAX_LABELS:
            others = (one for one in self._told if one != ALL)
            self._fold(label if label == ALL else min(others, key=self._told.__getitem__))

    def _fold(self, label: str) -> None:
        """Makes a purge of everything of a label's, and forgets labels that this includes."""
        everything = max(self._told[label], self._told.get(ALL, 0.0))
        at = max(self.marks[label], self.marks.get(ALL, 0.0))
        for one in [one for one, told in self._told.items() if told <= everything]:
            at = max(at, self.marks.pop(one))
            del self._told[one]
            if one in self._unsaid:
                self._unsaid.discard(one)
                self._unsaid.add(ALL)
        self._told[ALL], self.marks[ALL] = everything, at


def _later(time: float, label: str, told: dict[str, float]) -> float:
    """A time that makes a purge of the label news to whoever knows these, and like no other's."""
    return max(time, told.get(label, 0.0), told.get(ALL, 0.0)) + 0.001 * (1 + random())


def read(data: bytes | None) -> dict[str, float]:
    """The labels that a store has; none where it holds anything else than labels."""
    if data is None or len(data) > MAX_LABELS * 4 * MAX_LABEL:
        return {}
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    if type(value) is not dict or len(value) > MAX_LABELS:
        return {}
    if not all(
        len(label) <= MAX_LABEL and type(at) in (float, int) and isfinite(at)
        for label, at in value.items()
    ):
        return {}
    return value


def tags_of(configured: Sequence[str], headers: Headers) -> tuple[str, ...]:
    """The layer's own tags, and those that an answer names: `Cache-Tag` with commas between
    them, `Surrogate-Key` with spaces. One that is too long to purge by is left out.
    """
    tags = dict.fromkeys(configured)
    for name, value in headers:
        low = name.lower()
        if low in (b"cache-tag", b"surrogate-key"):
            between = rb"[ \t]*,[ \t]*" if low == b"cache-tag" else rb"[ \t]+"
            for tag in re.split(between, value.strip(b" \t"), maxsplit=MAX_TAGS):
                if len(tags) < MAX_TAGS and 0 < len(tag) <= MAX_LABEL - len("tag:"):
                    tags[tag.decode("utf-8", "replace")] = None
    return tuple(tags)
