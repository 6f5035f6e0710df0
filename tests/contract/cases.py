"""Every layer that goes through the suite: one line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """name: as a chain writes it. on: keys with which it works. off: keys that switch it off.

    fields: of a request on which it has something to do.
    """

    name: str
    on: Mapping[str, Any] = field(default_factory=dict)
    off: Mapping[str, Any] = field(default_factory=lambda: {"enabled": False})
    fields: tuple[bytes, ...] = ()

    @property
    def entry(self) -> dict[str, Any]:
        return {self.name: dict(self.on)}

    @property
    def switched_off(self) -> dict[str, Any]:
        return {self.name: dict(self.off)}


BUILT_IN = [
    Case("access_log", on={"query": True}, fields=(b"x-request-id: 7",)),
    Case("aggregate", on={"max_batch_size": 8, "max_queue_delay": "1ms"}),
    Case(
        "auth",
        on={"keys": [{"name": "suite", "key": "key-of-the-suite-0123456789"}], "upstream": "keep"},
        fields=(b"authorization: Bearer key-of-the-suite-0123456789",),
    ),
    # Stores, and never answers by itself: every request of the suite is to reach the server.
    Case("cache", on={"ttl": "1m"}, fields=(b"x-remora-cache: write-only",)),
    Case("circuit_breaker", on={"window": "1m", "probes": 1}),
    # A client that takes no coding; with one the body's bytes are others.
    Case("compress", on={"requests": "decompress"}),
    # The fixed limit is the simpler one: it adds no filter to a stream.
    Case("concurrency", on={"limit": "adaptive"}),
    Case("prefetch", on={"probability": 0.1, "budget": 1.0}),
    Case("rate_limit", on={"limits": ["1000000000/second"], "cost": "tokens"}),
    # By default it waits for a stream's first event, and sends what was refused elsewhere: the
    # suite counts what reaches the server. tests/retry asks for the same with all of it.
    Case("retry", on={"on": ["reset", 503], "backoff": {"first": "0s"}}),
    # A client that takes JSON, from a server that gives it, and whose base64 is looked for.
    Case("transcode", on={"make_base64": True}),
]

EXAMPLE = Case("stream_stalls:StreamStalls", on={"stall": "500ms"})
"""The layer of docs/writing-a-layer.md."""

CASES = [*BUILT_IN, EXAMPLE]
