"""Keys of `circuit_breaker`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from proxy.units import OFF_SCHEMA, PositiveDuration, is_off, unit

from ..core.outcomes import Rules


def _none_for_off(value: Any, info: ValidationInfo) -> Any:
    return None if is_off(value, info) else value


Ratio = Annotated[
    Annotated[float, Field(gt=0, le=1)] | None,
    BeforeValidator(_none_for_off),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1}, OFF_SCHEMA]}
    ),
]
Count = Annotated[int, Field(ge=1)]
CountOrOff = Annotated[
    Count | None,
    BeforeValidator(_none_for_off),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, OFF_SCHEMA]}),
]
Status = Annotated[int, Field(ge=400, le=599)]


class CircuitBreakerConfig(BaseModel):
    """Keys of `circuit_breaker`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="Whether anything is judged or refused.")
    window: PositiveDuration = unit("10s", "How far back calls count for the two ratios.")
    min_calls: Count = Field(
        10, description="Calls that the window must hold before a ratio is looked at."
    )
    error_ratio: Ratio = Field(
        0.5, description="Share of failed calls that opens the circuit; `off`: none does."
    )
    slow_ratio: Ratio = Field(
        0.9, description="Share of slow calls that opens the circuit; `off`: none does."
    )
    slow_after: PositiveDuration = unit(
        "1s",
        "A call is slow whose answer has not begun by then: its head, or of a stream its body.",
    )
    consecutive: CountOrOff = Field(
        5, description="Calls that fail in a row and open the circuit; `off`: no number does."
    )
    open_for: PositiveDuration = unit(
        "5s", "How long nothing is sent; twice as long each time that a probe fails."
    )
    max_open_for: PositiveDuration = unit(
        "1m", "The longest that nothing is sent, also where the server asks for more."
    )
    probes: Count = Field(
        3, description="Calls that are then let through, and close the circuit when all succeed."
    )
    neutral: list[Status] = Field(
        default_factory=lambda: [429, 503],
        description="Statuses that are neither failure nor success: the server wants less.",
        json_schema_extra={"default": [429, 503]},
    )
    scope: Literal["endpoint", "route", "upstream"] = Field(
        "endpoint",
        description="What has a circuit of its own: each endpoint for each route, a route, or an "
        "upstream for all routes of the chain.",
    )
    fallback: str | None = Field(
        None, description="Upstream that is asked while the circuit is open; null: 503."
    )
    store: Literal["memory", "redis"] = Field(
        "memory", description="`redis`: replicas tell each other which circuits are open."
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.max_open_for < self.open_for:
            raise ValueError("`max_open_for` is less than `open_for`")
        return self

    @property
    def rules(self) -> Rules:
        return Rules(**{name: getattr(self, name) for name in Rules.__slots__})
