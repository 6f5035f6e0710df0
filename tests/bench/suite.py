"""What is measured. A new scenario is one more object in SCENARIOS."""

from __future__ import annotations

from .costs import Costs
from .hits import Hits
from .merging import Merging
from .scenarios import Column, Idle, Layers, Scenario, UnderLoad

_LATENCIES = (Column("p50", "p50 us"), Column("p99", "p99 us"))
_STATE = (Column("busy", "core busy %"), Column("rss", "RSS MiB", 1))

SCENARIOS: list[Scenario] = [
    UnderLoad(
        "pass", "Pass-through: POST, 385 bytes of JSON in, 437 out, 32 keep-alive connections",
        kind="pass", per="request", connections=32, streaming=False,
        columns=(
            Column("cpu", "CPU us a request", 1), *_LATENCIES, Column("rate", "requests/s"), *_STATE
        ),
    ),
    UnderLoad(
        "sse", "SSE relay: 64 streams, 500 events a second each",
        kind="sse", per="event", connections=64, streaming=True,
        columns=(
            Column("cpu", "CPU us an event", 2), *_LATENCIES, Column("rate", "events/s"),
            Column("merged", "events a read", 2), *_STATE,
        ),
    ),
    Idle(),
    Layers(),
    Hits(),
    Costs(),
    Merging(),
]  # fmt: skip
