"""Layers that exist for the tests of the file alone."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from proxy.chain import Handler
from proxy.units import Duration, OptionalSize, Secret, unit


class Store(BaseModel):
    """A part of a layer's keys with keys of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    timeout: Duration = unit("50ms", "How long it may take.")


class FakeConfig(BaseModel):
    """One key of each kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ttl: Duration = unit("5m", "How long an entry lives.")
    max_bytes: OptionalSize = unit("1MiB", "How large one may be.")
    count: int = Field(3, ge=1, description="How many.")
    enabled: bool = Field(True, description="Whether it does anything.")
    mode: Literal["memory", "redis"] = Field("memory", description="Where.")
    store: Store | None = Field(None, description="A store.")
    cost: int | Literal["tokens"] = Field(1, description="What a request costs.")
    token: Secret | None = Field(None, description="A secret.")


class Fake:
    """A layer that passes everything on."""

    Config: ClassVar[type] = FakeConfig

    def __init__(self, config: Any, env: Any) -> None:
        self.config = config

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def bind(self, route: Any, next: Handler) -> Handler:
        return next


class Outer(Fake):
    """Must stand outside of Fake."""

    before = ("tests.config.layers:Fake",)


class KeepsConfig(BaseModel):
    """Where it keeps things, told as built-in layers do and as a plugin might."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stores: list[Literal["memory", "redis"]] = Field(["memory"], description="Where, in order.")
    store: str = Field("memory", description="Where else.")


class Keeps(Fake):
    """Names stores."""

    Config: ClassVar[type] = KeepsConfig


class NoConfig:
    """No layer: it has no Config."""

    def bind(self, route: Any, next: Handler) -> Handler:
        return next


NOT_A_CLASS = 3
