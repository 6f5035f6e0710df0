"""How it is measured: the run, its rounds, and the kinds of scenario."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .peers import (
    NOOP,
    NOOP_OFF,
    PEERS,
    ROOT,
    CannotStartError,
    Running,
    Spot,
    free_port,
    start,
)

EVERYONE = ("nginx", "haproxy", "naive", "remora")


@dataclass(frozen=True)
class Column:
    """One figure of a table. key: its name in --json. The first column of a table is compared."""

    key: str
    title: str
    digits: int = 0


@dataclass
class Row:
    """One proxy's figures, a value for each round, or why it has none."""

    name: str
    values: dict[str, list[float]] = field(default_factory=dict)
    failed: str | None = None

    def add(self, figures: dict[str, Any]) -> None:
        for key, value in figures.items():
            self.values.setdefault(key, []).append(value)


@dataclass
class Table:
    """A scenario's result. against: the rows that the first column is divided by."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: list[Row]
    against: tuple[str, ...] = ("nginx", "naive")
    notes: list[str] = field(default_factory=list)

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name and row.values), None)


@dataclass
class Bench:
    """One run: its bounds, its cores, its backend, and where it says how far it is."""

    only: tuple[str, ...]
    rounds: int
    seconds: float
    warmup: float
    idle_connections: int
    folder: Path
    proxy_core: int
    load_core: int
    backend_core: int
    say: Callable[[str], None]
    upstream: int = 0
    upstream_pid: int = 0

    def peers(self, among: tuple[str, ...]) -> list[str]:
        return [name for name in among if name in self.only]

    @contextmanager
    def backend(self) -> Iterator[None]:
        self.upstream = free_port()
        command = [sys.executable, "-m", "tests.bench.backend", str(self.upstream)]
        running = Running(command, self.upstream, self.backend_core, self.folder / "backend.log")
        self.upstream_pid = running.pid
        try:
            yield
        finally:
            running.stop()

    def spot(self, **more: Any) -> Spot:
        return Spot(free_port(), self.upstream, self.folder, **more)

    @contextmanager
    def standing(self, spots: dict[str, tuple[str, Spot]]) -> Iterator[dict[str, Running | Row]]:
        """Starts each row's proxy (row name: peer, spot); one that cannot start is a failed Row."""
        made: dict[str, Running | Row] = {}
        try:
            for name, (peer, spot) in spots.items():
                try:
                    made[name] = start(PEERS[peer], spot, self.proxy_core)
                except CannotStartError as error:
                    if PEERS[peer].required:
                        raise
                    made[name] = Row(name, failed=str(error))
            yield made
        finally:
            for running in made.values():
                if isinstance(running, Running):
                    running.stop()

    def load(
        self, kind: str, proxies: Sequence[Running | None], connections: int, seconds: float
    ) -> list[dict[str, Any]]:
        """One round: figures for each proxy, or {"error": why}. None is the backend itself."""
        targets = [it.target if it else f"{self.upstream}" for it in proxies]
        words = f"--backend {self.upstream_pid} --counter {self.upstream}"
        words += f" --connections {connections}"
        words += f" --seconds {seconds} --warmup {self.warmup}"
        command = [sys.executable, "-m", "tests.bench.load", kind, *targets, *words.split()]
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.load_core})
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
        finally:
            os.sched_setaffinity(0, everywhere)
        if done.returncode:
            raise CannotStartError(f"the load: {done.stderr.strip()[-1500:]}")
        results: list[dict[str, Any]] = json.loads(done.stdout)
        return results

    def round(
        self, label: str, kind: str, proxies: dict[str, Running | Row], rows: dict[str, Row],
        connections: int, seconds: float, turn: int,
    ) -> None:  # fmt: skip
        """Every proxy once, the order turned each time, the figures added to `rows`."""
        standing = {name: it for name, it in proxies.items() if isinstance(it, Running)}
        names = [name for name in standing if not rows[name].failed][:: -1 if turn % 2 else 1]
        if not names:
            return
        results = self.load(kind, [standing[name] for name in names], connections, seconds)
        told = []
        for name, result in zip(names, results, strict=True):
            if "error" in result:
                if name.startswith("remora"):
                    raise CannotStartError(f"{name}: {result['error']}")
                rows[name].failed = result["error"]
                rows[name].values.clear()
                told.append(f"{name} failed: {result['error']}")
            else:
                rows[name].add(result)
                told.append(f"{name} {next(iter(result.values())):.1f}")
        self.say(f"{label}  round {turn + 1}  " + "  ".join(sorted(told)))

    def rounds_of(
        self, label: str, kind: str, spots: dict[str, tuple[str, Spot]], connections: int
    ) -> list[Row]:
        """All the rounds, the proxies standing side by side."""
        with self.standing(spots) as proxies:
            rows = {name: it if isinstance(it, Row) else Row(name) for name, it in proxies.items()}
            for turn in range(self.rounds):
                self.round(label, kind, proxies, rows, connections, self.seconds, turn)
        return list(rows.values())


