"""Whether a key may use the model that a request is for."""

from __future__ import annotations

import re

from proxy.apis.base import MAX_MODEL
from proxy.errors import ProxyError
from proxy.exchange import Request

from ..core.key import NotCanonical, canonical
from .keys import Holder

_SAFE = (b"GET", b"HEAD", b"OPTIONS")

# Frameworks take the method from these, where they stand.
_OVERRIDES = (b"x-http-method-override", b"x-method-override", b"x-http-method")

# Servers resolve these before they look at a path (RFC 3986 section 6.2.2), each in its own way.
_UNCERTAIN = re.compile(rb"//|/\.{1,2}(?:/|$)|%2[ef]|%5c|\\|%25|;", re.IGNORECASE)

_TWO_WAYS = "the body can be read in two ways; write it plainly"


class ModelNotAllowed(ProxyError):
    """The key is not for this model, or the request leaves in doubt which one it asks for."""

    status = 403
    code = "model_not_allowed"


async def may_use(request: Request, holder: Holder, max_body: int) -> None:
    """Raises ModelNotAllowed; BodyTooLarge over `max_body`.

    What only reads (RFC 9110 section 9.2.1) passes; anything else must name a model in a way that
    no two servers read differently.
    """
    assert holder.models is not None
    if _UNCERTAIN.search(request.path):
        raise ModelNotAllowed("this path can be read in two ways; write it plainly")
    if request.method in _SAFE and request.upgrade is None:
        if any(name.lower() in _OVERRIDES for name, _ in request.headers):
            raise ModelNotAllowed("the method can be read in two ways; send it in one")
        return
    await request.read(max_body)
    model = request.api.model(request)
    if not model:
        raise ModelNotAllowed("this key is for certain models: the request must name one")
    if not _in_the_path(request, model):
        assert isinstance(request.body, bytes)
        try:
            canonical(request.body)
        except NotCanonical:
            raise ModelNotAllowed(_TWO_WAYS) from None
        # To Go's JSON, which is Ollama's, `Model` is the same member, and the last one counts.
        if sum(name.lower() == "model" for name in request.json()) > 1:
            raise ModelNotAllowed(_TWO_WAYS)
    if len(model) >= MAX_MODEL or not holder.models.fullmatch(model):
        raise ModelNotAllowed(f"this key is not for the model `{model[:80]}`")


def _in_the_path(request: Request, model: str) -> bool:
    """Whether the body has no say in it."""
    bare = request.fork(b"")
    return request.api.model(bare) == model
