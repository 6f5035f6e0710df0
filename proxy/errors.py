"""What can go wrong, as types. `proxy.apis` renders them; nothing else writes an error answer.

`code` is stable: alerts and clients may match on it. `message` is for the person who reads it.
"""

from __future__ import annotations

from collections.abc import Sequence


class ProxyError(Exception):
    """A refusal or failure that becomes an answer.

    status: HTTP status of the answer. code: stable, snake_case. retry_after: seconds, or None.
    close: the client's connection cannot be used again (its framing is not to be trusted).
    headers: fields the answer carries besides, such as the www-authenticate of a 401.
    detail: what the log says besides, and no client is told; empty where the message says all.
    """

    status = 500
    code = "internal_error"
    close = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.retry_after = retry_after
        self.headers = headers
        if status is not None:
            self.status = status
        if code is not None:
            self.code = code


class InternalError(ProxyError):
    """A bug in remora or in a layer: logged with its traceback, told without it."""


class BadRequest(ProxyError):
    """The client's bytes are not the HTTP that a server may act on (RFC 9112)."""

    status = 400
    code = "bad_request"
    close = True


class RequestTimeout(ProxyError):
    """The client was too slow with its head or its body (RFC 9110 section 15.5.9)."""

    status = 408
    code = "request_timeout"
    close = True


class BodyTooLarge(ProxyError):
    """The body is over the route's bound (RFC 9110 section 15.5.14)."""

    status = 413
    code = "body_too_large"
    close = True


class NoRoute(ProxyError):
    """No route of the file matches."""

    status = 404
    code = "no_route"


class Unavailable(ProxyError):
    """Too much is waiting already; nothing was sent upstream."""

    status = 503
    code = "unavailable"


class UpstreamError(ProxyError):
    """The upstream failed in a way of its own. `sent`: it may have seen the request.

    The message names the upstream as the file does: an address is for `detail`.
    """

    status = 502
    code = "upstream_error"
    sent = True


class ConnectFailed(UpstreamError):
    """No connection could be made; the upstream has seen nothing."""

    code = "upstream_connect_failed"
    sent = False


class UpstreamClosed(UpstreamError):
    """The upstream closed or reset the connection before its answer was whole."""

    code = "upstream_closed"


class UpstreamProtocolError(UpstreamError):
    """The upstream sent something that is not HTTP/1.1, or a head over the bound."""

    code = "upstream_protocol_error"


class UpstreamTimeout(UpstreamError):
    """The upstream was too slow: to connect, to send its first byte, between bytes, or in all."""

    status = 504
    code = "upstream_timeout"


class ClientGone(Exception):
    """The client left. Never rendered: there is nobody to read it."""


class StoreDown(Exception):
    """A store gave no answer: it failed, was too slow, or is not asked for now. Never rendered."""
