"""What every layer promises. A new layer adds a line to `cases`, and all of this is asked of it.

Each runs between two probes: what an outer layer, and the road, see of it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import pytest

from proxy.assembly import RouteInfo
from proxy.env import Env
from proxy.errors import ConnectFailed, UpstreamClosed
from proxy.exchange import Outcome
from proxy.loader import load_text
from proxy.registry import GROUP, find
from proxy.server import Server
from proxy.telemetry import Telemetry
from proxy.upstream.pool import Pool

from . import layers
from .cases import BUILT_IN, Case
from .filters import TooManyCats
from .layers import Probe, named
from .road import LAST_CHUNK, SSE_HEAD, ModelServer, chunk, client, event, post, remora


def around(case: Case) -> list[dict[str, Any]]:
    return [named(Probe, "outer"), case.entry, named(Probe, "inner")]


def handler_of(server: Server) -> Any:
    assert server._assembly is not None
    return server._assembly.router.routes[0].handler


def test_every_built_in_layer_goes_through_the_suite() -> None:
    """A layer that remora brings cannot be forgotten here."""
    brought = {
        point.name
        for point in entry_points(group=GROUP)
        if point.dist is not None and point.dist.name == "remora"
    }
    assert brought == {case.name for case in BUILT_IN}, (
        "add the layer to tests/contract/cases.py; where it stands there already, install the "
        "entry points of pyproject.toml: .venv/bin/pip install -e ."
    )


async def test_a_stream_passes_unbuffered(case: Case, model: ModelServer) -> None:
    """The head leaves before there is a body, and each event before the next one is sent."""
    async with remora(model.url, around(case)) as server, client(server) as user:
        await user.send(post("/v1/chat/completions", b'{"stream":true}', *case.fields))
        asked = await model.asked()
        await asked.send(SSE_HEAD)
        assert (await user.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        for number in range(5):
            await asked.send(chunk(event(f"{number}")))
            assert await user.read_chunk() == event(f"{number}")
        await asked.send(LAST_CHUNK)
        assert await user.read_chunk() == b""


async def test_a_client_that_leaves_ends_the_exchange(
    case: Case, model: ModelServer, ends: list[list[Outcome]]
) -> None:
    """In the middle of a stream: the server sees its connection closed, every on_end is told
    once, as cancelled.
    """
    async with remora(model.url, around(case)) as server:
        async with client(server) as user:
            await user.send(post("/v1/chat/completions", b'{"stream":true}', *case.fields))
            asked = await model.asked()
            await asked.send(SSE_HEAD + chunk(event("1")))
            await user.until(b"\r\n\r\n")
            assert await user.read_chunk() == event("1")
        await asked.closed()
        outer, inner = await Probe.of("outer"), await Probe.of("inner")
    assert len(ends) >= 2 and [len(told) for told in ends] == [1] * len(ends)
    assert outer.outcomes[0].cancelled and inner.outcomes[0].cancelled
    assert (outer.outcomes[0].status, outer.outcomes[0].bytes_sent) == (200, len(event("1")))


async def test_a_client_that_leaves_before_the_first_byte_ends_the_exchange(
    case: Case, model: ModelServer, ends: list[list[Outcome]]
) -> None:
    """The server hears of it though it has answered nothing; status 0 is told, once."""
    async with remora(model.url, around(case)) as server:
        async with client(server) as user:
            await user.send(post("/v1/embeddings", b'{"input":"a"}', *case.fields))
            asked = await model.asked()
        await asked.closed()
        outer = await Probe.of("outer")
    assert [len(told) for told in ends] == [1] * len(ends)
    assert (outer.outcomes[0].cancelled, outer.outcomes[0].status) == (True, 0)
    assert isinstance(outer.raised, asyncio.CancelledError)


@pytest.mark.parametrize("stream", [True, False], ids=["sse", "fixed"])
async def test_an_upstream_that_dies_after_its_head_is_told(
    case: Case, stream: bool, model: ModelServer, ends: list[list[Outcome]]
) -> None:
    """An event stream ends with an error event, any other answer with a connection that breaks
    off; on_end is told the error once.
    """
    async with remora(model.url, around(case)) as server, client(server) as user:
        await user.send(post("/v1/chat/completions", b'{"stream":true}', *case.fields))
        asked = await model.asked()
        if stream:
            await asked.send(SSE_HEAD + chunk(event("1")))
        else:
            await asked.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await user.until(b"\n\n" if stream else b"\r\n\r\n")
        asked.abort()
        rest = await user.rest()
        outer = await Probe.of("outer")
    if stream:
        assert b'"code":"upstream_closed"' in rest and rest.endswith(LAST_CHUNK)
    else:
        assert rest in (b"", b"half")
    assert [len(told) for told in ends] == [1] * len(ends)
    assert isinstance(outer.outcomes[0].error, UpstreamClosed)
    assert (outer.outcomes[0].status, outer.outcomes[0].cancelled) == (200, False)


async def test_one_on_end_that_raises_stops_no_other(
    case: Case, model: ModelServer, ends: list[list[Outcome]], caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it stands outside or inside; the client does not notice, the log does."""
    chain = [named(Probe, "outer"), named(layers.BadEnd), case.entry, named(layers.BadEnd)]
    async with remora(model.url, chain) as server, client(server) as user:
        for _ in range(2):
            await user.send(post("/v1/embeddings", b'{"input":"a"}', *case.fields))
            await (await model.asked()).answer(b"[1]", b"Content-Type: application/json")
            head, body = await user.read_answer()
            assert (head[:12], body) == (b"HTTP/1.1 200", b"[1]")
    assert len(Probe.passed) == 2
    assert len(ends) >= 6 and [len(told) for told in ends] == [1] * len(ends)
    failures = [record for record in caplog.records if "on_end" in record.getMessage()]
    assert len(failures) == 4


