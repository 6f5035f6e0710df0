"""`GET /cache` and `POST /cache/purge` on the admin port, and what the metrics tell."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from middleware.cache.offered import MAX_TOP
from middleware.cache.stats import MAX_USES, Stats
from proxy import admin, control
from proxy.address import parse_address
from proxy.admin import Admin
from proxy.chain import ControlRefused
from proxy.control import Controls, add_up
from proxy.server import Server, bind
from proxy.telemetry import Telemetry
from tests.contract.road import ModelServer, client, post
from tests.lifecycle.client import Client
from tests.lifecycle.numbers import numbers

from .replicas import ANSWER, JSON, answered, ask, cache_of, entry, replica

KEY = "00" * 32


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer().listening() as server:
        yield server


@asynccontextmanager
async def administered(*servers: Server, room: Path | None = None) -> AsyncIterator[str]:
    """Where the first one's admin port is; the others are its fellow workers."""
    paths = [room / f"{number}.sock" for number in range(len(servers))] if room else []
    async with AsyncExitStack() as stack:
        address = ""
        for number, server in enumerate(servers):
            sock = bind(parse_address("127.0.0.1:0"))
            peers = [path for at, path in enumerate(paths) if at != number]
            own = paths[number] if paths else None
            one = Admin(
                server.telemetry, lambda: True, sock, own, peers,
                lambda server=server: server.controls,
            )  # fmt: skip
            await one.start()
            stack.push_async_callback(one.stop)
            address = address or f"127.0.0.1:{sock.getsockname()[1]}"
        yield address


