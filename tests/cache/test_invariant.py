"""Whatever happens, what is served from the cache is what the upstream gave, and not too old."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from middleware.cache import Cache
from middleware.cache.config import CacheConfig
from proxy.env import Env
from proxy.errors import ProxyError, UpstreamClosed
from proxy.exchange import Request, Response, Stream
from proxy.telemetry import Telemetry
from tests.cache.rig import Clock

TTL, GRACE, IF_ERROR = 60.0, 20.0, 200.0
TENANTS = [b"alice", b"bob"]
KEYS = ["a", "b", "c"]
MODES = ["whole", "whole", "large", "error", "dies", "cookie", "late"]
STREAM_MODES = ["whole", "no end", "error event", "breaks", "late"]
DIRECTIVES = [b"", b"", b"", b"no-cache", b"no-store", b"max-age=30", b"max-stale=50",
              b"min-fresh=10", b"only-if-cached"]  # fmt: skip
DONE = b"data: [DONE]\n\n"


@dataclass
class Given:
    """One answer of the upstream."""

    tenant: bytes
    key: str
    at: float
    storable: bool


@dataclass
class Ask:
    tenant: bytes
    key: str
    directive: bytes
    stream: bool
    mode: str
    clients: int
    leaving: int


@dataclass
class World:
    """The upstream, the layer before it, and all that was ever given."""

    clock: Clock
    cache: Cache
    given: dict[bytes, Given] = field(default_factory=dict)
    failed: dict[tuple[bytes, str], float] = field(default_factory=dict)
    mode: str = "whole"
    count: int = 0

    async def upstream(self, request: Request) -> Response:
        self.count += 1
        name = b"answer-%d" % self.count
        asked = orjson.loads(request.body)  # type: ignore[arg-type]
        tenant, key = request.header(b"authorization") or b"", asked["messages"][0]
        mode = self.mode
        await asyncio.sleep(0)
        if mode == "late":
            for _ in range(3):
                await asyncio.sleep(0)
        at = self.clock()
        if mode in ("error", "dies"):
            self.failed[tenant, key] = at
            if mode == "dies":
                raise UpstreamClosed("the upstream died")
            self.given[name] = Given(tenant, key, at, False)
            return Response(503, [], name)
        if not asked["stream"] and mode in STREAM_MODES:
            mode = "whole"
        storable = mode in ("whole", "late")
        self.given[name] = Given(tenant, key, at, storable)
        if asked["stream"]:
            return self._stream(name, mode)
        pad = b"x" * 5000 if mode == "large" else b""
        body = orjson.dumps({"is": name.decode(), "pad": pad.decode()})
        headers = [(b"content-length", b"%d" % len(body))]
        if mode == "cookie":
            headers.append((b"set-cookie", b"a=b"))
        return Response(200, headers, body)

    def _stream(self, name: bytes, mode: str) -> Response:
        class Source:
            def pause(self) -> None: ...
            def resume(self) -> None: ...
            def abort(self) -> None: ...

        stream = Stream(Source())
        response = Response(200, [(b"content-type", b"text/event-stream")], stream)
        response.chunked = True

        async def feed() -> None:
            stream.feed(b'data: {"is":"%b"}\n\n' % name)
            for _ in range(4 if mode == "late" else 1):
                await asyncio.sleep(0)
            if mode == "error event":
                stream.feed(b'data: {"error":{"message":"no"}}\n\n' + DONE)
            if mode == "breaks":
                stream.fail(UpstreamClosed("the upstream died"))
            elif mode in ("whole", "late"):
                stream.feed(DONE)
            stream.end()

        self.cache.env.spawn(feed(), "feeds")
        return response

    async def ask(self, handle: Any, ask: Ask) -> None:
        before = self.clock()
        headers = [(b"authorization", ask.tenant)]
        if ask.directive:
            headers.append((b"cache-control", ask.directive))
        question = {"messages": [ask.key], "temperature": 0, "stream": ask.stream}
        request = Request(b"POST", b"/v1/chat/completions", headers, orjson.dumps(question))
        calls = self.count
        try:
            response = await handle(request)
            told = dict(response.headers).get(b"cache-status", b"")
            body = response.body
            if isinstance(body, Stream):
                body = await body.read_all(1 << 20)
        except ProxyError as error:
            assert ask.directive == b"only-if-cached" or error.status != 504
            assert ask.directive != b"only-if-cached" or error.status == 504
            return
        finally:
            request.finish()
        self.check(ask, told, body, before, calls)

    def check(self, ask: Ask, told: bytes, body: bytes, before: float, calls: int) -> None:
        names = [name for name in self.given if b'%b"' % name in body or body == name]
        assert len(names) == 1, "an answer is one of the upstream's, and whole"
        answer = self.given[names[0]]
        assert (answer.tenant, answer.key) == (ask.tenant, ask.key), "another's answer"
        if b"hit" not in told:
            return
        assert answer.storable, f"{body!r} should never have been kept"
        assert ask.directive not in (b"no-cache", b"no-store")
        assert ask.stream == body.endswith(DONE)
        age = before - answer.at
        allowed = TTL + GRACE
        if ask.directive == b"max-stale=50":
            allowed = TTL + 50
        if ask.directive == b"max-age=30":
            allowed = 30
        if ask.directive == b"min-fresh=10":
            allowed = TTL - 10
        if self.failed.get((ask.tenant, ask.key)) == before:
            allowed = max(allowed, IF_ERROR + TTL) if ask.directive != b"max-age=30" else 30
        assert age <= allowed + 1e-6, f"{age} s old"


ASKS = st.builds(
    Ask, st.sampled_from(TENANTS), st.sampled_from(KEYS), st.sampled_from(DIRECTIVES),
    st.booleans(), st.sampled_from([*MODES, *STREAM_MODES]), st.integers(1, 4), st.integers(0, 2),
)  # fmt: skip
STEPS = st.lists(
    st.one_of(
        ASKS,
        ASKS,
        st.sampled_from([1.0, 25.0, 59.0, 61.0, 79.0, 81.0, 250.0, 1000.0]),
        st.sampled_from(["evict", "clear"]),
    ),
    min_size=2,
    max_size=25,
)


class Route:
    name = "r"
    upstream = "default"


async def play(steps: list[Ask | float | str], max_bytes: int) -> None:
    clock = Clock()
    env = Env(asyncio.get_running_loop(), Telemetry())
    env.clock = clock
    config = CacheConfig(
        ttl=TTL, grace=GRACE, stale_if_error=IF_ERROR, max_bytes=max_bytes, max_entry_bytes=4000
    )
    world = World(clock, Cache(config, env))
    handle = world.cache.bind(Route(), world.upstream)  # type: ignore[arg-type]
    memory = world.cache.tiers.memory
    assert memory is not None
    for step in steps:
        if isinstance(step, float):
            clock.advance(step)
        elif step == "clear":
            memory.clear()
        elif step == "evict":
            for key, _, _ in list(memory.items())[1:]:
                memory.pop(key)
        else:
            assert isinstance(step, Ask)
            await together(world, handle, step)
            while env.spawned:  # what goes on in the background lands before time passes
                await asyncio.sleep(0)
        assert memory.bytes <= max_bytes
    assert not world.cache.flights
    await env.stop()


async def together(world: World, handle: Any, ask: Ask) -> None:
    """Some clients at once, a few of whom leave at some point."""
    world.mode = ask.mode
    tasks = [asyncio.create_task(world.ask(handle, ask)) for _ in range(ask.clients)]
    for one in range(min(ask.leaving, ask.clients - 1)):
        for _ in range(one + 1):
            await asyncio.sleep(0)
        tasks[one].cancel()
    for told in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(told, Exception):
            raise told


@settings(max_examples=400, deadline=None)
@given(STEPS, st.sampled_from([3_000, 8_000, 1_000_000]))
def test_what_the_cache_serves_is_what_the_upstream_gave(
    steps: list[Ask | float | str], max_bytes: int
) -> None:
    """For any requests of two tenants, evictions, expiries, failures, and clients that leave: an
    answer is one the upstream gave for that question and tenant, whole, fit to be stored, and
    within its freshness or a window of the file's or the client's own.
    """
    asyncio.run(play(steps, max_bytes))
