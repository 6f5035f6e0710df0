"""A model server that computes nothing, with OpenAI's and TGI's routes.

It says words at a set pace and stops when its client leaves; GET /stats tells how often.
`python -m proxy.demo.standin --port 8000 --delay-ms 20`
"""

from __future__ import annotations

import argparse
import json
import sys

from aiohttp import web
from aiohttp.typedefs import Handler

from . import openai_routes, tgi_routes
from .child import ModelServer, free_port, get
from .engine import ClientLeft, Engine


class StandIn(ModelServer):
    """The stand-in as a child process. delay: seconds a token. port: a free one if 0."""

    def __init__(self, *, delay: float = 0.0, port: int = 0, within: float = 20.0) -> None:
        port = port or free_port()
        argv = [sys.executable, "-m", "proxy.demo.standin"]
        argv += ["--port", str(port), "--delay-ms", str(delay * 1000)]
        super().__init__("the stand-in", argv, port, ready="/health", within=within)

    def stats(self) -> dict[str, int]:
        """requests, cancelled, tokens and in_flight since its start."""
        stats: dict[str, int] = json.loads(get(self.port, "/stats")[1])
        return stats

    def busy(self) -> int:
        """How many generations are in flight."""
        return self.stats()["in_flight"]


def create_app(delay: float = 0.0) -> web.Application:
    """The stand-in as an application. delay: seconds a token."""
    engine = Engine(delay)

    async def health(_: web.Request) -> web.Response:
        return web.Response()

    async def stats(_: web.Request) -> web.Response:
        return web.json_response(engine.stats())

    app = web.Application(middlewares=[_let_go], client_max_size=64 * 1024 * 1024)
    app.add_routes([web.get("/health", health), web.get("/stats", stats)])
    app.add_routes(openai_routes.routes(engine))
    app.add_routes(tgi_routes.routes(engine))
    return app


@web.middleware
async def _let_go(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A client that left is no error: there is nobody to answer."""
    try:
        return await handler(request)
    except (ClientLeft, ConnectionResetError):
        return web.Response(status=499)


def main() -> None:
    """The command line of the child process."""
    parser = argparse.ArgumentParser(prog="python -m proxy.demo.standin", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay-ms", type=float, default=0.0, help="before each token")
    options = parser.parse_args()
    app = create_app(options.delay_ms / 1000)
    web.run_app(
        app, host="127.0.0.1", port=options.port, print=None, access_log=None,
        handler_cancellation=True, shutdown_timeout=0.5,
    )  # fmt: skip


if __name__ == "__main__":
    main()
