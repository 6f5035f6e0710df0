"""One entry of a chain as the file writes it, resolved to a class and its checked Config."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError, core_schema

from .. import registry
from ..units import in_file

MISTAKES_IN_LAYER = "mistakes_in_layer"
"""Type of the error that carries what is wrong inside of a layer's own keys."""


@dataclass(frozen=True, slots=True)
class Layer:
    """name: as the file writes it, an entry point or `module:Class`. cls: a Middleware class.
    config: an instance of `cls.Config`.
    """

    name: str
    cls: type[Any]
    config: BaseModel

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(_layer)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"title": "Layer"}  # proxy.file.schema puts the layers' own schemas in its place


def _layer(value: Any, info: ValidationInfo) -> Layer:
    if isinstance(value, Layer):
        return value
    name, config = _taken_apart(value)
    try:
        found = registry.find(name)
    except registry.UnknownLayer as error:
        raise ValueError(str(error)) from error
    try:
        return Layer(name, found, _configured(found.Config, config, info))
    except ValidationError as error:
        raise PydanticCustomError(
            MISTAKES_IN_LAYER,
            "mistakes in `{name}`: {told}",
            {
                "name": name,
                "told": "; ".join(one["msg"] for one in error.errors()),
                "mistakes": error.errors(include_url=False),
                "model": found.Config,
            },
        ) from None


def _taken_apart(value: Any) -> tuple[str, Any]:
    if isinstance(value, str):
        return value, {}
    if not isinstance(value, dict) or not value:
        raise ValueError("a layer is a name, or one name and its keys: `- name: {…}`")
    name = next(iter(value))
    if len(value) > 1:
        if value[name] is None:
            raise ValueError(f"a layer is one name: indent the keys of `{name}` below it")
        raise ValueError(f"a layer is one name: put a dash before `{list(value)[1]}`")
    config = value[name]
    return name, {} if config is None else config


def _configured(model: type[BaseModel], config: Any, info: ValidationInfo) -> BaseModel:
    if in_file(info):
        # JSON's rules: text is no number and true is no 1, but a path or an address is text.
        return model.model_validate_json(json.dumps(config), strict=True, context=info.context)
    return model.model_validate(config)
