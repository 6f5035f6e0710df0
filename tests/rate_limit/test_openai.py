"""The openai client, unchanged, against a limit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from proxy.demo.child import Child, free_port
from proxy.demo.standin import StandIn


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    """A server of OpenAI's API."""
    with StandIn(delay=0.01) as server:
        yield server


@contextmanager
def limited(folder: Path, upstream: str, **keys: Any) -> Iterator[str]:
    """The URL of a remora with this layer."""
    port = free_port()
    file = folder / "remora.yaml"
    told = {
        "listen": f"127.0.0.1:{port}",
        "admin": "off",
        "drain": {"quiet": "0s", "timeout": "1s"},
        "upstreams": {"default": {"endpoints": [upstream]}},
        "chain": [{"rate_limit": {"key": "api_key", **keys}}],
    }
    file.write_text(yaml.safe_dump(told))
    argv = [sys.executable, "-m", "proxy", "serve", "-c", str(file)]
    with Child("remora", argv, port, grace=0.2) as child:
        yield child.url


def connect(url: str, key: str = "sk-one", retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=retries, timeout=20)


def complete(client: openai.OpenAI, **more: Any) -> Any:
    return client.completions.create(model="m", prompt="hello", max_tokens=4, **more)


def test_it_raises_its_own_error(standin: StandIn, tmp_path: Path) -> None:
    """RateLimitError with our code, message and retry-after; another key is not touched by it."""
    with limited(tmp_path, standin.url, limits="2/hour", strategy="fixed_window") as url:
        with connect(url) as client:
            raw = client.completions.with_raw_response.create(model="m", prompt="a", max_tokens=1)
            assert raw.headers["x-ratelimit-remaining-requests"] == "1"
            complete(client)
            with pytest.raises(openai.RateLimitError) as caught:
                complete(client)
        error = caught.value
        assert error.code == "rate_limited" and error.type == "rate_limit_error"
        assert "2/hour" in error.message and "sk-one" not in str(error)
        assert 3590 <= int(error.response.headers["retry-after"]) <= 3600
        with connect(url, "sk-two") as other:
            complete(other)


def test_its_own_retries_get_through(standin: StandIn, tmp_path: Path) -> None:
    """It waits for as long as we say, once, and then has its answer."""
    with (
        limited(tmp_path, standin.url, limits="1/second") as url,
        connect(url, retries=1) as client,
    ):
        answers = [complete(client) for _ in range(3)]
    assert all(answer.choices[0].text for answer in answers)


def test_a_stream_that_is_left_is_settled(standin: StandIn, tmp_path: Path) -> None:
    """Each reserves 42 of 100 tokens; what was not read of one is there for the next ones."""
    keys = {"limits": "100/hour", "cost": "tokens"}
    with limited(tmp_path, standin.url, **keys) as url, connect(url) as client:
        for _ in range(4):
            with client.completions.create(
                model="m", prompt="hello", max_tokens=40, stream=True
            ) as stream:
                assert next(iter(stream)).choices
        with pytest.raises(openai.RateLimitError, match="never lets it in") as caught:
            client.completions.create(model="m", prompt="hello", max_tokens=400)
        assert "retry-after" not in caught.value.response.headers