async def test_an_error_passes_through_with_its_type(case: Case) -> None:
    """Outside of it a layer gets the very error that the upstream's end raised."""
    listener = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    async with (
        remora(f"http://127.0.0.1:{port}", around(case)) as server,
        client(server) as user,
    ):
        await user.send(post("/v1/embeddings", b'{"input":"a"}', *case.fields))
        head, body = await user.read_answer()
        outer, inner = await Probe.of("outer"), await Probe.of("inner")
    assert b"x-remora-error: upstream_connect_failed\r\n" in head
    assert b'"code":"upstream_connect_failed"' in body
    assert isinstance(outer.raised, ConnectFailed) and isinstance(inner.raised, ConnectFailed)
    assert isinstance(outer.outcomes[0].error, ConnectFailed)


async def test_a_refusal_below_it_passes_through(case: Case, model: ModelServer) -> None:
    """A layer's own error keeps its type, status, code and retry-after; nobody is asked."""
    chain = [named(Probe, "outer"), case.entry, named(layers.Refuses)]
    async with remora(model.url, chain) as server, client(server) as user:
        await user.send(post("/v1/embeddings", b'{"input":"a"}', *case.fields))
        head, body = await user.read_answer()
        outer = await Probe.of("outer")
    assert head.startswith(b"HTTP/1.1 429 ") and b"retry-after: 2\r\n" in head
    assert b'"code":"too_many_cats"' in body
    assert isinstance(outer.raised, TooManyCats)
    assert model.count == 0


async def test_switched_off_it_is_not_there(case: Case, model: ModelServer) -> None:
    """`bind` gives back the very handler it got: a layer that is off costs nothing."""
    cls = find(case.name)
    telemetry = Telemetry()
    layer = cls(cls.Config(**case.off), Env(asyncio.get_running_loop(), telemetry))

    async def handler(request: Any) -> Any:
        raise AssertionError("nobody calls this")

    assert layer.bind(RouteInfo("r", "default"), handler) is handler
    async with remora(model.url, [case.switched_off]) as server:
        assert server._assembly is not None
        bound = handler_of(server)
        assert bound.__self__ is server._assembly.pools["default"][0]
        assert bound.__func__ is Pool.send


async def test_switched_on_it_is_there(case: Case, model: ModelServer) -> None:
    """The case's keys put the layer into the handler: what is tested here is not nothing."""
    async with remora(model.url, [case.entry]) as server:
        assert server._assembly is not None
        bound = getattr(handler_of(server), "__self__", None)
        assert bound is not server._assembly.pools["default"][0]


async def test_it_can_be_stopped_whatever_became_of_its_start(case: Case) -> None:
    """Never started, started and stopped twice: stop raises nothing."""
    cls = find(case.name)
    env = Env(asyncio.get_running_loop(), Telemetry())
    never = cls(cls.Config(**case.on), env)
    await never.stop()
    layer = cls(cls.Config(**case.on), env)
    await layer.start()
    await layer.stop()
    await layer.stop()


async def test_it_survives_another_layer_that_cannot_start(case: Case, model: ModelServer) -> None:
    """Where a layer behind it fails to start, the server says so and stops in good order."""
    chain = [case.entry, named(layers.Lifecycle, "bad start"), named(layers.Lifecycle, "after")]
    with pytest.raises(RuntimeError, match="cannot start"):
        async with remora(model.url, chain):
            raise AssertionError("it was started")
    assert layers.Lifecycle.told == ["start bad start", "stop after", "stop bad start"]


IMPORTED = """
import sys
from proxy.loader import load_text
import proxy.server, proxy.admin
load_text(sys.argv[1], "x.yaml", {})
print(*sorted(name for name in sys.modules if name.startswith("middleware.")))
"""


def imported(chain: str) -> list[str]:
    file = f"upstreams: {{default: {{endpoints: ['http://127.0.0.1:1']}}}}\nchain: {chain}\n"
    run = subprocess.run(
        [sys.executable, "-c", IMPORTED, file], capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def test_it_is_imported_only_where_a_file_names_it() -> None:
    """An empty chain imports no layer; each of remora's own brings its own module."""
    assert imported("[]") == []
    for case in BUILT_IN:
        module = find(case.name).__module__
        assert module in imported(f"[{case.name}]")


@pytest.mark.parametrize("case", BUILT_IN, ids=lambda case: case.name)
def test_it_can_be_written_without_keys(case: Case) -> None:
    """`- name` and `- name: {}` mean the same: every key has a default."""
    file = "upstreams: {{default: {{endpoints: ['http://127.0.0.1:1']}}}}\nchain: [{}]\n"
    plain = load_text(file.format(case.name), "x.yaml", {}).chain[0]
    empty = load_text(file.format(f"{{{case.name}: {{}}}}"), "x.yaml", {}).chain[0]
    assert plain == empty
    assert all(field.description for field in plain.cls.Config.model_fields.values())
