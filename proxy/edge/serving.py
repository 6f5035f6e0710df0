"""One exchange, from its route to the last byte of its answer."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING

from ..apis import render
from ..errors import BodyTooLarge, ClientGone, InternalError, ProxyError
from ..exchange import Request, Response
from .pump import UNTIL_CLOSE, Pump, filter_whole, framing, whole

if TYPE_CHECKING:
    from .connection import ClientConnection

log = logging.getLogger("remora")


async def serve(client: ClientConnection, request: Request) -> None:
    """Whatever comes of it, the request's end is told, its route's numbers go up, and `client` may
    read the next one.
    """
    edge = client.edge
    stats = edge.unrouted
    outcome = request.outcome
    counted = False
    try:
        try:
            route = edge.router.find(request)
            stats = route.stats
            stats.in_flight += 1
            counted = True
            request.label = route.name
            request.route_api = route.api
            if route.max_body is not None:
                _bound_body(client, request, route.max_body)
            response = await route.handler(request)
            if response.filters and isinstance(response.body, bytes):
                filter_whole(request, response)
        except ProxyError as error:
            response = _error_answer(client, request, error)
        except ClientGone:
            outcome.cancelled = True
            return
        except Exception:
            log.exception("route %s failed", request.label)
            bug = InternalError("remora failed; its log says why")
            response = _error_answer(client, request, bug)
        await _answer(client, request, response)
    except asyncio.CancelledError:
        outcome.cancelled = True
        client.abort()  # where it was stopped by us, not left by the client
    except Exception:  # a layer's answer that cannot be written, a str among its headers
        log.exception("route %s failed amid its answer", request.label)
        outcome.error = InternalError("the answer could not be written")
        client.abort()
    finally:
        if not counted:
            stats.in_flight += 1
        now = monotonic()
        outcome.last_byte = now if outcome.first_byte is not None else None
        request.finish()
        stats.ended(outcome, request.received_at, now)
        client.served()


def _bound_body(client: ClientConnection, request: Request, max_body: int) -> None:
    reader = client.reader
    reader.max_body = max_body
    declared = request.header(b"content-length")
    if (reader.in_chunks if declared is None else int(declared)) > max_body:
        raise BodyTooLarge(f"the body is over {max_body} bytes")


def _error_answer(client: ClientConnection, request: Request, error: ProxyError) -> Response:
    request.outcome.error = error
    if error.close:
        client.keep = False
    return render(error, request.errors or request.api)


async def _answer(client: ClientConnection, request: Request, response: Response) -> None:
    outcome = request.outcome
    outcome.status = response.status
    outcome.first_byte = monotonic()
    if response.tunnel is not None:
        await client.run_tunnel(response.tunnel, response)
        return
    if not client.reader.done:
        # What is still to come of the request may never come: the next head is not in sight.
        client.keep = client.keep and not isinstance(response.body, bytes)
    close = not client.keep or client.edge.draining or framing(request, response) == UNTIL_CLOSE
    client.keep = not close
    if isinstance(response.body, bytes):
        client.write(whole(request, response, close))
    else:
        client.pump = pump = Pump(client, request, response, response.body)
        try:
            pump.start(close)
            if client.sending is not None and client.sending.blocked:
                response.body.pause()
            await pump.finished
        except BaseException:
            response.body.abort()
            raise
        finally:
            client.pump = None
            outcome.bytes_sent = pump.sent
    if client.sending is not None:
        # A client that pipelines and never reads would have its answers pile up here.
        await client.sending.wait()
