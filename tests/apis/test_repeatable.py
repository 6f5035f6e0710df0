"""Which calls leave the server as it was, so that they may be sent twice."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.apis import by_name
from proxy.exchange import Request

YES: list[tuple[str, Any]] = [
    ("/v1/chat/completions", {"messages": []}),
    ("/v1/chat/completions", {"messages": [], "stream": True, "tools": [{"type": "web_search"}]}),
    ("/v1/completions", {"prompt": "a"}),
    ("/v1/embeddings", {"input": "a"}),
    ("/v2/rerank", {"query": "a", "documents": []}),
    ("/v1/responses", {"input": "a", "previous_response_id": "r"}),
    ("/v1/responses", {"input": "a", "store": False}),
    ("/v1/messages", {"messages": []}),
    ("/v1/images/generations", {"prompt": "a"}),
    ("/v1/audio/transcriptions", None),
    ("/openai/deployments/x/chat/completions?api-version=1", {"messages": []}),
    ("/invocations", {"prompt": "a"}),
    ("/v1/models/iris:predict", {"instances": []}),
    ("/v2/models/resnet/infer", {"inputs": []}),
    ("/v2/models/resnet/versions/1/infer", {"inputs": [], "parameters": {"sequence_id": 0}}),
    ("/v2/models/llm/generate_stream", {"text_input": "a"}),
    ("/generate", {"inputs": "a"}),
    ("/generate_stream", {"inputs": "a"}),
    ("/", {"inputs": "a"}),
    ("/embed", {"inputs": "a"}),
    ("/similarity", {"inputs": {}}),
]
NO: list[tuple[str, Any]] = [
    ("/v1/responses", {"input": "a", "store": True}),
    ("/v1/responses", {"input": "a", "conversation": "c"}),
    ("/v1/responses", {"input": "a", "background": True}),
    ("/v1/files", None),
    ("/v1/batches", {"input_file_id": "f", "endpoint": "/v1/embeddings"}),
    ("/v1/fine_tuning/jobs", {"model": "m"}),
    ("/v1/threads/t/messages", {"role": "user"}),
    ("/v1/load_lora_adapter", {"lora_name": "a"}),
    ("/v2/models/resnet/infer", {"inputs": [], "parameters": {"sequence_id": 7}}),
    ("/v2/models/llm/generate", {"text_input": "a", "sequence_id": 3}),
    ("/v2/models/resnet/trace/setting", {}),
    ("/v2/repository/models/resnet/unload", {}),
    ("/completion", {"prompt": "a"}),
    ("/pay", {"amount": 1}),
]


def asked(target: str, body: Any, method: bytes = b"POST") -> Request:
    return Request(method, target.encode(), [], orjson.dumps(body))


@pytest.mark.parametrize(("target", "body"), YES)
def test_inference(target: str, body: Any) -> None:
    """What a model computes may be computed twice."""
    request = asked(target, body)
    assert request.api.repeatable(request)


@pytest.mark.parametrize(("target", "body"), NO)
def test_what_changes_the_server(target: str, body: Any) -> None:
    """Nothing that starts a job, keeps a state or loads a model; nor what nobody knows."""
    request = asked(target, body)
    assert not request.api.repeatable(request)


@pytest.mark.parametrize("api", sorted(by_name))
def test_a_path_that_is_not_the_apis(api: str) -> None:
    """Where a route names its API, a path that the API does not serve is still not known."""
    request = asked("/admin/reset", {"inputs": "a"})
    assert not by_name[api].repeatable(request)
