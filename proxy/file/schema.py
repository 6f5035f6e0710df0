"""JSON Schema of the file as a person writes it, for editors: `remora schema`.

It takes what the loader takes where a schema can say so: `${NAME}` for any value that is not free
text, one listener or a list, a layer by its name or with its keys.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from .. import registry
from ..config import DEFAULT_LISTEN, Config, Listener

Schema = dict[str, Any]

_ANNOTATIONS = ("title", "description", "default", "examples")
_ENVIRONMENT = {"$ref": "#/$defs/FromEnvironment"}
_LAYER = {"$ref": "#/$defs/Layer"}


def schema() -> Schema:
    """JSON Schema 2020-12 of the file, with the keys of every layer that is installed."""
    result = _of(Config, "#/$defs/{model}")
    definitions: Schema = result.pop("$defs")
    definitions["Listener"] = _listener(definitions["Listener"])
    listener = {"$ref": "#/$defs/Listener"}
    result["properties"]["listen"] = {
        "description": Config.model_fields["listen"].description,
        "default": DEFAULT_LISTEN,
        "anyOf": [listener, {"type": "array", "items": listener, "minItems": 1}],
    }
    for holder in (result, definitions["Route"]):
        holder["properties"]["chain"] = _chain(holder["properties"]["chain"])
    definitions["Layer"] = _layer(definitions)
    definitions = {name: _open(one) for name, one in sorted(definitions.items())}
    definitions["FromEnvironment"] = {
        "type": "string",
        "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
        "description": "A value from the environment: `${NAME}` or `${NAME:-default}`.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_open(result),
        "title": "remora",
        "$defs": definitions,
    }


class _Generator(GenerateJsonSchema):
    """pydantic's, without a title that only repeats the key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _of(model: type[BaseModel], references: str) -> Schema:
    return model.model_json_schema(ref_template=references, schema_generator=_Generator)


def _listener(mapping: Schema) -> Schema:
    address = {**mapping["properties"]["address"]}
    return {"description": Listener.__doc__, "anyOf": [address, mapping]}


def _chain(chain: Schema) -> Schema:
    array = {"type": "array", "items": _LAYER}
    kept = {key: chain[key] for key in _ANNOTATIONS if key in chain}
    if "anyOf" in chain:  # a route's, which may be null
        return {"anyOf": [array, {"type": "null"}], **kept}
    return {**array, **kept}


def _layer(definitions: Schema) -> Schema:
    names = registry.names()
    with_keys: Schema = {}
    for name in names:
        with_keys[name] = {"anyOf": [_keys(name, definitions), {"type": "null"}]}
    return {
        "description": "A layer by its name, or one name and its keys.",
        "examples": [*names[:1], "package.module:Class"],
        "anyOf": [
            *([{"type": "string", "enum": names}] if names else []),
            {"type": "string", "pattern": registry.CLASS_PATTERN},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "properties": with_keys,
                "patternProperties": {registry.CLASS_PATTERN: {"type": ["object", "null"]}},
                "additionalProperties": False,
            },
        ],
    }


def _keys(name: str, definitions: Schema) -> Schema:
    """A reference to the schema of the layer's own keys, which goes into `definitions`."""
    try:
        found = registry.find(name)
    except registry.UnknownLayer as error:
        return {"type": "object", "description": str(error)}
    own = _of(found.Config, f"#/$defs/layer.{name}.{{model}}")
    for inner, one in own.pop("$defs", {}).items():
        definitions[f"layer.{name}.{inner}"] = one
    definitions[f"layer.{name}"] = own
    return {"$ref": f"#/$defs/layer.{name}"}


def _open(node: Any) -> Any:
    """The same schema, in which a reference to the environment may stand for a narrow value."""
    if not isinstance(node, dict):
        return node
    node = dict(node)
    for key in ("properties", "patternProperties"):
        if key in node:
            node[key] = {name: _open(one) for name, one in node[key].items()}
    for key in ("items", "additionalProperties"):
        if key in node:
            node[key] = _open(node[key])
    for key in ("anyOf", "oneOf"):
        if key in node:
            arms = [one if _narrow(one) else _open(one) for one in node[key]]
            node[key] = [*arms, _ENVIRONMENT] if any(map(_narrow, arms)) else arms
    if not _narrow(node):
        return node
    kept = {key: node.pop(key) for key in _ANNOTATIONS if key in node}
    return {"anyOf": [node, _ENVIRONMENT], **kept}


def _narrow(node: Any) -> bool:
    if not isinstance(node, dict):
        return False
    if "enum" in node or "const" in node or node.get("type") in ("integer", "number", "boolean"):
        return True
    return node.get("type") == "string" and bool(
        {"pattern", "format", "minLength", "maxLength"} & node.keys()
    )
