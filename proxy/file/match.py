"""What a route's match is made of: the values of its keys."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

_PATH = r"^(?:/[^*?#\s]*\*?|\*)$"
_METHOD = r"^[A-Z0-9!#$%&'*+.^_`|~-]+$"
_HOST = r"^(?:\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]]+)$"


def _path(value: str) -> str:
    if "?" in value or "#" in value:
        raise ValueError("a query is not matched; end the path before it")
    if "*" in value[:-1]:
        raise ValueError("a `*` may stand only at the end of a path")
    if re.fullmatch(_PATH, value) is None:
        raise ValueError("a path starts with `/` and holds no space; write /v1/* or /metrics")
    return value


def _method(value: str) -> str:
    if re.fullmatch(_METHOD, value) is None:
        capitals = value.upper()
        if re.fullmatch(_METHOD, capitals):
            raise ValueError(f"methods are written in capitals: {capitals}")
        raise ValueError("a method is a word in capitals, such as POST")
    return value


def _host(value: str) -> str:
    if re.fullmatch(_HOST, value) is None:
        raise ValueError("a host is a name or an address without scheme, port and path")
    return value.lower()


PathPattern = Annotated[
    str,
    AfterValidator(_path),
    WithJsonSchema({"type": "string", "pattern": _PATH, "examples": ["/v1/*", "/metrics"]}),
]
"""A path, or the beginning of one before a final `*`."""

Method = Annotated[
    str,
    AfterValidator(_method),
    WithJsonSchema({"type": "string", "pattern": _METHOD, "examples": ["POST"]}),
]
"""A method (RFC 9110 section 9.1): case matters, and the known ones are capitals."""

Host = Annotated[
    str,
    AfterValidator(_host),
    WithJsonSchema({"type": "string", "pattern": _HOST, "examples": ["models.example.org"]}),
]
"""A host in lower case."""
