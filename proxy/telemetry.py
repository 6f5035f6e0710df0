"""What is counted. The hot path adds to plain numbers; prometheus_client reads them when asked.

A histogram of prometheus_client costs 0.7 us an observation and takes a lock per bucket; one
loop needs no lock, and `bisect` on a tuple costs 0.1 us.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from .chain import Numbers
from .exchange import Outcome

# Seconds. A cheap embedding takes milliseconds, a long generation minutes.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Histogram:
    """Counts per bucket, and their sum, in seconds."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        total = 0
        out: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self.counts, strict=True):
            total += count
            out.append((bound, total))
        return out


class RouteStats:
    """The numbers of one route."""

    __slots__ = ("cancelled", "duration", "first_byte", "in_flight", "sent_bytes", "statuses")

    def __init__(self) -> None:
        self.in_flight = 0
        self.cancelled = 0
        self.sent_bytes = 0
        self.statuses: dict[int, int] = {}
        self.duration = Histogram()
        self.first_byte = Histogram()

    def ended(self, outcome: Outcome, started: float, now: float) -> None:
        """Take up one exchange that ended."""
        self.in_flight -= 1
        if outcome.cancelled:
            self.cancelled += 1
        status = outcome.status
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.sent_bytes += outcome.bytes_sent
        self.duration.observe(now - started)
        if outcome.first_byte is not None:
            self.first_byte.observe(outcome.first_byte - started)


class PoolNumbers(Protocol):
    """What a pool tells of itself."""

    @property
    def idle(self) -> int: ...
    @property
    def waiting(self) -> int: ...

    open: int
    opened: int


class _Offered(NamedTuple):
    """One family of numbers that layers keep themselves."""

    kind: Literal["counter", "gauge"]
    documentation: str
    labels: Sequence[str]
    reads: list[Numbers]


class Telemetry:
    """The registry behind /metrics. Label values come from the file, never from a client."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._routes: Sequence[tuple[str, RouteStats]] = ()
        self._pools: Callable[[], Iterable[tuple[str, str, PoolNumbers]]] = list
        self._connections: Callable[[], int] = int
        self._counters: dict[str, Counter] = {}
        self._offered: dict[str, _Offered] = {}

    def watch(
        self,
        routes: Sequence[tuple[str, RouteStats]],
        pools: Callable[[], Iterable[tuple[str, str, PoolNumbers]]],
        connections: Callable[[], int],
    ) -> None:
        """routes: (name, numbers). pools: (upstream, endpoint, numbers), as they are when asked."""
        self._routes = routes
        self._pools = pools
        self._connections = connections

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Any:
        """The counter `remora_NAME_total`, made once however many ask."""
        found = self._counters.get(name)
        if found is None:
            found = Counter(f"remora_{name}", documentation, labels, registry=self.registry)
            self._counters[name] = found
        return found

    def numbers(
        self,
        kind: Literal["counter", "gauge"],
        name: str,
        documentation: str,
        labels: Sequence[str],
        read: Numbers,
    ) -> None:
        """The family `remora_NAME`, read when asked; what several offer under a name is summed."""
        offered = self._offered.setdefault(name, _Offered(kind, documentation, tuple(labels), []))
        offered.reads.append(read)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._collect_routes()
        yield from self._collect_pools()
        yield from self._collect_offered()
        yield GaugeMetricFamily(
            "remora_client_connections", "Client connections open.", value=self._connections()
        )

    def _collect_routes(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "remora_requests",
            "Exchanges ended, by status sent; 0 when the client left before any.",
            labels=("route", "status"),
        )
        cancelled = CounterMetricFamily(
            "remora_requests_cancelled", "Exchanges whose client left.", labels=("route",)
        )
        sent = CounterMetricFamily(
            "remora_response_bytes", "Body bytes sent to clients.", labels=("route",)
        )
        in_flight = GaugeMetricFamily(
            "remora_requests_in_flight", "Exchanges under way.", labels=("route",)
        )
        duration = HistogramMetricFamily(
            "remora_request_duration_seconds",
            "From a request's head to the last byte of its answer.",
            labels=("route",),
        )
        first = HistogramMetricFamily(
            "remora_first_byte_seconds",
            "From a request's head to the first byte of its answer.",
            labels=("route",),
        )
        for route, stats in self._routes:
            for status, count in sorted(stats.statuses.items()):
                requests.add_metric((route, str(status)), count)
            cancelled.add_metric((route,), stats.cancelled)
            sent.add_metric((route,), stats.sent_bytes)
            in_flight.add_metric((route,), stats.in_flight)
            duration.add_metric((route,), stats.duration.buckets(), stats.duration.sum)
            first.add_metric((route,), stats.first_byte.buckets(), stats.first_byte.sum)
        yield from (requests, cancelled, sent, in_flight, duration, first)

    def _collect_pools(self) -> Iterator[Metric]:
        labels = ("upstream", "endpoint")
        connections = GaugeMetricFamily(
            "remora_upstream_connections",
            "Connections to an endpoint: idle, or busy with an exchange.",
            labels=(*labels, "state"),
        )
        opened = CounterMetricFamily(
            "remora_upstream_connections_opened", "Connections made.", labels=labels
        )
        waiting = GaugeMetricFamily(
            "remora_upstream_waiting", "Requests that wait for a connection.", labels=labels
        )
        for upstream, endpoint, pool in self._pools():
            where = (upstream, endpoint)
            connections.add_metric((*where, "idle"), pool.idle)
            connections.add_metric((*where, "busy"), pool.open - pool.idle)
            opened.add_metric(where, pool.opened)
            waiting.add_metric(where, pool.waiting)
        yield from (connections, opened, waiting)

    def _collect_offered(self) -> Iterator[Metric]:
        for name, offered in self._offered.items():
            sums: dict[tuple[str, ...], float] = {}
            for read in offered.reads:
                for values, number in read():
                    key = tuple(values)
                    sums[key] = sums.get(key, 0) + number
            made = CounterMetricFamily if offered.kind == "counter" else GaugeMetricFamily
            family = made(f"remora_{name}", offered.documentation, labels=offered.labels)
            for key, number in sums.items():
                family.add_metric(key, number)
            yield family
