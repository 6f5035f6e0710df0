"""The admin port: health, readiness, metrics, and what layers offer. Never on a client's port.

With several workers one of them answers; it asks the others over unix sockets and adds up.
"""

from __future__ import annotations

import asyncio
import hmac
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from pydantic import SecretStr
from yarl import URL

from .chain import ControlRefused
from .control import Controls, add_up
from .telemetry import Telemetry

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]

PROBES = ("/healthz", "/readyz")
TEXT = "text/plain; version=0.0.4; charset=utf-8"
PEER_TIMEOUT = 2.0
"""Seconds that another worker has to tell its numbers, or to do what is asked of all."""


class Admin:
    """sock: the admin listener, shared by all workers. own: where this worker tells the others
    its numbers. peers: where they tell theirs. controls: what this worker's layers offer now.
    token: what the listener asks for, of all but the probes; None for nothing.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        ready: Callable[[], bool],
        sock: socket.socket,
        own: Path | None = None,
        peers: Sequence[Path] = (),
        controls: Callable[[], Controls] = Controls,
        token: SecretStr | None = None,
    ) -> None:
        self._telemetry = telemetry
        self._ready = ready
        self._sock = sock
        self._own = own
        self._peers = peers
        self._controls = controls
        self._guards = () if token is None else (_guard(token),)
        self._runners: list[web.AppRunner] = []

    async def start(self) -> None:
        runner = await self._runner(self._metrics, self._show, self._act, *self._guards)
        await web.SockSite(runner, self._sock).start()
        if self._own is not None:
            runner = await self._runner(self._own_metrics, self._own_show, self._own_act)
            await web.UnixSite(runner, str(self._own)).start()

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _runner(
        self, metrics: Page, show: Page, act: Page, *guards: Middleware
    ) -> web.AppRunner:
        app = web.Application(middlewares=guards)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", metrics)
        # The layers, and with them the names, come only when the server has started.
        app.router.add_get("/{name}", show)
        app.router.add_post("/{name}/{action}", act)
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
        asked = await asyncio.gather(*(_ask(path, "GET", "/metrics") for path in self._peers))
        others = [answer.text.decode() for answer in asked if answer.ok]
        return _text(generate_latest(Sum([own.decode(), *others])))

    # -- what layers offer

    async def _own_show(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        controls = self._controls()
        return _json(controls.show(name)) if name in controls.names else self._unknown(name)

    async def _show(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        controls = self._controls()
        if name not in controls.names:
            return self._unknown(name)
        asked = await asyncio.gather(*(_ask(path, "GET", f"/{name}") for path in self._peers))
        shown = [controls.show(name), *(answer.json() for answer in asked if answer.ok)]
        told = controls.told(name, shown)
        return _json({**told, "workers": len(shown)} if self._peers else told)

    async def _own_act(self, request: web.Request) -> web.Response:
        name, action = request.match_info["name"], request.match_info["action"]
        controls = self._controls()
        if name not in controls.names:
            return self._unknown(name)
        try:
            return _json(await controls.act(name, action, _query(request)))
        except ControlRefused as error:
            return _error(400, str(error))

    async def _act(self, request: web.Request) -> web.Response:
        if "origin" in request.headers:
            # A browser sends it with every POST of a page, which may be anybody's.
            return _error(403, "not from a web page: use a client that sends no Origin, like curl")
        own = await self._own_act(request)
        if own.status != 200 or not self._peers:
            return own
        target = request.rel_url.raw_path_qs
        asked = await asyncio.gather(*(_ask(path, "POST", target) for path in self._peers))
        done = [orjson.loads(own.text or "{}"), *(answer.json() for answer in asked if answer.ok)]
        silent = sum(answer.silent for answer in asked)
        if silent:
            return _error(504, f"{len(done)} workers did it, {silent} gave no answer: try again")
        return _json({**add_up(done), "workers": len(done)})

    def _unknown(self, name: str) -> web.Response:
        offered = ", ".join(f"/{one}" for one in ("healthz", "readyz", "metrics", *self._names))
        return _error(404, f"no layer offers `{name[:80]}` here; there are {offered}")

    @property
    def _names(self) -> list[str]:
        return self._controls().names


def _guard(token: SecretStr) -> Middleware:
    """Lets only those pass who have the token. Probes carry none, and learn nothing."""
    expected = token.get_secret_value().encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        field = request.headers.get("authorization", "").encode(errors="surrogateescape")
        scheme, _, sent = field.partition(b" ")
        known = scheme.lower() == b"bearer" and hmac.compare_digest(sent.strip(b" "), expected)
        if request.path not in PROBES and not known:
            refusal = _error(401, "the admin port asks for `Authorization: Bearer TOKEN`")
            refusal.headers["www-authenticate"] = "Bearer"
            return refusal
        return await handler(request)

    return guard


def _text(body: bytes) -> web.Response:
    return web.Response(body=body, headers={"content-type": TEXT})


def _json(value: Mapping[str, Any], status: int = 200) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=body, content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return _json({"error": {"message": message}}, status)


def _query(request: web.Request) -> dict[str, str]:
    """Raises ControlRefused where a key is written twice."""
    query = dict(request.query)
    if len(query) != len(request.query):
        raise ControlRefused("write each key of the query once")
    return query


class _Answer:
    """What another worker said. silent: it is there, and gave no answer in time."""

    def __init__(self, status: int = 0, text: bytes = b"", silent: bool = False) -> None:
        self.ok = status == 200
        self.text = text
        self.silent = silent

    def json(self) -> dict[str, Any]:
        answer: dict[str, Any] = orjson.loads(self.text)
        return answer


async def _ask(path: Path, method: str, target: str) -> _Answer:
    """Another worker's answer; none of one that is gone or restarting, which has nothing yet."""
    timeout = aiohttp.ClientTimeout(total=PEER_TIMEOUT)
    url = URL(f"http://worker{target}", encoded=True)
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(path)), timeout=timeout
            ) as session,
            session.request(method, url) as answer,
        ):
            return _Answer(answer.status, await answer.read())
    except TimeoutError:
        return _Answer(silent=True)
    except (aiohttp.ClientError, OSError):
        return _Answer()


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
