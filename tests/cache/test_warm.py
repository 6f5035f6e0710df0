"""`warm`: requests sent at start, in the background."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import TypeAdapter, ValidationError

from middleware.cache import warm
from middleware.cache.config import CacheConfig
from middleware.cache.warm import AT_ONCE, MAX_WARM, Warm, WarmRequest, read
from tests.contract.road import ModelServer, remora

from .replicas import ANSWER, JSON, PATH, ask, eventually, replica


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer().listening() as server:
        yield server


def requests(count: int) -> list[dict[str, Any]]:
    return [{"path": PATH, "body": {"input": str(number)}} for number in range(count)]


async def answer_all(model: ModelServer, count: int, **how: Any) -> None:
    for _ in range(count):
        await (await model.asked()).answer(ANSWER, JSON, **how)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for one in caplog.records if (text := one.getMessage()).startswith("cache: ")]


async def test_the_first_client_gets_a_hit(
    model: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What was warmed is answered from the cache: JSON and text bodies, own headers and all."""
    caplog.set_level("INFO", "remora")
    text = '{ "input" : "text" }'
    keys = {
        "warm": [
            {"path": PATH, "body": {"input": "a"}},
            {"path": PATH, "body": text, "headers": {"Authorization": "Bearer k"}},
        ]
    }
    async with replica(model, **keys) as server:
        bodies = set()
        for _ in range(2):
            asked = await model.asked()
            assert asked.start == b"POST /v1/embeddings HTTP/1.1"
            assert asked.header(b"content-type") == b"application/json"
            bodies.add((asked.body, asked.header(b"authorization")))
            await asked.answer(ANSWER, JSON)
        assert bodies == {(b'{"input":"a"}', None), (text.encode(), b"Bearer k")}
        await eventually(lambda: "cache: warmed 2 of 2" in told(caplog))
        assert b"remora; hit" in (await ask(server, "a"))[0]
        assert b"remora; hit" in (await ask(server, "text", b"Authorization: Bearer k"))[0]
        assert model.count == 2


async def test_a_few_at_a_time(model: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    """The server is ready before anything is warmed; never more than a few are under way;
    progress is logged each tenth and at the end, with what failed.
    """
    caplog.set_level("INFO", "remora")
    async with replica(model, warm=requests(40)) as server:
        assert server.ready
        first = [await model.asked() for _ in range(AT_ONCE)]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(model.asked(), 0.1)
        assert model.count == AT_ONCE
        for asked in first:
            await asked.answer(ANSWER, JSON)
        await answer_all(model, 30)
        await answer_all(model, 6, status=b"503 Busy")
        await eventually(lambda: any("warmed 34 of 40, 6 failed" in one for one in told(caplog)))
    lines = told(caplog)
    assert len(lines) == 10
    assert lines[0] == "cache: warmed 4 of 40 so far"
    assert lines[-1].startswith("cache: warmed 34 of 40, 6 failed; the first: POST /v1/embeddings")
    assert lines[-1].endswith("status 503")
    value = server.telemetry.registry.get_sample_value
    assert value("remora_cache_warmed_total", {"outcome": "ok"}) == 34
    assert value("remora_cache_warmed_total", {"outcome": "failed"}) == 6


async def test_a_file(model: ModelServer, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """JSON Lines: a request in each line, blank ones left out."""
    caplog.set_level("INFO", "remora")
    path = tmp_path / "warm.jsonl"
    path.write_text("\n\n".join(json.dumps(one) for one in requests(3)) + "\n")
    async with replica(model, warm={"file": str(path)}) as server:
        await answer_all(model, 3)
        await eventually(lambda: "cache: warmed 3 of 3" in told(caplog))
        assert b"remora; hit" in (await ask(server, "2"))[0]


async def test_a_file_with_a_mistake(
    model: ModelServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """It is told with its line, nothing is sent, and clients are served."""
    path = tmp_path / "warm.jsonl"
    path.write_text('{"path": "/a"}\n{"path": "b"}\n')
    async with replica(model, warm={"file": str(path)}) as server:
        await eventually(lambda: told(caplog))
        assert "line 2: path: " in told(caplog)[0]
        asking = asyncio.ensure_future(ask(server))
        await answer_all(model, 1)
        assert (await asking)[1] == ANSWER
    assert model.count == 1


async def test_an_upstream_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing can be warmed: it is told, and remora serves."""
    chain = [{"middleware.cache:Cache": {"warm": requests(3)}}]
    async with remora("http://127.0.0.1:9", chain) as server:
        await eventually(lambda: any("warmed 0 of 3, 3 failed" in one for one in told(caplog)))
        assert server.ready


async def test_several_routes(model: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    """A layer that stands in several routes needs to be told which one."""
    items = [{**one, "route": "a"} for one in requests(1)]
    items += [{**one, "route": "c"} for one in requests(1)]
    chain = [{"middleware.cache:Cache": {"warm": [*items, *requests(1)]}}]
    routes = [{"name": name, "match": {"path": f"/{name}"}} for name in "ab"]
    async with remora(model.url, chain, routes=routes) as server:
        await answer_all(model, 1)
        await eventually(lambda: any("warmed 1 of 3, 2 failed" in one for one in told(caplog)))
        assert server.ready
    assert "the layer is in " in told(caplog)[-1]


async def test_a_stop_waits_for_nothing(model: ModelServer) -> None:
    """A server that stops while it warms ends what is under way, and leaves nothing behind."""
    async with replica(model, warm=requests(100)):
        asked = await model.asked()
    await asked.closed()


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "no-slash"}, {"path": "/a b"}, {"path": "/\r\nx"}, {"path": "/\u00e9"}, {},
        {"path": "/", "method": "post"}, {"path": "/", "method": "A B"},
        {"path": "/", "headers": {"a b": "c"}}, {"path": "/", "headers": {"a": "b\r\nc: d"}},
        {"path": "/", "headers": {"Content-Length": "1"}}, {"path": "/", "bodi": 1},
    ],
)  # fmt: skip
def test_mistakes(wrong: dict[str, Any]) -> None:
    """A request that could not be sent as written is refused with the file."""
    with pytest.raises(ValidationError):
        WarmRequest.model_validate(wrong)


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list, a file's lines and a file's bytes are bounded; a file must be there."""
    adapter = TypeAdapter[Any](Warm)
    assert len(adapter.validate_python(requests(MAX_WARM))) == MAX_WARM
    with pytest.raises(ValidationError):
        adapter.validate_python(requests(MAX_WARM + 1))
    with pytest.raises(ValidationError, match="there is no file"):
        adapter.validate_python({"file": str(tmp_path / "none")})
    path = tmp_path / "warm.jsonl"
    path.write_text('{"path": "/"}\n' * (MAX_WARM + 1))
    with pytest.raises(ValueError, match="more than 1000 requests"):
        read(path)
    monkeypatch.setattr(warm, "MAX_FILE", 10)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        read(path)


def test_its_schema() -> None:
    """An editor is told a request's keys, and takes a list as well as a file."""
    told_of = CacheConfig.model_json_schema()
    for one in (requests(2), {"file": "/etc/warm.jsonl"}, None):
        jsonschema.validate({"warm": one}, told_of)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"warm": [{"path": "/", "bodi": 1}]}, told_of)
