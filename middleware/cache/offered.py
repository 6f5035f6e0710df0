"""What the cache offers on the admin port: `GET /cache` and `POST /cache/purge`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from proxy.chain import ControlRefused, Env

from ..core.key import KEY_BYTES
from .purges import ALL, MAX_LABEL, Purges
from .stats import KINDS, Stats
from .tiers import RedisTier, Tiers

MAX_TOP = 20
"""Entries that `GET /cache` names."""

_LABELS = ("key", "route", "model", "tag", "all")
_USAGE = "write ?key=HEX, ?route=NAME, ?model=NAME, ?tag=NAME or ?all=1"


class CacheControl:
    """One layer's `proxy.chain.Control`. now: wall-clock seconds."""

    def __init__(
        self, tiers: Tiers, purges: Purges, stats: Stats, now: Callable[[], float]
    ) -> None:
        self._tiers = tiers
        self._purges = purges
        self._stats = stats
        self._now = now

    def offer(self, env: Env) -> None:
        """On the admin port and in the metrics."""
        env.control("cache", self)
        for kind, what in zip(KINDS, _KINDS, strict=True):
            env.numbers(
                "counter", f"cache_{kind}", what, ("route",), partial(self._stats.counted, kind)
            )
        for name, read in (("bytes", self._bytes), ("entries", self._entries)):
            what = f"Stored answers in memory: {name}."
            env.numbers("gauge", f"cache_{name}", what, (), partial(_one, read))
        for name, what, read in (
            ("evicted", "Entries that made room for others.", self._evicted),
            ("store_dropped", "Entries not shared: too many on their way.", self._dropped),
            ("store_poisoned", "Values of a store that were no entry.", self._poisoned),
        ):
            env.numbers("counter", f"cache_{name}", what, (), partial(_one, read))

    def show(self) -> dict[str, Any]:
        memory = self._tiers.memory
        return {
            "entries": self._entries(),
            "bytes": self._bytes(),
            "max_bytes": memory.max_bytes if memory is not None else 0,
            "evicted": self._evicted(),
            "routes": {name: tally.counts for name, tally in self._stats.routes.items()},
            "saved": {"upstream_seconds": self._stats.seconds, "tokens": self._stats.tokens},
            "stores": {
                tier.name: {"up": tier.up, "poisoned": tier.poisoned, "dropped": self._dropped()}
                for tier in self._tiers.stores
                if isinstance(tier, RedisTier)
            },
            "top": self._top(),
        }

    def _top(self) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        now = self._now()
        for key, hits in self._stats.top():
            entry = self._tiers.near(key)
            if entry is not None:
                out.append(
                    {
                        "key": key.hex(),
                        "route": entry.route,
                        "model": entry.model,
                        "hits": hits,
                        "bytes": len(entry.body),
                        "age": round(max(0.0, now - entry.stored_at + entry.age), 3),
                    }
                )
                if len(out) == MAX_TOP:
                    break
        return out

    def told(self, total: dict[str, Any]) -> dict[str, Any]:
        for counts in total["routes"].values():
            served = counts["hits"] + counts["stale"]
            looked_up = served + counts["misses"] + counts["collapsed"]
            counts["hit_ratio"] = round(served / looked_up, 4) if looked_up else 0.0
        saved = total["saved"]
        saved["upstream_seconds"] = round(saved["upstream_seconds"], 3)
        top: dict[str, dict[str, Any]] = {}
        for one in total["top"]:
            same = top.setdefault(one["key"], one)
            if same is not one:
                same["hits"] += one["hits"]
        total["top"] = sorted(top.values(), key=lambda one: -one["hits"])[:MAX_TOP]
        return total

    async def act(self, action: str, query: Mapping[str, str]) -> dict[str, Any]:
        if action != "purge":
            raise ControlRefused(f"`{action[:80]}` is not done here; there is POST /cache/purge")
        label = _label(query)
        if label.startswith("key:"):
            await self._tiers.delete(bytes.fromhex(label.removeprefix("key:")))
        elif label == ALL and self._tiers.memory is not None:
            self._tiers.memory.clear()
        shared = await self._purges.purge(label)
        return {"purged": "all" if label == ALL else label, "shared": shared}

    # -- numbers

    def _bytes(self) -> float:
        return self._tiers.memory.bytes if self._tiers.memory is not None else 0

    def _entries(self) -> float:
        return len(self._tiers.memory) if self._tiers.memory is not None else 0

    def _evicted(self) -> float:
        return self._tiers.memory.evicted if self._tiers.memory is not None else 0

    def _dropped(self) -> float:
        return self._tiers.dropped

    def _poisoned(self) -> float:
        return sum(tier.poisoned for tier in self._tiers.stores if isinstance(tier, RedisTier))


_KINDS = (
    "Requests answered by a fresh stored answer.",
    "Requests that asked the upstream.",
    "Requests that shared another's call.",
    "Requests that the cache left alone.",
    "Requests answered by a stale stored answer.",
    "Items of calls about several that a stored answer had.",
    "Items of calls about several that the upstream, or another's call, was asked about.",
)


def _one(read: Callable[[], float]) -> list[tuple[tuple[()], float]]:
    return [((), read())]


def _label(query: Mapping[str, str]) -> str:
    """What to purge. Raises ControlRefused."""
    if len(query) != 1:
        raise ControlRefused(f"one thing at a time: {_USAGE}")
    ((kind, value),) = query.items()
    if kind not in _LABELS:
        raise ControlRefused(f"nothing is purged by `{kind[:80]}`: {_USAGE}")
    if kind == "all":
        if value != "1":
            raise ControlRefused("to purge everything write ?all=1")
        return ALL
    if kind == "key":
        if re.fullmatch(rf"[0-9a-fA-F]{{{2 * KEY_BYTES}}}", value) is None:
            raise ControlRefused(f"a key is {2 * KEY_BYTES} hex digits, as GET /cache tells")
        value = value.lower()
    label = f"{kind}:{value}"
    if not value or len(label) > MAX_LABEL:
        raise ControlRefused(f"a {kind} has 1 to {MAX_LABEL - len(kind) - 1} characters")
    return label
