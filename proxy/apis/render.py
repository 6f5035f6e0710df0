"""The one place that makes an answer of an error."""

from __future__ import annotations

import math
from http import HTTPStatus

from ..errors import ProxyError
from ..exchange import ErrorForm, Headers, Response
from .base import code_of

_REASONS = {int(status): status.phrase.encode() for status in HTTPStatus}


def render(error: ProxyError, form: ErrorForm) -> Response:
    """The whole answer, as an API or another form tells it. Whoever sends it drops the body for
    HEAD.

    `x-remora-error` carries the code: an operator tells remora's answers from the server's by
    it. `retry-after` is in whole seconds, rounded up (RFC 9110 section 10.2.3).
    """
    content_type, body = form.error(error)
    headers: Headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
    ]
    if error.retry_after is not None and math.isfinite(error.retry_after):
        headers.append((b"retry-after", b"%d" % max(0, math.ceil(error.retry_after))))
    headers += error.headers
    headers.append((b"x-remora-error", code_of(error).encode()))
    return Response(error.status, headers, body, _REASONS.get(error.status, b""))
