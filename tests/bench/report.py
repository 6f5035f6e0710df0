"""The result as Markdown and as a bar chart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from xml.sax.saxutils import escape

from .hits import GET, POST
from .scenarios import Column, Row, Table

Tables = dict[str, Table]
BUSY = 10
"""Percent of one core that something else used: above it the page says so."""


def ratio(table: Table, name: str, to: str) -> list[float]:
    """The first column of `name` over that of `to`, round by round; empty where one is missing."""
    row, base = table.row(name), table.row(to)
    key = table.columns[0].key
    if row is None or base is None:
        return []
    return [a / b for a, b in zip(row.values[key], base.values[key], strict=False) if b]


def _values(tables: Tables, scenario: str, name: str, key: str) -> list[float]:
    row = tables[scenario].row(name) if scenario in tables else None
    return row.values[key] if row else []


def _ratio(scenario: str, to: str, row: str = "remora") -> Callable[[Tables], list[float]]:
    return lambda tables: ratio(tables[scenario], row, to) if scenario in tables else []


@dataclass(frozen=True)
class Target:
    """A figure that remora is to reach; lower is better."""

    what: str
    least: float
    aim: float
    unit: str
    measured: Callable[[Tables], list[float]]


TARGETS = (
    Target("pass-through, CPU against nginx", 4.5, 3.0, "x", _ratio("pass", "nginx")),
    Target("SSE event relayed, CPU against nginx", 2.0, 1.3, "x", _ratio("sse", "nginx")),
    Target("pass-through, CPU against naive aiohttp", 0.33, 0.25, "x", _ratio("pass", "naive")),
    Target("RSS idle", 60, 45, " MiB", lambda t: _values(t, "idle", "remora", "before")),
    Target("kept per idle connection", 15, 10, " KiB",
           lambda t: _values(t, "idle", "remora", "kept")),
    Target("ten no-op layers, added CPU a request", 5, 2, " us",
           lambda t: _values(t, "layers", "remora, ten no-op layers", "added")),
    Target("cache hit (GET), CPU against nginx", 4.0, 4.0, "x", _ratio("cache", "nginx", GET)),
    Target("cache hit (GET), CPU against Varnish", 1.5, 1.0, "x", _ratio("cache", "varnish", GET)),
    Target("cache hit (POST), CPU against nginx", 4.0, 4.0, "x", _ratio("cache", "nginx", POST)),
    Target("cache hit (POST), CPU against Varnish", 1.5, 1.0, "x",
           _ratio("cache", "varnish", POST)),
    Target("merging, 32 clients, time a text against direct", 0.303, 0.25, "x",
           _ratio("merging", "direct", "remora with aggregate")),
)  # fmt: skip


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _grid(head: list[str], body: list[list[str]]) -> list[str]:
    return [_line(head), _line(["---"] + ["---:"] * (len(head) - 1)), *map(_line, body)]


def _figure(values: list[float], digits: int, spread: bool = False) -> str:
    if not values:
        return "-"
    told = f"{median(values):,.{digits}f}"
    if spread and len(values) > 1:
        told += f" ({min(values):,.{digits}f} to {max(values):,.{digits}f})"
    return told


def _cells(table: Table, row: Row) -> list[str]:
    if row.failed:
        why = row.failed.splitlines()[-1].replace("|", "/")[:200]
        return [row.name, f"no result: {why}"] + ["-"] * (
            len(table.columns) - 1 + len(table.against)
        )

    def cell(column: Column) -> str:
        spread = column.key in (table.columns[0].key, "added")
        return _figure(row.values.get(column.key, []), column.digits, spread)

    first, *others = table.columns
    ratios = [_figure(ratio(table, row.name, to), 2) for to in table.against]
    return [row.name, cell(first), *ratios, *map(cell, others)]


def _others(tables: Tables) -> str:
    rows = [row for table in tables.values() for row in table.rows]
    values = [value for row in rows for value in row.values.get("others", [])]
    told = f"{_figure(values, 0, spread=True)} % of one core"
    return f"**{told}: too busy to compare**" if values and median(values) > BUSY else told


def markdown(tables: Tables, facts: dict[str, str]) -> str:
    """The page. facts: what the run ran on, as name and value."""
    facts = facts | {"used by all else meanwhile": _others(tables)}
    lines = ["# Bench", "", "Written by `make bench`; do not edit.", "", "![bench](bench.svg)", ""]
    lines += _grid(["run", ""], [[name, value] for name, value in facts.items()])
    lines += ["", "## Targets", ""]
    body = []
    for target in TARGETS:
        values = target.measured(tables)
        digits = 2 if target.unit in ("x", " us") else 1
        got = median(values) if values else None
        verdict = "-"
        if got is not None:
            verdict = "no" if got > target.least else "at least" if got > target.aim else "aim"
        bounds = [f"{bound:g}{target.unit}" for bound in (target.least, target.aim)]
        told = _figure(values, digits, spread=True) + (target.unit if values else "")
        body.append([target.what, *bounds, told, verdict])
    lines += _grid(["remora", "at least", "aim", "measured", "reached"], body)
    for table in tables.values():
        lines += ["", f"## {table.title}", ""]
        first, *others = table.columns
        against = [f"x {name}" for name in table.against]
        head = ["proxy", first.title, *against, *(column.title for column in others)]
        lines += _grid(head, [_cells(table, row) for row in table.rows])
        for note in table.notes:
            lines += ["", note]
    return "\n".join([*lines, "", *_METHOD, ""])


_METHOD = """## How to read it

