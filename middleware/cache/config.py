"""Keys of `cache`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from proxy.units import (
    Duration,
    FieldName,
    PositiveDuration,
    PositiveSize,
    Secret,
    off_as_text,
    unit,
)

from ..core.key import pointer
from .purges import MAX_LABEL, MAX_TAGS
from .warm import Warm


def _pointer(value: str) -> str:
    pointer(value)
    return value


def _tag(value: str) -> str:
    if not 0 < len(value) <= MAX_LABEL - len("tag:"):
        raise ValueError(f"a tag has 1 to {MAX_LABEL - len('tag:')} characters")
    return value


Store = Literal["memory", "redis"]
Coalesce = Annotated[
    Literal["local", "cluster", "off"],
    BeforeValidator(off_as_text),
    WithJsonSchema({"enum": ["local", "cluster", "off", False]}),
]
Tag = Annotated[str, AfterValidator(_tag)]
Pointer = Annotated[str, AfterValidator(_pointer)]


class CacheConfig(BaseModel):
    """Keys of `cache`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="Whether anything is looked up or stored.")
    ttl: PositiveDuration = unit("5m", "How long a stored answer is fresh.")
    stores: Annotated[list[Store], Field(min_length=1)] = Field(
        default_factory=lambda: list[Store](("memory",)),
        description="Where answers are kept, the nearest first; `redis` is of `stores`.",
        json_schema_extra={"default": ["memory"]},
    )
    when: Literal["deterministic", "always"] = Field(
        "deterministic",
        description="Which calls are cached: those that give the same answer again, or all.",
    )
    share: Literal["tenant", "public"] = Field(
        "tenant", description="Whose answers one may get: one's own credential's, or anyone's."
    )
    secret: Secret | None = Field(
        None,
        description="Key of the HMAC that names a tenant. Replicas that share a store need the "
        "same one; null: a random one.",
    )
    vary: list[FieldName] = Field(
        default_factory=list,
        description="Request headers that make a difference besides the body.",
        json_schema_extra={"default": []},
    )
    ignore: list[Pointer] = Field(
        default_factory=list,
        description="JSON Pointers of body members that make no difference, such as /user.",
        json_schema_extra={"default": []},
    )
    honor_upstream: bool = Field(
        False,
        description="Cache GET and HEAD as HTTP says: Cache-Control, validators, Vary (RFC 9111).",
    )
    grace: Duration = unit("0s", "How long a stale answer is served while it is refreshed.")
    stale_if_error: Duration = unit("0s", "How long a stale answer is served for a failed call.")
    coalesce: Coalesce = Field(
        "local",
        description="Let requests for the same thing share one call: in a worker, or with "
        "`cluster` among all that share the store `redis`.",
    )
    items: bool = Field(
        True,
        description="Look each item of a call about several up by itself, such as the texts of an "
        "embeddings call; only those that are not known go on.",
    )
    convert: bool = Field(
        False,
        description="Answer a streaming client from a stored JSON answer, and the other way.",
    )
    replay: Literal["at_once", "paced"] = Field(
        "at_once", description="How a stored stream is played back: `paced` as it once came."
    )
    stream_ends: list[str] = Field(
        default_factory=list,
        description="Event data that ends a stream besides the API's own; `close`: any end does.",
        json_schema_extra={"default": []},
    )
    refresh_ahead: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="Last share of its life in which a hit refreshes an answer in the background.",
    )
    max_bytes: PositiveSize = unit("256MiB", "Memory for answers, keys and overhead counted.")
    max_entry_bytes: PositiveSize = unit("8MiB", "The largest body that is stored.")
    max_request_bytes: PositiveSize = unit("1MiB", "The largest request that is looked up.")
    headers: bool = Field(
        True, description="Add `cache-status`, `age` and `etag` to answers (RFC 9211, RFC 9110)."
    )
    tags: Annotated[list[Tag], Field(max_length=MAX_TAGS)] = Field(
        default_factory=list,
        description="Tags of every answer, to purge by; with `honor_upstream` an answer's own "
        "`Cache-Tag` and `Surrogate-Key` are added.",
        json_schema_extra={"default": []},
    )
    warm: Warm | None = Field(
        None,
        description="Requests to send at start: a list, or `file:` and the path of a JSON Lines "
        "file. Clients are served meanwhile.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.coalesce == "cluster" and "redis" not in self.stores:
            raise ValueError("`coalesce: cluster` needs a shared store: `stores: [memory, redis]`")
        return self
