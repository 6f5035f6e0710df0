"""What is counted, for whoever asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.chain import Env, Numbers

from .lane import Lane
from .stats import Stats

_LANES: tuple[tuple[str, Any, str], ...] = (
    ("queued", "gauge", "Items that wait."),
    ("inflight", "gauge", "Calls under way."),
    ("inflight_limit", "gauge", "Calls that may be under way."),
    ("size_limit", "gauge", "Items that a call may have."),
    ("divided", "counter", "Failed calls that were divided to find who is to blame."),
    ("cancelled", "counter", "Calls cancelled because every client had left."),
    ("tokens", "counter", "Tokens of queued items that were sent, padding left out."),
    ("item_seconds", "gauge", "What an item adds to a call's time, as fitted."),
    ("call_seconds", "gauge", "What a call takes whatever its size, as fitted."),
)


def offer(env: Env, stats: Stats, lanes: Mapping[str, Lane]) -> None:
    """Offers what is counted for the metrics. lanes: by upstream."""
    numbers = env.numbers
    numbers(
        "counter", "aggregate_requests", "Requests, by what was done with them.",
        ("route", "how"), stats.requests,
    )  # fmt: skip
    numbers("counter", "aggregate_items", "Items sent.", ("route",), stats.items)
    numbers(
        "counter", "aggregate_duplicates", "Items not sent, the same being in the call.",
        ("route",), stats.duplicates,
    )  # fmt: skip
    numbers(
        "counter", "aggregate_calls", "Calls, by items, up to this many.",
        ("route", "items"), stats.calls,
    )  # fmt: skip
    numbers(
        "counter", "aggregate_waits", "Requests, by seconds before they were sent, up to this.",
        ("route", "seconds"), stats.waits,
    )  # fmt: skip
    numbers(
        "counter", "aggregate_wait_seconds", "Seconds that requests waited to be sent.",
        ("route",), stats.seconds,
    )  # fmt: skip
    for name, kind, documentation in _LANES:
        numbers(kind, f"aggregate_{name}", documentation, ("upstream",), _of_lanes(lanes, name))
    numbers(
        "counter", "aggregate_padding_tokens",
        "Tokens that padding adds: as sent, and had the same calls been made in the order of "
        "arrival.", ("upstream", "order"), _padding(lanes),
    )  # fmt: skip


def _of_lanes(lanes: Mapping[str, Lane], name: str) -> Numbers:
    def read() -> Iterator[tuple[tuple[str], float]]:
        for upstream, lane in lanes.items():
            plan = lane.plan
            fit = plan.pace.fit
            yield (
                (upstream,),
                {
                    "queued": plan.queued,
                    "inflight": plan.running,
                    "inflight_limit": plan.pace.limit,
                    "size_limit": plan.bounds(lane.clock()).size,
                    "divided": plan.divided,
                    "cancelled": lane.cancelled,
                    "tokens": plan.padding.tokens,
                    "item_seconds": fit.a if fit is not None else 0.0,
                    "call_seconds": fit.b if fit is not None else 0.0,
                }[name],
            )

    return read


def _padding(lanes: Mapping[str, Lane]) -> Numbers:
    def read() -> Iterator[tuple[tuple[str, str], float]]:
        for upstream, lane in lanes.items():
            padding = lane.plan.padding
            yield (upstream, "sent"), padding.sent
            yield (upstream, "arrival"), padding.in_order

    return read
