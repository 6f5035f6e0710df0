"""Keys of `concurrency`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from proxy.units import FieldName, PositiveDuration, unit

MAX_PRIORITIES = 100
"""The highest priority that a header can ask for."""


class HeaderPriority(BaseModel):
    """A priority that the client writes into a header."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    header: FieldName = Field(
        description="Request header with a whole number from 0, the higher first."
    )
    highest: Annotated[int, Field(ge=1, le=MAX_PRIORITIES)] = Field(
        9, description="The highest priority; a larger number counts as this one."
    )
    default: Annotated[int, Field(ge=0)] = Field(
        0, description="Priority of a request without the header, or with anything else in it."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.default > self.highest:
            raise ValueError("`default` is above `highest`")
        return self


class ConcurrencyConfig(BaseModel):
    """Keys of `concurrency`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="Whether anything is limited.")
    limit: Annotated[int, Field(ge=1)] | Literal["adaptive"] = Field(
        100, description="Requests in flight at once; `adaptive`: found from latency."
    )
    scope: Literal["upstream", "route", "chain"] = Field(
        "upstream",
        description="Which of the routes that share this layer share its limit: those to one "
        "upstream, none, or all of them.",
    )
    queue: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Requests that may wait; null: ten times the limit."
    )
    queue_timeout: PositiveDuration = unit("30s", "How long one may wait; then 504.")
    priority: Literal["key"] | HeaderPriority = Field(
        "key",
        description="Who goes first: by the priority of the client's API key (`auth`), or as a "
        "header says.",
    )
    lower_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.1,
        description="Share of the permits and places that a priority leaves to those below it; "
        "0: none while it needs them.",
    )
    min_limit: Annotated[int, Field(ge=1)] = Field(
        1, description="The lowest limit that `adaptive` may come to."
    )
    max_limit: Annotated[int, Field(ge=1)] = Field(
        1000, description="The highest limit that `adaptive` may come to."
    )
    tolerance: Annotated[float, Field(gt=1, le=10)] = Field(
        1.2,
        description="With `adaptive`: rise of latency over that at half the limit which is still "
        "taken for none.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.min_limit > self.max_limit:
            raise ValueError("`min_limit` is above `max_limit`")
        told = self.model_fields_set
        if isinstance(self.limit, int):
            if "min_limit" in told and self.limit < self.min_limit:
                raise ValueError("`limit` is below `min_limit`; only `adaptive` moves between both")
            if "max_limit" in told and self.limit > self.max_limit:
                raise ValueError("`limit` is above `max_limit`; only `adaptive` moves between both")
        return self
