"""Keys of `aggregate`."""

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

from proxy.apis.batch.pad import Pad
from proxy.units import (
    Duration,
    FieldName,
    OptionalDuration,
    PositiveDuration,
    PositiveSize,
    unit,
)


def _no_time(name: str) -> str:
    if name[0].isdigit():
        raise ValueError("a header's name is expected, in which the client says its time")
    return name


DeadlineField = Annotated[FieldName, AfterValidator(_no_time)]
Count = Annotated[int, Field(ge=1)]


def _inflight(value: object) -> object:
    if value != "adaptive" and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError("a number of batches is expected, or `adaptive`")
    return value


Inflight = Annotated[
    Count | Literal["adaptive"],
    BeforeValidator(_inflight),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["adaptive"]}]}),
]


class PadConfig(BaseModel):
    """How rows of differing length are made equal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to_multiple_of: Count = Field(1, description="Steps that a padded row's length is made of.")
    side: Literal["left", "right"] = Field("right", description="Where steps are put.")
    value: float = Field(0, description="What they hold.")
    mask: str | None = Field(
        None,
        description="Input that is 1 for a row's own steps and 0 for others; made where a request "
        "lacks it.",
    )
    outputs: list[str] | None = Field(
        None,
        description="Outputs that are cut back. Null: those whose second dimension is the padded "
        "length.",
    )

    @property
    def rule(self) -> Pad:
        outputs = None if self.outputs is None else tuple(self.outputs)
        return Pad(self.to_multiple_of, self.side, self.value, self.mask, outputs)


class AggregateConfig(BaseModel):
    """Keys of `aggregate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="Whether anything is merged or split.")
    max_batch_size: Count = Field(
        32, description="Items in one call; the server's own limit at most."
    )
    max_batch_tokens: Count | None = Field(
        None, description="The longest item's tokens times the items. Null: no bound."
    )
    max_batch_bytes: PositiveSize = unit("1MiB", "Bytes of the items in one call.")
    max_queue_delay: Duration = unit(
        "100ms", "How long an item is held for others while the upstream could take it."
    )
    max_inflight: Inflight = Field(
        "adaptive",
        description="Calls under way to an upstream; `adaptive`: as many as compute most.",
    )
    target_latency: OptionalDuration = unit(
        "off", "Seconds that a call should take at most: batches are made small enough for it."
    )
    max_queue: Count = Field(1024, description="Items that wait; more are refused with 503.")
    queue_timeout: PositiveDuration = unit("30s", "How long an item waits, then 504.")
    max_waste: Annotated[float, Field(ge=0, le=1)] = Field(
        0.3, description="Share of a call that may be padding, by the items' lengths; 1: any."
    )
    pad: PadConfig | None = Field(
        None,
        description="Merge tensors whose rows differ in length, by padding them. Null: only rows "
        "of equal length are merged.",
    )
    max_splits: Annotated[int, Field(ge=0)] = Field(
        31, description="Divisions of a batch that failed, until whoever made it fail is alone."
    )
    max_request_bytes: PositiveSize = unit(
        "8MiB", "A request's body; a larger one passes as it is."
    )
    max_answer_bytes: PositiveSize = unit("64MiB", "The body of an answer to a merged call.")
    across: list[Literal["tenants"]] = Field(
        default_factory=list,
        description="Whose requests may share a call besides one's own credential's. The server "
        "sees one of their credentials.",
        json_schema_extra={"default": []},
    )
    ignore: list[FieldName] = Field(
        default_factory=list,
        description="Request headers that keep no two requests apart, besides those of a trace.",
        json_schema_extra={"default": []},
    )
    deadline: DeadlineField | None = Field(
        None,
        description="Request header with the seconds its client waits; milliseconds where its "
        "name ends in -ms.",
    )
    headers: bool = Field(True, description="Add `x-remora-batch` to answers.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.target_latency == 0:
            raise ValueError("no call takes a `target_latency` of 0; `off` sets none")
        if self.max_queue_delay > self.queue_timeout:
            raise ValueError("`max_queue_delay` is over `queue_timeout`: items would time out idly")
        return self
