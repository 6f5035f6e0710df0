"""What remora knows of each server API, one file each. Pure: no I/O, no asyncio."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from .base import Api
from .generic import Generic
from .kserve import KServe
from .openai import OpenAI
from .plain import Plain
from .render import render
from .tei import TEI
from .tgi import TGI

if TYPE_CHECKING:
    from ..exchange import Request

__all__ = ["Api", "Generic", "by_name", "recognise", "render"]

MAX_PATHS = 256
"""Pairs of method and path of which it is remembered whose they are; clients choose them."""

_PLAIN = Plain()

# Where several own a path, the first whose body it is has it. TEI is last: it takes /rerank and
# /tokenize whatever their body, unless vLLM's API knows it for its own.
_KNOWN: tuple[Api, ...] = (OpenAI(), KServe(), TGI(), TEI())

by_name: Mapping[str, Api] = {api.name: api for api in (*_KNOWN, _PLAIN)}
"""Every API by its name in the file."""


def recognise(request: Request) -> Api:
    """The API that owns the request, by method and path, and by body where those are shared.

    A shared path whose body is no API's is `plain`. Where the body came in pieces and was not
    read, `/` is TGI's: TEI's clients read its errors, too.
    """
    owners = _owners(request.method, request.path)
    if len(owners) == 1:
        return owners[0]
    for api in owners:
        if api.owns_body(request):
            return api
    return _PLAIN


@lru_cache(MAX_PATHS)  # to ask each costs every request 3 us: bench `aggregate`
def _owners(method: bytes, path: bytes) -> tuple[Api, ...]:
    return tuple(api for api in _KNOWN if api.owns(method, path))
