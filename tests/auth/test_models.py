"""Keys that are for certain models, and every way to ask for another one."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest

from proxy.apis.base import MAX_MODEL
from tests.auth.rig import AUTH, BEARER_ONE, ONE, Server, ask
from tests.conftest import Running, Serve, UpstreamMaker

LONG = "long-" + "x" * MAX_MODEL


async def limited(serve: Serve, upstream: Any, **keys: Any) -> Running:
    models = ["llama-*", "mini", "a[1]", LONG[:MAX_MODEL]]
    one = {"name": "one", "key": ONE, "models": models}
    return await serve(upstream, chain=[{AUTH: {"keys": [one], **keys}}])


PASS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/completions", {"model": "mini"}),
    ("POST", "/v1/chat/completions", {"model": "llama-3-8b", "messages": []}),
    ("POST", "/v1/embeddings", {"model": "a[1]", "input": 'a "model": in the text'}),
    ("POST", "/v2/models/mini/infer", {"inputs": [], "model": "secret"}),
    ("POST", "/v1/models/mini:predict", {"instances": [1.5]}),
    ("POST", "/openai/deployments/mini/chat/completions", {"messages": []}),
    ("GET", "/v1/models", None),
    ("GET", "/v2/health/ready", None),
]


@pytest.mark.parametrize(("method", "target", "body"), PASS)
async def test_its_models_and_what_only_reads_pass(
    serve: Serve, upstream: UpstreamMaker, method: str, target: str, body: Any
) -> None:
    """Wherever the API names the model; bodies go on as they came."""
    server = Server()
    running = await limited(serve, await upstream(server))
    raw = b"" if body is None else orjson.dumps(body)
    assert (await ask(running, BEARER_ONE, method=method, target=target, raw=raw)).status == 200
    assert server.asked[0].body == raw


REFUSED: list[tuple[str, str, bytes]] = [
    ("POST", "/v1/completions", b'{"model": "secret"}'),
    ("POST", "/v1/completions", b'{"model": "mini-2"}'),
    ("POST", "/v1/completions", b'{"model": "MINI"}'),
    ("POST", "/v1/completions", b'{"model": "a1"}'),
    ("POST", "/v1/completions", b'{"model": "mini\\n"}'),
    ("POST", "/v1/completions", b'{"model": ["mini"]}'),
    ("POST", "/v1/completions", b'{"model": null}'),
    ("POST", "/v1/completions", b"{}"),
    ("POST", "/v1/completions", b""),
    ("POST", "/v1/completions", b'{"model": "secret", "model": "mini"}'),
    ("POST", "/v1/completions", b'{"model": "mini", "model": "secret"}'),
    ("POST", "/v1/completions", b'{"model": "secret", "mo\\u0064el": "mini"}'),
    ("POST", "/v1/completions", b'{"model": "mini", "Model": "secret"}'),
    ("POST", "/v1/completions", b'{"MODEL": "secret", "model": "mini"}'),
    ("POST", "/v1/completions", b'{"model": "mini"'),
    ("POST", "/v1/completions", b'\xef\xbb\xbf{"model": "mini"}'),
    ("POST", "/v1/completions", '{"model": "mini"}'.encode("utf-16")),
    ("POST", "/v1/completions", gzip.compress(b'{"model": "mini"}')),
    ("POST", "/v1/completions", orjson.dumps({"model": LONG})),
    ("POST", "/v2/models/secret/infer", b'{"model": "mini"}'),
    ("POST", "/v2/models/mini/../secret/infer", b"{}"),
    ("POST", "/v2/models/mini%2f..%2fsecret/infer", b"{}"),
    ("POST", "/v2/models/mini;/../secret/infer", b"{}"),
    ("POST", "/v2/models//secret/infer", b"{}"),
    ("POST", "/v2/repository/models/secret/load", b"{}"),
    ("POST", "/v1/models/secret:predict", b'{"model": "mini"}'),
    ("POST", "/v1/load_lora_adapter", b'{"lora_name": "mini"}'),
    ("POST", "/v1/audio/transcriptions", b"--x\r\nmodel=mini"),
    ("DELETE", "/v1/models/secret", b""),
    ("PUT", "/anything", b'{"prompt": "x"}'),
    ("GET", "/v1/models/../models//secret", b""),
]


@pytest.mark.parametrize(("method", "target", "raw"), REFUSED)
async def test_no_other_model_is_reached(
    serve: Serve, upstream: UpstreamMaker, method: str, target: str, raw: bytes
) -> None:
    """403, and the server hears nothing, also where two servers might read the request in two
    ways.
    """
    server = Server()
    running = await limited(serve, await upstream(server))
    answer = await ask(running, BEARER_ONE, method=method, target=target, raw=raw)
    assert (answer.status, answer["x-remora-error"]) == (403, "model_not_allowed")
    assert not server.asked


async def test_an_upgrade_names_no_model(serve: Serve, upstream: UpstreamMaker) -> None:
    """What would go through a tunnel is not seen, so a key for certain models opens none."""
    server = Server()
    running = await limited(serve, await upstream(server))
    fields = (BEARER_ONE, "connection: upgrade", "upgrade: websocket")
    answer = await ask(running, *fields, method="GET", target="/v1/realtime?model=mini", raw=b"")
    assert answer.status == 403
    assert not server.asked


@pytest.mark.parametrize(
    "field", ["X-HTTP-Method-Override: POST", "x-method-override: post", "X-Http-Method: PUT"]
)
async def test_another_method_in_a_field_is_refused(
    serve: Serve, upstream: UpstreamMaker, field: str
) -> None:
    """Some servers take that one: the request would not only read."""
    server = Server()
    running = await limited(serve, await upstream(server))
    raw = b'{"model": "secret"}'
    answer = await ask(running, BEARER_ONE, field, method="GET", raw=raw)
    assert (answer.status, answer["x-remora-error"]) == (403, "model_not_allowed")
    assert not server.asked


async def test_a_refusal_tells_the_log_who_was_refused(
    serve: Serve, upstream: UpstreamMaker, caplog: pytest.LogCaptureFixture
) -> None:
    """`access_log` has the key's name on its line, as it has for what passed."""
    caplog.set_level("INFO", "remora.access")
    auth = {AUTH: {"keys": [{"name": "one", "key": ONE, "models": ["mini"]}]}}
    chain = [{"middleware.access_log:AccessLog": {}}, auth]
    running = await serve(await upstream(Server()), chain=chain)
    assert (await ask(running, BEARER_ONE, body={"model": "secret"})).status == 403
    assert (await ask(running, BEARER_ONE, body={"model": "mini"})).status == 200
    lines = [record.getMessage() for record in caplog.records]
    assert ["key=one" in line for line in lines] == [True, True]
    assert ONE not in caplog.text


async def test_a_body_over_the_bound_is_refused(serve: Serve, upstream: UpstreamMaker) -> None:
    """`max_body`: its model would be read in memory."""
    running = await limited(serve, await upstream(Server()), max_body=100)
    body = {"model": "mini", "prompt": "x" * 100}
    assert (await ask(running, BEARER_ONE, body=body)).status == 413
    assert (await ask(running, BEARER_ONE, body={"model": "mini"})).status == 200
