"""What an answer costs that comes from a cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from proxy import registry
from tests.stores.binary import binary

from .peers import CannotStartError, Running, Spot, free_port
from .scenarios import Bench, Column, Row, Table

# An installation made before the layer had its entry point knows it by its class alone.
LAYER = "cache" if "cache" in registry.names() else "middleware.cache:Cache"

GET = "remora, GET"
POST = "remora, POST"
REDIS = "remora, POST, Redis tier"
CHAINS = {
    GET: f"{LAYER}: {{when: always, share: public, honor_upstream: true}}",
    POST: f"{LAYER}: {{ttl: 1h}}",
    REDIS: f"{LAYER}: {{ttl: 1h, stores: [redis], secret: of-the-bench}}",
}


class Hits:
    """Each cache gives what it has, a key for each connection; the backend must not hear of it."""

    name = "cache"

    def run(self, bench: Bench) -> Table | None:
        spots = {
            name: (name, bench.spot(caching=True, request="page"))
            for name in bench.peers(("nginx", "varnish"))
        }
        failed = []
        with _redis(bench) as redis:
            if bench.peers(("remora",)):
                spots[GET] = ("remora", _remora(bench, GET, request="page"))
                spots[POST] = ("remora", _remora(bench, POST, request="embeddings"))
                if isinstance(redis, Running):
                    spots[REDIS] = ("remora", _remora(
                        bench, REDIS, request="embeddings", redis=redis.port, helper=redis.pid
                    ))  # fmt: skip
                else:
                    failed.append(redis)
            if not spots:
                return None
            rows = bench.rounds_of("cache: CPU us a hit", "hits", spots, 32)
        columns = (
            Column("cpu", "CPU us a hit", 1), Column("helper", "redis-server us", 1),
            Column("p50", "p50 us"), Column("p99", "p99 us"), Column("rate", "hits/s"),
            Column("busy", "core busy %"), Column("rss", "RSS MiB", 1),
        )  # fmt: skip
        title = "Cache hit: 437 bytes of JSON out, 32 keep-alive connections"
        return Table(
            self.name, title, columns, [*rows, *failed], against=("nginx", "varnish"),
            notes=[_NOTE],
        )  # fmt: skip


def _remora(bench: Bench, row: str, **more: object) -> Spot:
    return bench.spot(layers=(CHAINS[row],), **more)


@contextmanager
def _redis(bench: Bench) -> Iterator[Running | Row]:
    """A redis-server beside the load; a failed row where there is none."""
    port = free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    try:
        log = bench.folder / "redis.log"
        running = Running([binary(), *words], port, bench.load_core, log)
    except (FileNotFoundError, CannotStartError) as error:
        yield Row(REDIS, failed=str(error))
        return
    try:
        yield running
    finally:
        running.stop()


_NOTE = """\
Each connection asks for something of its own, again and again: 32 stored answers. Before and after
each measured window the backend is asked how many requests it has got; one that came in between
fails the row. nginx and Varnish key on the target alone, so they are asked with a GET, without
credentials, whose answer says `max-age=3600`; so is `remora, GET`, by a layer with
`honor_upstream: true`. `remora, POST` is a call of `/v1/embeddings` with 385 bytes of JSON and a
credential, keyed on its meaning and its tenant, with the layer's defaults. The Redis tier is the
same with `stores: [redis]` and no memory, so that each hit asks the redis-server, whose own CPU
has a column of its own and is not in the first. nginx keeps its answers in files and has
`open_file_cache` on; Varnish keeps them in memory and writes its log to shared memory, its
default."""
