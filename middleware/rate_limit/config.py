"""Keys of `rate_limit`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from proxy.units import PositiveSize, unit

from ..core.quota import parse_limits


def _limit(value: str) -> str:
    parse_limits(value)
    return value


def _part(value: str) -> str:
    if value in ("client_ip", "api_key", "model", "route"):
        return value
    name = value.removeprefix("header:")
    if name == value or re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) is None:
        raise ValueError(
            f"`{value[:40]}` is none of client_ip, api_key, model, route and header:NAME"
        )
    return value.lower()


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_ONE_OR_MANY = BeforeValidator(_as_list, json_schema_input_type=str | list[str])
Limits = Annotated[list[Annotated[str, AfterValidator(_limit)]], _ONE_OR_MANY, Field(min_length=1)]
Key = Annotated[list[Annotated[str, AfterValidator(_part)]], _ONE_OR_MANY, Field(min_length=1)]


class RateLimitConfig(BaseModel):
    """Keys of `rate_limit`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="Whether anything is counted.")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = Field(
        "default",
        description="Of this layer, in metrics and headers. Layers that share a Redis and a name "
        "count together where they have the same limits.",
    )
    limits: Limits = Field(
        default_factory=lambda: ["20/second"],
        description="How much in which time, all of them at once: 20/second, 500/2 minutes.",
        json_schema_extra={"default": ["20/second"]},
    )
    strategy: Literal["fixed_window", "sliding_window_counter", "moving_window"] = Field(
        "sliding_window_counter", description="How a window moves over time."
    )
    key: Key = Field(
        default_factory=lambda: ["client_ip"],
        description="Who is counted by themselves: client_ip, api_key, header:NAME, model, route, "
        "or a list of them.",
        json_schema_extra={"default": ["client_ip"]},
    )
    own_limits: bool = Field(
        True,
        description="Whether limits that `auth` knows of a key take the place of these; that key "
        "is then counted by its name alone.",
    )
    cost: Literal["requests", "tokens"] = Field(
        "requests",
        description="What is counted. Tokens are reserved by an estimate, and settled to what the "
        "answer says it used.",
    )
    default_max_tokens: Annotated[int, Field(ge=0)] = Field(
        1024,
        description="Tokens reserved for an answer that the client set no bound on.",
    )
    store: Literal["memory", "redis"] = Field(
        "memory", description="Where it is counted: in each worker, or in `stores.redis` for all."
    )
    on_store_error: Literal["local", "open", "closed"] = Field(
        "local",
        description="While Redis does not answer: count in this worker, let all through, or "
        "refuse all with 503.",
    )
    max_keys: Annotated[int, Field(ge=1)] = Field(
        10_000,
        description="Clients remembered in a worker; beyond, the one that asked longest ago "
        "begins anew.",
    )
    max_request_bytes: PositiveSize = unit(
        "1MiB",
        "The largest body that is read, for tokens or the model; a longer one is estimated by its "
        "length, and its model is unknown.",
    )
    headers: bool = Field(
        True, description="Add ratelimit, ratelimit-policy and x-ratelimit-* to answers."
    )
    shadow: bool = Field(False, description="Count and report, and refuse nobody; adds no headers.")
