"""The admin port: health, readiness, metrics. Never on a client's port.

With several workers one of them answers; it asks the others over unix sockets and adds up.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import aiohttp
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from .telemetry import Telemetry

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]

TEXT = "text/plain; version=0.0.4; charset=utf-8"
PEER_TIMEOUT = 2.0
"""Seconds that another worker has to tell its numbers."""


class Admin:
    """sock: the admin listener, shared by all workers. own: where this worker tells the others
    its numbers. peers: where they tell theirs.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        ready: Callable[[], bool],
        sock: socket.socket,
        own: Path | None = None,
        peers: Sequence[Path] = (),
    ) -> None:
        self._telemetry = telemetry
        self._ready = ready
        self._sock = sock
        self._own = own
        self._peers = peers
        self._runners: list[web.AppRunner] = []

    async def start(self) -> None:
        runner = await self._runner(self._metrics)
        await web.SockSite(runner, self._sock).start()
        if self._own is not None:
            runner = await self._runner(self._own_metrics)
            await web.UnixSite(runner, str(self._own)).start()

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _runner(self, metrics: Page) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", metrics)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        if self._ready():
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not ready: starting or draining\n")

    async def _own_metrics(self, request: web.Request) -> web.Response:
        return _text(generate_latest(self._telemetry.registry))

    async def _metrics(self, request: web.Request) -> web.Response:
        own = generate_latest(self._telemetry.registry)
        if not self._peers:
            return _text(own)
        others = await asyncio.gather(*map(_ask, self._peers))
        return _text(generate_latest(Sum([own.decode(), *filter(None, others)])))


def _text(body: bytes) -> web.Response:
    return web.Response(body=body, headers={"content-type": TEXT})


async def _ask(path: Path) -> str:
    """Another worker's numbers; nothing from one that is gone or restarting."""
    timeout = aiohttp.ClientTimeout(total=PEER_TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(path)), timeout=timeout
            ) as session,
            session.get("http://worker/metrics") as answer,
        ):
            return await answer.text()
    except (aiohttp.ClientError, OSError, TimeoutError):
        return ""


class Sum(Collector):
    """The sum of several workers' metrics, sample by sample."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for text in self._texts:
            for family in text_string_to_metric_families(text):
                families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                sums = values.setdefault(family.name, {})
                for sample in family.samples:
                    key = (sample.name, tuple(sample.labels.items()))
                    if sample.name.endswith("_created"):  # a time: the first worker's
                        sums[key] = min(sums.get(key, sample.value), sample.value)
                    else:
                        sums[key] = sums.get(key, 0.0) + sample.value
        for name, family in families.items():
            for (sample_name, labels), value in values[name].items():
                family.add_sample(sample_name, dict(labels), value)
        return families.values()