class Scenario(Protocol):
    @property
    def name(self) -> str: ...

    def run(self, bench: Bench) -> Table | None:
        """None where no proxy of the run takes part."""
        ...


@dataclass(frozen=True)
class UnderLoad:
    """Each proxy with the same load in turn. kind: the load's. per: what one unit of work is."""

    name: str
    title: str
    kind: str
    per: str
    connections: int
    streaming: bool
    columns: tuple[Column, ...]

    def run(self, bench: Bench) -> Table | None:
        names = bench.peers(EVERYONE)
        if not names:
            return None
        spots = {name: (name, bench.spot(streaming=self.streaming)) for name in names}
        label = f"{self.name}: {self.columns[0].title}"
        rows = bench.rounds_of(label, self.kind, spots, self.connections)
        (alone,) = bench.load(self.kind, [None], self.connections, min(1.0, bench.seconds))
        note = (
            f"The load and the backend with no proxy between them: {alone['rate']:,.0f} "
            f"{self.per}s/s, p50 {alone['p50']:,.0f} us, p99 {alone['p99']:,.0f} us."
        )
        return Table(self.name, self.title, self.columns, rows, notes=[note])


class Idle:
    """Memory that an idle keep-alive connection holds: each has done one request."""

    name = "idle"

    def run(self, bench: Bench) -> Table | None:
        names = bench.peers(EVERYONE)
        rows = {name: Row(name) for name in names}
        # A fresh process each time: what a past load left behind would hide the growth.
        for turn in range(min(2, bench.rounds)):
            with bench.standing({name: (name, bench.spot()) for name in names}) as proxies:
                rows |= {name: it for name, it in proxies.items() if isinstance(it, Row)}
                bench.round(
                    "idle: KiB a connection", "idle", proxies, rows,
                    bench.idle_connections, 0.0, turn,
                )  # fmt: skip
        columns = (
            Column("kept", "KiB a connection", 1),
            Column("before", "RSS before, MiB", 1),
            Column("after", "RSS with them, MiB", 1),
        )
        title = f"{bench.idle_connections:,} idle keep-alive connections"
        return Table(self.name, title, columns, list(rows.values())) if rows else None


class Layers:
    """What ten layers that do nothing add to a request, and ten that are switched off."""

    name = "layers"

    def run(self, bench: Bench) -> Table | None:
        if not bench.peers(("remora",)):
            return None
        chains = {
            "remora": (),
            "remora, ten no-op layers": (NOOP,) * 10,
            "remora, ten layers off": (NOOP_OFF,) * 10,
        }
        spots = {name: ("remora", bench.spot(layers=layers)) for name, layers in chains.items()}
        rows = bench.rounds_of("layers: CPU us a request", "pass", spots, 32)
        bare = rows[0].values["cpu"]
        for row in rows:
            pairs = zip(row.values.get("cpu", []), bare, strict=False)
            row.values["added"] = [with_them - without for with_them, without in pairs]
        columns = (
            Column("cpu", "CPU us a request", 1),
            Column("added", "added us (of each pair)", 2),
            Column("rate", "requests/s"),
        )
        return Table(self.name, "Ten no-op layers", columns, rows, against=())