- CPU is user and system time of the proxy's whole process tree, from `/proc/PID/stat`, divided by
  the requests or events of the measured window. The kernel counts in steps of 10 ms.
- A figure is the median of the rounds, in brackets their least and greatest: that is the machine's
  noise. In each round every proxy is measured once, in slices of 0.2 s that take turns (SSE: in one
  piece), and the order turns from round to round. Ratios and differences are taken within a round,
  and their median is shown: they are steadier than the figures they come from.
- "Used by all else meanwhile" is what the machine's cores did in the measured windows besides the
  proxy, the load and the backend, its kernel's own work included. A run on a machine that does
  something else besides shows it there.
- The proxy has one core to itself, the load and the backend share another (each its own where
  there are three). Where "core busy" is well under 100 %, the load was the limit: requests/s and
  latency are then the load's, and only the CPU figure is the proxy's.
- The load is closed: a connection sends its next request when it has verified the status and the
  body of the last. Latency is from the write to the last byte.
- An event's latency is from the backend's write to the load's read. The backend's timer wakes once
  a millisecond, so half of the streams are written back to back; their queueing is in the figure.
  "Events a read" is how many arrive together at the client: above 1 the proxy, or a socket on the
  way, has merged them, which makes an event cheaper and later.
- RSS is the sum over the process tree. "Before" is after 200 requests over one connection. What
  the kernel holds for a socket is in neither figure.
- nginx runs one worker, haproxy one thread, both with keep-alive to the backend and no access log;
  `proxy_buffering off` and `option http-no-delay` only for SSE. "naive" is an aiohttp server that
  streams through one ClientSession, on uvloop: `tests/bench/naive.py`.
""".splitlines()

_STYLE = """
    .card { fill: #ffffff } .text { fill: #1f2328 } .faint { fill: #59636e }
    .bar { fill: #8c959f } .own { fill: #0969da } .spread { stroke: #1f2328 }
    text { font: 13px system-ui, sans-serif }
    .title { font-weight: 600 }
    @media (prefers-color-scheme: dark) {
      .card { fill: #0d1117 } .text { fill: #e6edf3 } .faint { fill: #9198a1 }
      .bar { fill: #6e7681 } .own { fill: #4493f8 } .spread { stroke: #e6edf3 }
    }"""
_WIDTH, _LEFT, _RIGHT, _STEP = 760, 190, 150, 24


def svg(tables: Tables) -> str:
    """A bar for each proxy's first column, a line over it from the least round to the greatest."""
    parts: list[str] = []
    y = 12
    room = _WIDTH - _LEFT - _RIGHT
    for table in tables.values():
        column = table.columns[0]
        rows = [row for row in table.rows if row.values.get(column.key)]
        if not rows:
            continue
        y += 22
        parts.append(f'<text class="text title" x="16" y="{y}">{escape(table.title)}</text>')
        y += 18
        parts.append(f'<text class="faint" x="16" y="{y}">{escape(column.title)}</text>')
        y += 10
        scale = room / max(*(max(row.values[column.key]) for row in rows), 1e-9)
        for row in rows:
            values = row.values[column.key]
            got = median(values)
            kind = "own" if row.name.startswith("remora") else "bar"
            least, greatest = (_LEFT + max(v, 0) * scale for v in (min(values), max(values)))
            middle = y + _STEP / 2
            parts += [
                f'<text class="text" x="{_LEFT - 8}" y="{middle + 4.5}" text-anchor="end">'
                f"{escape(row.name)}</text>",
                f'<rect class="{kind}" x="{_LEFT}" y="{y + 4}" height="{_STEP - 8}" '
                f'width="{max(got, 0) * scale:.1f}" rx="2"/>',
                f'<path class="spread" d="M{least:.1f} {middle}H{greatest:.1f}" stroke-width="2"/>',
                f'<text class="text" x="{greatest + 8:.1f}" y="{middle + 4.5}">'
                f"{got:,.{column.digits}f}</text>",
            ]
            y += _STEP
        y += 10
    height = y + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-label="make bench, shorter is better">'
        f'\n  <style>{_STYLE}\n  </style>\n  <rect class="card" width="100%" height="100%" rx="6"/>'
        "\n  " + "\n  ".join(parts) + "\n</svg>\n"
    )
