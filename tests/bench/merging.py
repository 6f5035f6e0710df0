"""What `aggregate` brings on the project's own encoder, as a table of `make bench`."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median

import uvloop

from tests.real.models import MODELS

from .merge import BATCH, Way, batches, remora, singles, started
from .scenarios import Bench, Column, Row, Table

CLIENTS = 32


class Merging:
    """One-item requests to an encoder that computes, with and without remora before it."""

    name = "merging"

    def run(self, bench: Bench) -> Table | None:
        if not bench.peers(("remora",)):
            return None
        model = MODELS["numpy"]
        quick = bench.rounds == 1
        bench.say(f"merging: {model.about}")
        with ExitStack() as stack:
            server = stack.enter_context(started(model))
            merging = stack.enter_context(remora(server, [{"aggregate": {}}]))
            one, many = singles(model, model.path), batches(model, BATCH)
            ways = [
                Way("direct", server, one, CLIENTS),
                Way("remora with aggregate", merging, one, CLIENTS),
                Way("a client that batches", server, many, 1, BATCH),
            ]
            for _ in range(1 if quick else 5):
                for way in ways:
                    uvloop.run(way.round(0.4 if quick else 2.0))
        rows = []
        for way in ways:
            row = Row(way.name)
            for seen in way.rounds:
                row.add(
                    {
                        "each": 1000 / seen.rate,
                        "p50": seen.percentile(50),
                        "p99": seen.percentile(99),
                        "rate": seen.rate,
                    }
                )
            rows.append(row)
        columns = (
            Column("each", "ms a text", 2), Column("p50", "p50 ms"), Column("p99", "p99 ms"),
            Column("rate", "texts/s"),
        )  # fmt: skip
        title = f"Merging: {model.about}, {CLIENTS} clients that ask for one text each"
        table = Table(self.name, title, columns, rows, against=("direct",))
        pairs = zip(ways[1].rounds, ways[0].rounds, strict=True)
        gains = [ours.rate / theirs.rate for ours, theirs in pairs]
        table.notes.append(
            f"Throughput through remora is {median(gains):.2f} times the direct one "
            f"({min(gains):.2f} to {max(gains):.2f} in a round). The server takes one call at a "
            f"time, as a GPU does; {BATCH} texts in one call is the most that can be had. "
            "`python -m tests.bench.merge` has other servers and other numbers of clients."
        )
        return table
