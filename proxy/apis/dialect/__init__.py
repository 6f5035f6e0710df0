"""One API's calls in the words of another: for a server that speaks only the one, and clients that
speak only the other. Pure: no I/O, no waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .spoken import Call, EventTurner, Translation, Untranslatable
from .to_openai import PATHS as OPENAI_PATHS
from .to_openai import for_openai
from .to_tgi import MODELS, for_tgi
from .to_tgi import PATHS as TGI_PATHS

if TYPE_CHECKING:
    from ...exchange import Request
    from .template import Template

__all__ = ["Call", "EventTurner", "Translation", "Untranslatable", "concerns", "translate"]


def concerns(method: bytes, path: bytes, server: str) -> bool:
    """Whether `translate` could do anything with it; cheap, for requests that are not read yet."""
    if server == "tgi":
        return path in TGI_PATHS if method == b"POST" else path == MODELS and method == b"GET"
    return method == b"POST" and path in OPENAI_PATHS


def translate(
    request: Request, server: str, template: Template, model: str | None
) -> Translation | None:
    """How to ask `server` (`tgi` or `openai`) what `request` asks, its body being in memory; None
    where it is no call of the other API. Raises Untranslatable.

    template: makes a prompt of chat messages. model: what to ask an OpenAI server for where the
    client names none.
    """
    return for_tgi(request, template) if server == "tgi" else for_openai(request, model)
