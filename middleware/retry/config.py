"""Keys of `retry`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from proxy.units import (
    Duration,
    OptionalDuration,
    PositiveDuration,
    Size,
    off_as_text,
    parse_duration,
    unit,
)

from ..core.latencies import KEPT

Reason = Literal["connect", "reset", "timeout", "stream", 429, 500, 502, 503, 504]
DEFAULT: tuple[Reason, ...] = ("connect", "reset", "stream", 502, 503, 504)


def _after(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("a quantile or a duration is expected; write p95 or 200ms")
    if re.fullmatch(r"p[1-9][0-9]?", value) is None and parse_duration(value) <= 0:
        raise ValueError("more than 0 is expected")
    return value


After = Annotated[
    str,
    BeforeValidator(_after),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(p[1-9][0-9]?|[0-9]{1,30}(\.[0-9]{1,30})?(ms|s|m|h|d))$",
            "examples": ["p95", "200ms"],
        }
    ),
]


class BackoffKeys(BaseModel):
    """The wait before each retry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: Duration = unit("50ms", "The wait before the first retry.")
    factor: Annotated[float, Field(ge=1)] = Field(1.5, description="How much each next one grows.")
    cap: Duration = unit("1s", "The longest wait.")
    jitter: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="The share of each wait that is left to chance."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.first > self.cap:
            raise ValueError("`first` is over `cap`, which would cut it")
        return self


class BudgetKeys(BaseModel):
    """How many retries and hedges there may be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratio: Annotated[float, Field(ge=0, le=10)] = Field(
        0.2, description="Retries and hedges, as a share of the window's requests."
    )
    window: PositiveDuration = unit("10s", "The time over which both are counted.")
    floor: Annotated[int, Field(ge=0)] = Field(
        10, description="So many more in a window, whatever the traffic."
    )


class HedgeKeys(BaseModel):
    """A second try of a call that takes long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: After = Field(
        "p95",
        description="When it is sent: behind a quantile of the route's last calls, or a time.",
    )
    min_calls: Annotated[int, Field(ge=1, le=KEPT)] = Field(
        100, description="Calls before a quantile is believed; until then none is hedged."
    )

    @property
    def quantile(self) -> float | None:
        """The share of calls, 0 to 1; None where `after` is a time."""
        return int(self.after[1:]) / 100 if self.after.startswith("p") else None

    @property
    def seconds(self) -> float:
        """The time; not where `after` is a quantile."""
        return parse_duration(self.after)


Off = Annotated[Literal["off"], WithJsonSchema({"enum": ["off", False]})]
Hedge = Annotated[Off | HedgeKeys, BeforeValidator(off_as_text)]


class RetryConfig(BaseModel):
    """Keys of `retry`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="Whether anything is tried again.")
    attempts: Annotated[int, Field(ge=1, le=10)] = Field(
        3, description="How often a request is sent at most, the first time and hedges included."
    )
    on: list[Reason] = Field(
        default_factory=lambda: list(DEFAULT),
        description="What is tried again: `connect` (no connection), `reset` (closed before the "
        "answer's head), `timeout` (no head in time), `stream` (an event stream that ends or "
        "fails before its first event, or begins with an error), and statuses.",
        json_schema_extra={"default": list(DEFAULT)},
    )
    repeat: Literal["idempotent", "all"] = Field(
        "idempotent",
        description="What is sent again though the server may have seen it: idempotent methods "
        "and inference, or every request.",
    )
    backoff: BackoffKeys = Field(
        default_factory=BackoffKeys,
        description="The wait before each retry.",
        json_schema_extra={"default": {}},
    )
    budget: BudgetKeys = Field(
        default_factory=BudgetKeys,
        description="How many retries and hedges an upstream may get.",
        json_schema_extra={"default": {}},
    )
    max_retry_after: Duration = unit(
        "2s", "The longest Retry-After that is waited for; an answer with a longer one is final."
    )
    timeout: OptionalDuration = unit(
        "off", "Time from the request on after which no retry is begun."
    )
    first_event: PositiveDuration = unit(
        "10s",
        "How long an event stream's head waits for its first event, and may fail over; then it "
        "leaves without one.",
    )
    max_body: Size = unit("1MiB", "The largest request body that is kept to be sent again.")
    hedge: Hedge = Field(
        "off",
        description="Send a call that gives the same answer again a second time when it takes "
        "long, and take the first good answer.",
    )
    headers: bool = Field(
        True, description="Add `x-remora-attempts` to answers that took more than one."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.hedge != "off" and self.attempts == 1:
            raise ValueError("`hedge` needs `attempts` of 2 or more: a hedge is one")
        return self