async def get(address: str, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
    async with await Client.to(address) as user:
        answer = await user.get(path, method)
        assert answer.fields["content-type"].startswith("application/json")
        return answer.status, json.loads(answer.body)


async def test_what_it_tells(model: ModelServer) -> None:
    """Entries and bytes, each request counted once by what became of it, what hits have saved,
    and which entries they hit.
    """
    usage = b'{"data": [], "usage": {"prompt_tokens": 7, "total_tokens": 7}}'
    async with replica(model) as server, administered(server) as address:
        await answered(model, ask(server, "a"), usage)
        for _ in range(3):
            await ask(server, "a")
        first = asyncio.ensure_future(ask(server, "b"))
        asked = await model.asked()
        second = asyncio.ensure_future(ask(server, "b"))
        async with client(server) as user:
            await user.send(post("/v1/embeddings", b'{"input": "a"}', b"x-remora-cache: off"))
            await (await model.asked()).answer(ANSWER, JSON)
            await user.read_answer()
        await asked.answer(ANSWER, JSON)
        await asyncio.gather(first, second)
        await ask(server, "b")
        status, told = await get(address, "/cache")
    assert status == 200
    assert told["routes"] == {
        "/*": {"hits": 4, "misses": 2, "collapsed": 1, "bypassed": 1, "stale": 0,
                   "item_hits": 0, "item_misses": 0,
               "hit_ratio": round(4 / 7, 4)}
    }  # fmt: skip
    assert told["entries"] == 2 and told["evicted"] == 0
    assert 0 < told["bytes"] < told["max_bytes"] == 256 * 1024 * 1024
    assert told["saved"]["tokens"] == 21 and told["saved"]["upstream_seconds"] > 0
    assert [one["hits"] for one in told["top"]] == [3, 1]
    top = told["top"][0]
    assert (top["route"], top["bytes"]) == ("/*", len(usage)) and 0 <= top["age"] < 60
    assert bytes.fromhex(top["key"]) and told["stores"] == {}
    assert "workers" not in told


@pytest.mark.parametrize("query", ["all=1", "route=/*", "model=m", "tag=t", "key="])
async def test_purge(model: ModelServer, query: str) -> None:
    """What was purged is asked for anew, by whichever name it was purged."""
    body = b'{"model": "m", "input": "a"}'

    async def asks(user: Any, answer: bytes | None) -> bytes:
        await user.send(post("/v1/embeddings", body))
        if answer is not None:
            await (await model.asked()).answer(answer, JSON)
        told: bytes = (await user.read_answer())[1]
        return told

    async with (
        replica(model, tags=["t"]) as server,
        administered(server) as address,
        client(server) as user,
    ):
        assert await asks(user, b"[1]") == b"[1]"
        assert await asks(user, None) == b"[1]"
        if query == "key=":
            query += (await get(address, "/cache"))[1]["top"][0]["key"].upper()
        status, told = await get(address, f"/cache/purge?{query}", "POST")
        label = {"all=1": "all"}.get(query, query.replace("=", ":"))
        assert (status, told["purged"].lower()) == (200, label.lower())
        assert told["shared"] is False
        assert await asks(user, b"[2]") == b"[2]"
        assert await asks(user, None) == b"[2]"


@pytest.mark.parametrize(
    ("path", "method", "status", "hint"),
    [
        ("/cache/purge", "POST", 400, "?all=1"),
        ("/cache/purge?all=1&tag=t", "POST", 400, "one thing at a time"),
        ("/cache/purge?tag=a&tag=b", "POST", 400, "once"),
        ("/cache/purge?all=yes", "POST", 400, "?all=1"),
        ("/cache/purge?keys=1", "POST", 400, "?key=HEX"),
        ("/cache/purge?key=12", "POST", 400, "64 hex digits"),
        ("/cache/purge?key=" + "%C2%B2" * 64, "POST", 400, "64 hex digits"),
        ("/cache/purge?tag=", "POST", 400, "1 to 252 characters"),
        ("/cache/purge?tag=" + "x" * 253, "POST", 400, "1 to 252 characters"),
        ("/cache/warm?all=1", "POST", 400, "POST /cache/purge"),
        ("/cash", "GET", 404, "/cache"),
        ("/cash/purge", "POST", 404, "/cache"),
    ],
)
async def test_mistakes(model: ModelServer, path: str, method: str, status: int, hint: str) -> None:
    """A question that makes no sense changes nothing, and the answer says what would."""
    async with replica(model) as server, administered(server) as address:
        await answered(model, ask(server))
        told = await get(address, path, method)
        assert told[0] == status and hint in told[1]["error"]["message"]
        await ask(server)
    assert model.count == 1


async def test_a_web_page_may_not(model: ModelServer) -> None:
    """A page that somebody's browser shows posts to 127.0.0.1, too: it is told by its Origin."""
    async with replica(model) as server, administered(server) as address:
        async with await Client.to(address) as user:
            user.writer.write(
                b"POST /cache/purge?all=1 HTTP/1.1\r\nHost: a\r\nOrigin: http://evil\r\n"
                b"Content-Length: 0\r\n\r\n"
            )
            head = await user.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 403")
        assert not cache_of(server).purges.marks


async def test_without_a_cache_there_is_none(model: ModelServer) -> None:
    """A name is there only where a layer offers it; one that is switched off offers nothing."""
    async with replica(model, enabled=False) as server, administered(server) as address:
        status, told = await get(address, "/cache")
    assert status == 404 and "/healthz" in told["error"]["message"]


async def test_several_workers(model: ModelServer, tmp_path: Path) -> None:
    """One answers for all: numbers are added up, ratios are of the sums, an entry that several
    hold is named once; a purge reaches each.
    """
    async with (
        replica(model) as one,
        replica(model) as other,
        administered(one, other, room=tmp_path) as address,
    ):
        for server in (one, other):
            await answered(model, ask(server))
            await ask(server)
        await ask(other)
        _, told = await get(address, "/cache")
        counts = told["routes"]["/*"]
        assert told["workers"] == 2 and told["entries"] == 2
        assert (counts["hits"], counts["misses"], counts["hit_ratio"]) == (3, 2, 0.6)
        assert [top["hits"] for top in told["top"]] == [3]
        _, purged = await get(address, "/cache/purge?route=/*", "POST")
        assert purged == {"purged": "route:/*", "shared": False, "workers": 2}
        for server in (one, other):
            await answered(model, ask(server))
        refused, _ = await get(address, "/cache/purge?what=1", "POST")
        assert refused == 400
        assert not (await numbers(address)).samples.keys() & {("remora_cache_hits", frozenset())}
        assert (await numbers(address))("remora_cache_hits_total", route="/*") == 3


async def test_a_worker_that_hangs_is_told_of(
    model: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A purge that one worker did not confirm is no success; whoever asks for numbers gets those
    of the others. A worker that is gone has nothing to purge.
    """
    monkeypatch.setattr(admin, "PEER_TIMEOUT", 0.2)
    async with replica(model) as server, AsyncExitStack() as stack:
        sock = bind(parse_address("127.0.0.1:0"))
        hung = stack.enter_context(socket.socket(socket.AF_UNIX))
        hung.bind(str(tmp_path / "hung"))
        hung.listen()
        peers = [tmp_path / "gone", tmp_path / "hung"]
        one = Admin(
            server.telemetry, lambda: True, sock, tmp_path / "own", peers, lambda: server.controls
        )
        await one.start()
        stack.push_async_callback(one.stop)
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        status, told = await get(address, "/cache/purge?all=1", "POST")
        assert status == 504 and "1 workers did it, 1 gave no answer" in told["error"]["message"]
        status, told = await get(address, "/cache")
        assert (status, told["workers"]) == (200, 1)


async def test_metrics(model: ModelServer) -> None:
    """Each kind of request by route, and what memory holds, in the metrics."""
    async with replica(model) as server, administered(server) as address:
        await answered(model, ask(server))
        await ask(server)
        told = await numbers(address)
        for kind, count in (
            ("hits", 1), ("misses", 1), ("collapsed", 0), ("bypassed", 0), ("stale", 0),
        ):  # fmt: skip
            assert told(f"remora_cache_{kind}_total", route="/*") == count
        assert told("remora_cache_entries") == 1
        assert told("remora_cache_bytes") == cache_of(server).tiers.memory.bytes  # type: ignore[union-attr]
        for name in ("evicted", "store_dropped", "store_poisoned"):
            assert told(f"remora_cache_{name}_total") == 0


# -- the mechanism


def test_numbers_of_several_layers_are_added_up() -> None:
    """Two layers offer one name: it is one family, in which equal labels are summed."""
    telemetry = Telemetry()
    for count in (1, 2):
        read = [(("a",), count), ((f"only {count}",), 10)]
        telemetry.numbers("counter", "things", "Things.", ("route",), lambda read=read: read)
        telemetry.numbers("gauge", "size", "Size.", (), lambda count=count: [((), count)])
    value = telemetry.registry.get_sample_value
    assert value("remora_things_total", {"route": "a"}) == 3
    assert value("remora_things_total", {"route": "only 2"}) == 10
    assert value("remora_size") == 3


def test_adding_up() -> None:
    """Numbers are summed, lists joined up to a bound, objects merged; text is the first one's,
    and true is what all say.
    """
    one = {"n": 1, "f": 0.5, "l": [1], "o": {"a": 1}, "t": "x", "b": True}
    other = {"n": 2, "f": 0.25, "l": [2], "o": {"a": 2, "b": 3}, "t": "y", "b": False, "new": 1}
    assert add_up([one, other]) == {
        "n": 3, "f": 0.75, "l": [1, 2], "o": {"a": 3, "b": 3}, "t": "x", "b": False, "new": 1,
    }  # fmt: skip
    many = add_up([{"l": list(range(900))}, {"l": list(range(900))}])
    assert len(many["l"]) == control.MAX_LISTED
    assert add_up([]) == {}


async def test_layers_of_one_name() -> None:
    """A name that several layers offer is asked of each; what one refuses is refused."""

    class Layer:
        def __init__(self, count: int) -> None:
            self.count = count
            self.did: list[str] = []

        def show(self) -> dict[str, Any]:
            return {"count": self.count}

        def told(self, total: dict[str, Any]) -> dict[str, Any]:
            return {"twice": 2 * total["count"]}

        async def act(self, action: str, query: Mapping[str, str]) -> dict[str, Any]:
            if action != "reset":
                raise ControlRefused("try reset")
            self.did.append(query["why"])
            return {"done": 1}

    controls, layers = Controls(), [Layer(1), Layer(2)]
    for layer in layers:
        controls.add("things", layer)
    assert controls.told("things", [controls.show("things"), {"count": 10}]) == {"twice": 26}
    assert await controls.act("things", "reset", {"why": "x"}) == {"done": 2}
    assert [layer.did for layer in layers] == [["x"], ["x"]]
    with pytest.raises(ControlRefused):
        await controls.act("things", "start", {})


def test_uses_are_bounded() -> None:
    """However many keys are hit, the table keeps its bound, and those hit most stay in it."""
    stats = Stats()
    for number in range(3 * MAX_USES):
        stats.used(b"%d" % number, entry())
        stats.used(b"hot", entry())
        assert len(stats._uses) <= MAX_USES
    assert next(stats.top()) == (b"hot", 3 * MAX_USES)
    assert MAX_TOP < MAX_USES
