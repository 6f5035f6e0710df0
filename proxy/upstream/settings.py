"""The schema of what chooses among the endpoints of an upstream, and of what watches them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    model_validator,
)
from pydantic_core import core_schema

from ..address import Endpoint
from ..file.model import Count, Model
from ..units import OFF_SCHEMA, FieldName, PositiveDuration, PositiveSize, in_file, is_off, unit

Policy = Literal["least_outstanding", "round_robin", "power_of_two", "session", "prefix"]
_WITH_KEYS = ("session", "prefix")


def _target(path: str) -> str:
    if not re.fullmatch(r"/[\x21-\x7e]*", path):
        raise ValueError("a path is expected; write /health")
    return path


class Session(Model):
    """Requests of one session go to one endpoint."""

    header: FieldName = Field(
        "x-session-id", description="Request header whose value names the session."
    )


class Prefix(Model):
    """Prompts that begin alike go to one endpoint, as far as its load allows."""

    chars: Annotated[int, Field(ge=16)] = Field(
        1024,
        description="Characters at the start of a prompt that tell it apart; again as many where "
        "many prompts share them.",
    )
    load: Annotated[float, Field(ge=1)] = Field(
        2.0, description="Requests in flight that an endpoint may have, as a multiple of the mean."
    )
    max_body: PositiveSize = unit("1MiB", "Largest request body that is read for its prompt.")


class Balance(Model):
    """How an endpoint is chosen. In a file: a policy's name, or `session` or `prefix` with keys."""

    policy: Policy = Field("least_outstanding", description="How an endpoint is chosen.")
    session: Session | None = Field(None, description="Keys of the policy `session`.")
    prefix: Prefix | None = Field(None, description="Keys of the policy `prefix`.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"policy": value}
        if not isinstance(value, dict):
            raise ValueError(
                "a policy is expected: its name, or `session` or `prefix` with its keys"
            )
        value = {key: {} if one is None and key in _WITH_KEYS else one
                 for key, one in value.items()}  # fmt: skip
        named = [key for key in _WITH_KEYS if key in value]
        if len(named) > 1:
            raise ValueError("`session` and `prefix` are two policies: choose one")
        policy = value.setdefault("policy", named[0] if named else "least_outstanding")
        if named and policy != named[0]:
            raise ValueError(f"`{named[0]}` and `policy` are two policies: choose one")
        if policy in _WITH_KEYS:
            value.setdefault(policy, {})
        return {"session": None, "prefix": None, **value} if policy not in _WITH_KEYS else value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        # Written in the file or not: all of it is told.
        self.__pydantic_fields_set__.update(type(self).model_fields)
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        found = handler(schema)
        definition = handler.resolve_ref_schema(found)
        keys = {**definition, "minProperties": 1, "maxProperties": 1}
        told = keys.pop("description")
        names = keys["properties"]["policy"]["enum"]
        definition.clear()
        definition |= {"description": told, "anyOf": [{"type": "string", "enum": names}, keys]}
        return found


class Health(Model):
    """Checks of each endpoint, whether requests come or not: a GET that must give 2xx."""

    path: Annotated[str, AfterValidator(_target)] = Field(
        "/health", description="Path, and query, that is asked for."
    )
    interval: PositiveDuration = unit("5s", "Time between two checks of an endpoint.")
    timeout: PositiveDuration = unit("2s", "Time for one check, connecting included.")
    unhealthy_after: Count = Field(3, description="Checks that fail in a row: no more requests.")
    healthy_after: Count = Field(2, description="Checks that succeed in a row: requests again.")


class Eject(Model):
    """Endpoints whose requests fail get none for a while; at most half of them at once."""

    consecutive: Count = Field(5, description="Requests in a row that failed or got a 5xx.")
    time: PositiveDuration = unit("10s", "How long it gets none; each further time twice as long.")
    max_time: PositiveDuration = unit("5m", "How long at most.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.time > self.max_time:
            raise ValueError("`time` is over `max_time`, which would cut it")
        return self


class Resolve(Model):
    """Endpoints whose host is a name: each address that it resolves to is an endpoint."""

    interval: PositiveDuration = unit("5s", "Time between two look-ups of a name.")
    timeout: PositiveDuration = unit("2s", "Time for one look-up.")
    max_members: Count = Field(64, description="Addresses of one name that are used.")


def _off_is_none(value: Any, info: ValidationInfo) -> Any:
    if value is None and in_file(info):
        raise ValueError("a mapping is expected, or `off`")
    return None if is_off(value, info) else value


def _different(endpoints: list[str]) -> list[str]:
    """What goes by one name is one endpoint: its connections, its state, its place on the ring."""
    for index, one in enumerate(endpoints):
        if one in endpoints[:index]:
            raise ValueError(f"`{one}` is written twice")
    return endpoints


Endpoints = Annotated[list[Endpoint], Field(min_length=1), AfterValidator(_different)]


class _OrOff:
    """The schema of a part that may be `off`: what pydantic takes for null."""

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        part, _ = handler(schema)["anyOf"]
        return {"anyOf": [part, OFF_SCHEMA]}


OptionalHealth = Annotated[Health | None, BeforeValidator(_off_is_none), _OrOff()]
OptionalEject = Annotated[Eject | None, BeforeValidator(_off_is_none), _OrOff()]
OptionalResolve = Annotated[Resolve | None, BeforeValidator(_off_is_none), _OrOff()]
