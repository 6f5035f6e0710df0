"""conf/reference.yaml tells every key and every default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from proxy.config import Config, ListenerTLS, Upstream
from proxy.loader import load, load_text
from proxy.stores.settings import Redis, Sentinel, Stores

FILE = Path(__file__).parents[2] / "conf" / "reference.yaml"


def parts(model: BaseModel) -> Iterator[BaseModel]:
    """The model and every model in it."""
    yield model
    for name in type(model).model_fields:
        value = getattr(model, name)
        inner = value.values() if isinstance(value, dict) else value
        for one in inner if isinstance(value, dict | list) else [value]:
            if isinstance(one, BaseModel):
                yield from parts(one)


def test_it_writes_every_key() -> None:
    """Each key of each model stands in the file: none is left to its default unseen."""
    config = load(FILE, {})
    for part in parts(config):
        assert part.model_fields_set == set(type(part).model_fields), type(part).__name__
    assert {type(part).__name__ for part in parts(config)} >= {
        "Config", "Listener", "Upstream", "Pool", "Timeouts", "UpstreamTLS", "ResponseLimits",
        "Route", "Match", "Stores", "Limits", "Drain", "Log",
    }  # fmt: skip


def test_it_shows_the_defaults() -> None:
    """The file means the same as one with nothing in it but the endpoint."""
    endpoints = ["http://127.0.0.1:8000"]
    assert load(FILE, {}) == Config(upstreams={"default": Upstream(endpoints=endpoints)})


def test_it_shows_the_keys_of_tls_in_a_comment() -> None:
    """A listener's TLS needs files that are not everywhere, so its keys are commented out."""
    shown = re.findall(r"^    #   (\w+): ", FILE.read_text(), re.MULTILINE)
    assert shown == list(ListenerTLS.model_fields)


def test_it_shows_redis_in_a_comment() -> None:
    """A file need not have a Redis; the comment shows each of its keys with the default."""
    lines = re.findall(r"^  # ((?:redis:|  \w+: ).*)$", FILE.read_text(), re.MULTILINE)
    assert re.findall(r"^  (\w+): ", "\n".join(lines), re.MULTILINE) == list(Redis.model_fields)
    written = "\n".join(f"  {line}" for line in lines)
    upstreams = "upstreams: {default: {endpoints: ['http://127.0.0.1:8000']}}"
    shown = load_text(f"{upstreams}\nstores:\n{written}\n", "shown", {})
    assert shown.stores == Stores(redis=Redis())


def test_it_shows_the_keys_of_sentinel_in_a_comment() -> None:
    """In one line, beside the default."""
    (shown,) = re.findall(r"sentinel: null # \{(.*)\}", FILE.read_text())
    assert re.findall(r"(?:^|, )(\w+): ", shown) == list(Sentinel.model_fields)
